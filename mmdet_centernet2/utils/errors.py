"""Errors whose message is meant for the user."""


class UserError(Exception):
    """What the tools print as one line, without a trace, and end with.

    Their exit status is 2 then.
    """


class PreflightError(UserError):
    """A run cannot work as asked."""


class CheckpointError(UserError):
    """A checkpoint cannot be read, converted or written."""
