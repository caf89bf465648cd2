"""How a command fails: with one line on stderr; the traceback of what nobody foresaw is kept in a file."""

import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autocaption.errors import one_line
from autocaption.files import write_text
from autocaption.mistakes import LONGEST, mistake

DEBUG = "AUTOCAPTION_DEBUG"
TRACEBACK = "traceback.txt"


def one_line_errors(call: Callable[[], Any], folder: Path | None = None) -> Any:
    """Call it; an error ends the process with one line on stderr and exit code 1, Ctrl-C with 130.

    The line of an error that nobody foresaw names the file that keeps its traceback. AUTOCAPTION_DEBUG=1
    raises every error instead. A character that the output's encoding lacks is printed as its number.

    Args:
        call: what the command does.
        folder: where to keep a traceback; None for a temporary file.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return call()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        sys.exit(f"error: {mistake(error) or unforeseen(error, folder)}")


def unforeseen(error: Exception, folder: Path | None) -> str:
    """The line for an error that is not the user's; keeps its traceback, and names the file."""
    return f"{name_of(error)}; {_kept(error, folder)}"


def name_of(error: Exception) -> str:
    """An error's type and message in one line, cut where it is long."""
    line = f"{type(error).__name__}: {one_line(error)}"
    return f"{line[:LONGEST]}..." if len(line) > LONGEST else line


def _kept(error: Exception, folder: Path | None) -> str:
    text = "".join(traceback.format_exception(error))
    try:
        if folder is not None:
            name = str(folder / TRACEBACK)
            write_text(folder / TRACEBACK, text)
        else:  # where others may look: only the user can read it
            handle, name = tempfile.mkstemp(prefix="autocaption_", suffix=f"_{TRACEBACK}")
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
    except OSError:
        return f"{DEBUG}=1 shows the traceback"
    return f"the traceback is in {name}"
