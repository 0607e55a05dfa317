"""What goes wrong with a checkpoint, said in one place."""


class CheckpointError(Exception):
    """A checkpoint cannot be read, converted or written.

    The message is meant for the user: what is wrong, where, and what to do.
    """
