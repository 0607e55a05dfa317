"""Errors whose message is meant for the user."""


class PreflightError(Exception):
    """A run cannot work as asked; the message is meant for the user."""
