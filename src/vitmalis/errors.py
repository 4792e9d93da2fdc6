"""The one exception that users are meant to see."""


class UserError(Exception):
    """Something a user can mend: the message names the thing, the value and the way out, in one line.

    Jobs print it without a traceback and exit with status 2; everything else is a bug and keeps its traceback.
    """
