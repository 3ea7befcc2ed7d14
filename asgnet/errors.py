"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """Bad input. The message is one line: what was wrong (naming the file, class or parameter), what was
    expected, and what to do. The command line prints it and exits with status 2, without a traceback."""
