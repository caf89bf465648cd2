class UserError(Exception):
    """An error the user can fix. One line: what, where, what to do.

    The commands print it without a traceback and exit with code 1 (cli.py).
    """
