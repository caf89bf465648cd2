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
