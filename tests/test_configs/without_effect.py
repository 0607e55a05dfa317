"""Settings of the original that say nothing about a model, and why.

Which they are is decided from the *original's* own switches, so that nothing
in a config of ours can make a comparison go away.
"""

from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any, NamedTuple

Settings = dict[str, Any]


class Rule(NamedTuple):
    """Keys that are not compared.

    Attributes:
        reason: Why.
        keys: Patterns of the original's keys, between spaces.
        applies: Whether it is so, given the original's settings.
    """

    reason: str
    keys: str
    applies: Callable[[Settings], bool] = lambda original: True


def _one_stage(s: Settings) -> bool:
    return s['MODEL.META_ARCHITECTURE'] == 'CenterNetDetector'


def _builder(*words: str) -> Callable[[Settings], bool]:
    return lambda s: not any(w in s['MODEL.BACKBONE.NAME'] for w in words)


def _crops(s: Settings) -> bool:
    return s['INPUT.CUSTOM_AUG'] == 'EfficientDetResizeCrop'


def _square_test(s: Settings) -> bool:
    return s['INPUT.TEST_INPUT_TYPE'] == 'square'


RULES = [
    Rule(
        'off in every model of the original; there is no such code here',
        """MODEL.CENTERNET.AS_PROPOSAL MODEL.CENTERNET.CENTER_NMS MODEL.CENTERNET.NO_REDUCE
        MODEL.ROI_BOX_HEAD.USE_EQL_LOSS MODEL.ROI_BOX_HEAD.EQL_FREQ_CAT
        MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES SOLVER.TRAIN_ITER MODEL.BIFPN.SEPARABLE_CONV
        MODEL.CENTERNET.NUM_SHARE_CONVS""",
    ),
    Rule(
        'not a choice in the code that is here; the parity tests cover it',
        """MODEL.CENTERNET.NOT_NORM_REG MODEL.ROI_HEADS.IOU_LABELS MODEL.FPN.FUSE_TYPE
        MODEL.RESNETS.STEM_OUT_CHANNELS MODEL.RESNETS.RES2_OUT_CHANNELS
        DATALOADER.REPEAT_SQRT""",
    ),
    Rule(
        'read by no builder, head or scheduler that a model uses',
        """MODEL.DLA.DLAUP_* MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT
        MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES
        MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER SOLVER.NUM_DECAYS
        SOLVER.RESCALE_INTERVAL""",
    ),
    Rule("how often to save is the user's business", 'SOLVER.CHECKPOINT_PERIOD'),
    Rule(
        'cropping by detectron2 is off',
        'INPUT.CROP.SIZE INPUT.CROP.TYPE',
        lambda s: not s['INPUT.CROP.ENABLED'],
    ),
    Rule(
        'gradients are clipped by value, not by norm',
        'SOLVER.CLIP_GRADIENTS.NORM_TYPE',
        lambda s: s['SOLVER.CLIP_GRADIENTS.CLIP_TYPE'] == 'value',
    ),
    Rule(
        'the box head has no convolutions',
        'MODEL.ROI_BOX_HEAD.CONV_DIM',
        lambda s: s['MODEL.ROI_BOX_HEAD.NUM_CONV'] == 0,
    ),
    Rule(
        'a cosine has no steps',
        'SOLVER.STEPS SOLVER.GAMMA',
        lambda s: s['SOLVER.LR_SCHEDULER_NAME'] == 'WarmupCosineLR',
    ),
    Rule(
        'steps have no end value',
        'SOLVER.BASE_LR_END',
        lambda s: s['SOLVER.LR_SCHEDULER_NAME'] == 'WarmupMultiStepLR',
    ),
    # -----images-----
    Rule(
        'training images are not cropped',
        'INPUT.TRAIN_SIZE INPUT.SCALE_RANGE',
        lambda s: not _crops(s),
    ),
    Rule(
        'training images are cropped instead',
        'INPUT.MIN_SIZE_TRAIN INPUT.MIN_SIZE_TRAIN_SAMPLING INPUT.MAX_SIZE_TRAIN',
        _crops,
    ),
    Rule('test images keep to the shorter edge', 'INPUT.TEST_SIZE', lambda s: not _square_test(s)),
    Rule(
        'test images keep to the longer edge',
        'INPUT.MIN_SIZE_TEST INPUT.MAX_SIZE_TEST',
        _square_test,
    ),
    Rule(
        'without repeat-factor sampling',
        'DATALOADER.REPEAT_THRESHOLD',
        lambda s: s['DATALOADER.SAMPLER_TRAIN'] != 'RepeatFactorTrainingSampler',
    ),
    # -----backbones and necks-----
    Rule(
        'there is no ResNet',
        'MODEL.RESNETS.* MODEL.BACKBONE.FREEZE_AT',
        _builder('resnet', 'res2net'),
    ),
    Rule(
        'there is no deformable convolution in the ResNet',
        'MODEL.RESNETS.DEFORM_MODULATED MODEL.RESNETS.DEFORM_NUM_GROUPS',
        lambda s: not any(s['MODEL.RESNETS.DEFORM_ON_PER_STAGE']),
    ),
    Rule('there is no DLA', 'MODEL.DLA.*', _builder('dla')),
    Rule(
        'DLA has no up-sampling neck',
        'MODEL.DLA.USE_DLA_UP MODEL.DLA.OUT_FEATURES MODEL.DLA.MS_OUTPUT',
        lambda s: s['MODEL.BACKBONE.NAME'] != 'build_dla_backbone',
    ),
    Rule('there is no pyramid', 'MODEL.FPN.IN_FEATURES', _builder('fpn')),
    Rule(
        'there is no plain FPN',
        'MODEL.FPN.NORM MODEL.FPN.OUT_CHANNELS',
        lambda s: '_fpn_' not in s['MODEL.BACKBONE.NAME'],
    ),
    Rule('there is no BiFPN', 'MODEL.BIFPN.*', _builder('bifpn')),
    # -----heads-----
    Rule(
        'a one-stage model has no second stage', 'MODEL.ROI_* TEST.DETECTIONS_PER_IMAGE', _one_stage
    ),
    Rule('a one-stage model makes no proposals in training', 'MODEL.CENTERNET.*_TRAIN', _one_stage),
    Rule(
        'there is no class-wise head',
        'MODEL.CENTERNET.NUM_CLASSES MODEL.CENTERNET.NUM_CLS_CONVS',
        lambda s: s['MODEL.CENTERNET.ONLY_PROPOSAL'],
    ),
    Rule(
        'without positive mining',
        'MODEL.CENTERNET.MORE_POS_*',
        lambda s: not s['MODEL.CENTERNET.MORE_POS'],
    ),
    Rule(
        'the second stage is not a cascade',
        'MODEL.ROI_BOX_CASCADE_HEAD.*',
        lambda s: s['MODEL.ROI_HEADS.NAME'] != 'CustomCascadeROIHeads',
    ),
    Rule(
        'the second stage is a cascade',
        'MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS MODEL.ROI_HEADS.IOU_THRESHOLDS',
        lambda s: s['MODEL.ROI_HEADS.NAME'] == 'CustomCascadeROIHeads',
    ),
    Rule(
        'without the federated loss',
        """MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CAT MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT
        MODEL.ROI_BOX_HEAD.CAT_FREQ_PATH""",
        lambda s: not s['MODEL.ROI_BOX_HEAD.USE_FED_LOSS'],
    ),
    Rule(
        'a softmax starts without a prior',
        'MODEL.ROI_BOX_HEAD.PRIOR_PROB',
        lambda s: not s['MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE'],
    ),
    Rule(
        'there is no mask head',
        'MODEL.ROI_MASK_HEAD.* INPUT.MASK_FORMAT',
        lambda s: not s['MODEL.MASK_ON'],
    ),
]


def without_effect(original: Settings) -> set[str]:
    """Keys of one of the original's models that are not compared."""
    patterns = [p for rule in RULES if rule.applies(original) for p in rule.keys.split()]
    return {key for key in original if any(fnmatch(key, pattern) for pattern in patterns)}
