"""Errors whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """A mistake the user can mend; the command line prints it without a traceback.

    The message is one sentence that names the argument, what was expected, what came
    instead and what to do about it.
    """
