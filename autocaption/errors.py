"""Errors that the user can fix, and the message of any error."""


class UserError(Exception):
    """An error the user can fix. One line: what, where, what to do.

    The commands print it without a traceback and exit with code 1 (exits.py).
    """


class WriteError(UserError, OSError):
    """A file that could not be written: a full disk, a missing permission, a folder in its place.

    Args:
        error: why.
        path: what was to be written.
    """

    def __init__(self, error: OSError, path: object) -> None:
        super().__init__(error.errno, error.strerror or str(error), str(path))

    def __str__(self) -> str:
        return f"cannot write {self.filename}: {self.strerror}; make room there or check the path"


class LockError(UserError, OSError):
    """A file that could not be locked, as on a file system without locks.

    Args:
        error: why.
        path: the file.
    """

    def __init__(self, error: OSError, path: object) -> None:
        super().__init__(error.errno, error.strerror or str(error), str(path))

    def __str__(self) -> str:
        return f"cannot lock {self.filename}: {self.strerror}; take a folder of a file system that has locks"


def one_line(error: BaseException) -> str:
    """An error's message in one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the error's type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
