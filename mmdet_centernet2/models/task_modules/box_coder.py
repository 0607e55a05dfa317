"""Box coder of the second stage."""
import math

from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.registry import TASK_UTILS


@TASK_UTILS.register_module()
class OneSidedDeltaXYWHBBoxCoder(DeltaXYWHBBoxCoder):
    """``DeltaXYWHBBoxCoder`` that limits growth but not shrinkage.

    The original clamps ``dw`` and ``dh`` from above only. mmdet does that
    too when a limit on the centre's shift is set: an infinite one here.

    Args:
        *args: See mmdet's ``DeltaXYWHBBoxCoder``.
        **kwargs: See there; ``add_ctr_clamp`` and ``ctr_clamp`` are taken.

    Source: detectron2's ``Box2BoxTransform``; docs/differences.md, 30.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(
            *args, add_ctr_clamp=True, ctr_clamp=math.inf, **kwargs)
