class UserError(Exception):
    """A mistake that its user can mend: one line that says what, where, and what to do.

    The commands print it without a traceback and exit with code 1 (cli.py).
    """
