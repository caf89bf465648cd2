"""How a command fails: with one line on stderr; the traceback of what nobody foresaw is kept in a file."""

import errno
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from autocaption.errors import UserError
from autocaption.files import write_text

DEBUG = "AUTOCAPTION_DEBUG"
KEPT, TRACEBACK = "the traceback is in ", "traceback.txt"
NO_ROOM = errno.ENOSPC, errno.EDQUOT
NO_RIGHT_OR_ROOM = errno.EACCES, errno.EPERM, errno.EROFS, *NO_ROOM
LONGEST = 400  # characters of an unforeseen error's message; the file has all of it


def one_line_errors(
    call: Callable[[], Any],
    explain: Callable[[Exception], str | None] = lambda error: None,
    folder: Path | None = None,
) -> Any:
    """Call it; an error ends the process with one line on stderr and exit code 1, Ctrl-C with 130.

    The line of an error that nobody foresaw names the file that keeps its traceback. AUTOCAPTION_DEBUG=1
    raises every error instead. A character that the output's encoding lacks is printed as its number.

    Args:
        call: what the command does.
        explain: the line for further errors that are the user's; None for any other.
        folder: where to keep a traceback that no run has kept; None for a temporary file.
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
        sys.exit(f"error: {mistake(error, explain) or _unforeseen(error, folder)}")


def keep_traceback(error: Exception, file: Path) -> None:
    """Write the traceback of an error that nobody foresaw, and note in the error where it is.

    Raises:
        OSError: the file can't be written.
    """
    write_text(file, "".join(traceback.format_exception(error)))
    error.add_note(f"{KEPT}{file}")


def one_line(error: BaseException) -> str:
    """An error's message in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line)


def mistake(error: Exception, explain: Callable[[Exception], str | None]) -> str | None:
    """The line for what a user can mend; None for any other error.

    Args:
        error: what ended the command.
        explain: the line for further errors that are the user's; None for any other.
    """
    cause: BaseException | None = error
    while cause is not None:  # Hydra wraps exceptions of constructors
        if isinstance(cause, UserError):
            # A DataLoader's worker passes it on as the last line of a traceback.
            return str(cause).rstrip().splitlines()[-1].removeprefix("autocaption.errors.UserError: ")
        if _is_out_of_memory(cause):
            line = one_line(cause)[:LONGEST] or "no memory is left"
            return f"out of memory: {line}; lower data.batch_size, search.beam_size or a size of the model"
        cause = cause.__cause__ or cause.__context__
    if (refusal := _refusal(error)) is not None:
        return f"{refusal.filename}: {refusal.strerror}; check the path, its permissions and the room there"
    if isinstance(error, OSError) and error.errno in NO_ROOM:  # of an open file, whose name it doesn't say
        return f"cannot write: {error.strerror}; make room where the output goes"
    return explain(error)


def _refusal(error: BaseException) -> OSError | None:
    """What the system refused: the error itself, or, if no program can help it, what it was raised from."""
    if isinstance(error, OSError) and error.filename is not None:
        return error
    cause = error.__cause__
    while cause is not None:  # as logging wraps a log file that can't be opened
        if isinstance(cause, OSError) and cause.filename is not None and cause.errno in NO_RIGHT_OR_ROOM:
            return cause
        cause = cause.__cause__
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, on a GPU
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch's, on a CPU


def _unforeseen(error: Exception, folder: Path | None) -> str:
    line = f"{type(error).__name__}: {one_line(error)}"
    if len(line) > LONGEST:
        line = line[:LONGEST] + "..."
    kept = [note for note in getattr(error, "__notes__", []) if note.startswith(KEPT)]
    return f"{line}; {kept[0] if kept else _kept(error, folder)}"


def _kept(error: Exception, folder: Path | None) -> str:
    try:
        file = folder and folder / TRACEBACK
        if file is None:
            handle, name = tempfile.mkstemp(prefix="autocaption_", suffix=f"_{TRACEBACK}")
            os.close(handle)
            file = Path(name)
        keep_traceback(error, file)
    except OSError:
        return f"{DEBUG}=1 shows the traceback"
    return f"{KEPT}{file}"
