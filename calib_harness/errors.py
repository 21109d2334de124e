"""Errors whose message is meant for the person who made the mistake."""


class UserError(Exception):
    """A mistake the user can mend; the command line prints it without a traceback.

    The message is one sentence that names the argument, what was expected, what came
    instead and what to do about it.
    """


class ArgumentError(UserError, ValueError):
    """An option with a value it cannot take.

    The message starts with the argument's name as Python has it; the command line puts the
    flag there instead.
    """
