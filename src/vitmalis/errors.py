"""The exception for mistakes that a user can correct."""


class UserError(Exception):
    """A mistake that the user can correct; the message names the thing, the value and the way out, in one line.

    Jobs print it without a traceback and exit with status 2. Any other exception is a bug and keeps its traceback.
    """
