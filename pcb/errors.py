"""The exception for users: one line with the thing, its place and the way out."""


class UserError(ValueError):
    """A wrong setting, a missing or damaged file: anything that a user can put right.

    The command line prints the message on one line behind ``pcb:`` and exits with status 1; any
    other exception is a defect of this package and keeps its traceback.
    """
