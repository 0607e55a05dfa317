"""What goes wrong with a checkpoint, said in one place."""

from mmdet_centernet2.utils.errors import UserError


class CheckpointError(UserError):
    """A checkpoint cannot be read, converted or written.

    The message is meant for the user: what is wrong, where, and what to do.
    """
