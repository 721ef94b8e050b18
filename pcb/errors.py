"""The exception that a user is meant to read: one line with thing, place and way out."""


class UserError(ValueError):
    """A wrong setting, a missing or damaged file: anything that a user can put right.

    The command line prints the message on one line behind ``pcb:`` and exits with status 1; any
    other exception is a defect of this package and keeps its traceback.
    """
