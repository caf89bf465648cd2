"""The line that tells a user of a mistake, whoever found it: this package, Hydra, OmegaConf or Lightning."""

import errno
import json
import re
import shlex
import sys

from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from autocaption.errors import UserError, one_line
from autocaption.known_keys import nearest

LONGEST = 400  # characters of a message that isn't ours
NO_ROOM = errno.ENOSPC, errno.EDQUOT
NO_RIGHT_OR_ROOM = errno.EACCES, errno.EPERM, errno.EROFS, *NO_ROOM
# By these, and Lightning's own, a constructor refuses values; by any other it has a bug.
REFUSALS = TypeError, ValueError, LookupError, AssertionError, ImportError
FROM_CHECKPOINTS = "resume", "checkpoint", "runs"  # keys; checkpoints may have the values that are missing
CHECK = "check the override against `--cfg job`"


def from_checkpoint() -> str | None:
    """The key of the command line that names a checkpoint, if one does."""
    return next((key for word in sys.argv[1:] if (key := word.partition("=")[0]) in FROM_CHECKPOINTS), None)


def mistake(error: Exception) -> str | None:
    """The line for what a user can mend; None for any other error.

    Args:
        error: what ended the command.
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
    return _of_a_library(error)


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


def _of_a_library(error: Exception) -> str | None:
    """The line for a mistake that Hydra, OmegaConf or Lightning found; None for any other error."""
    if isinstance(error, InstantiationException):
        return _not_instantiated(error)
    if isinstance(error, HydraException):
        return f"{of_hydra(error)}; `--help` lists groups and choices, `--cfg job` every value"
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be"):  # Hydra's
        nulls = [word for word in sys.argv[1:] if word.endswith("=null") and "." not in word]
        return (
            f"{', '.join(nulls) or 'null'}: a group takes the name of a choice; leave it out, or take none "
            "where --help lists that (logger=none)"
        )
    if isinstance(error, ValueError) and str(error).startswith("Only one of --run, --multirun"):  # Hydra's
        return "-m, --cfg and --help exclude each other; leave -m out to see the configuration of one job"
    if isinstance(error, ConfigAttributeError | ConfigKeyError):
        return f"the configuration has no {error.full_key}, which is needed; do not delete it"
    if isinstance(error, OmegaConfBaseException):
        return _without_type(error)
    if _is_lightnings(error):  # for trainer=...
        return one_line(error)
    if str(error).startswith(("Early stopping conditioned on metric", "Instantiation: ")):  # Lightning, Hydra
        return one_line(error)
    return None


def of_hydra(error: HydraException) -> str:
    """Its line, with the key that was meant; where a checkpoint counts, it may have keys that Hydra lacks."""
    line = one_line(error)
    if isinstance(error, OverrideParseException) and not line.startswith("Error parsing override"):
        return _unread(error.override)
    if unknown := re.match(r"Could not override '([\w.]+)'", line):
        line += nearest(unknown[1])
    if not from_checkpoint():
        return line
    advice = "If only the checkpoint or one of the searches has it, write ++"
    return line.replace("To append to your config use +", advice)


def _unread(word: str) -> str:
    """The line for a word that Hydra's grammar doesn't have, such as a path with an umlaut or a bracket."""
    key, equals, value = word.partition("=")
    if not (key and equals):
        return f"'{word}' is not KEY=VALUE"
    if "/" in key and "." in key and "@" not in key:  # half a group's name, half a value's
        return f"{word}: a value's key has dots alone: {key.replace('/', '.')}={value}"
    if value.startswith(("[", "{")):  # quoted as a whole it would be a text
        return (
            f"{word}: Hydra can't read the value; check its brackets, and quote the texts within them, as in "
            """'KEY=["ü"]'; names before a colon are plain words"""
        )
    quoted = shlex.quote(f"{key}={json.dumps(value, ensure_ascii=False)}")
    return f"{word}: Hydra can't read the value; check its brackets, or quote text for it, too: {quoted}"


def _not_instantiated(error: InstantiationException) -> str | None:
    """Why there is no object of a node: Hydra's own line says it inside out. None for a bug in the code."""
    cause, key = error.__cause__, str(error).rpartition("full_key: ")[2].strip()
    if cause is None:
        return f"{_without_type(error)}; {CHECK}"
    if str(error).startswith("Error locating target"):
        if not isinstance(cause.__cause__, ImportError | AttributeError | None):
            return None  # it was found, and fails as it is imported
        package = getattr(cause.__cause__, "name", None)
        if package and "." not in package and f"'{package}." in str(error):
            where = "check the name, install it, or name the folder that it lies in by PYTHONPATH=FOLDER"
            return f"{key}._target_: there is no package '{package}'; {where}"
        return f"{key}._target_: {one_line(cause)}; {CHECK}"
    if not isinstance(cause, REFUSALS) and not _is_lightnings(cause):
        return None
    if not str(error).startswith("Error in call to target"):
        return f"{_without_type(error)}; {CHECK}"
    target = str(error).split("'")[1].rpartition(".")[2]
    said = one_line(cause) or type(cause).__name__
    if "full_key: " not in str(error):
        key = target.lower()
    if unknown := re.search(r"unexpected keyword argument '(\w+)'", said):
        place = f"{key}.{unknown[1]}"
        return f"{place}: {target} has no such argument; leave it out, or take it out with ~{place}; {CHECK}"
    return f"{_given(key, said)}: {target} refuses its values: {said}; {CHECK}"


def _given(part: str, said: str) -> str:
    """The keys of a part on the command line: those that the refusal speaks of, else all; else the part."""
    words = (word.lstrip("+~").partition("=")[0] for word in sys.argv[1:])
    keys = list(dict.fromkeys(word for word in words if word.startswith(f"{part}.")))
    spoken = set(re.findall(r"\w+", said.lower()))
    return ", ".join([key for key in keys if key.rpartition(".")[2] in spoken] or keys) or part


def _is_lightnings(error: BaseException) -> bool:
    return type(error).__name__ == "MisconfigurationException"


def _without_type(error: BaseException) -> str:
    return one_line(error).partition(" object_type=")[0]
