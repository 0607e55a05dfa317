"""Settings of the original that say nothing about a model, and why.

Which they are is decided from the *original's* own switches, so that nothing
in a config of ours can make a comparison go away.
"""

from fnmatch import fnmatch
from typing import Any

Settings = dict[str, Any]


def rules(original: Settings) -> dict[str, bool]:
    """Patterns of keys, between spaces, and whether they have no effect on a model."""
    backbone = original['MODEL.BACKBONE.NAME']
    scheduler = original['SOLVER.LR_SCHEDULER_NAME']
    one_stage = original['MODEL.META_ARCHITECTURE'] == 'CenterNetDetector'
    cascade = original['MODEL.ROI_HEADS.NAME'] == 'CustomCascadeROIHeads'
    crops = original['INPUT.CUSTOM_AUG'] == 'EfficientDetResizeCrop'
    square = original['INPUT.TEST_INPUT_TYPE'] == 'square'
    return {
        # off in every model of the original; there is no such code here
        'MODEL.CENTERNET.AS_PROPOSAL MODEL.CENTERNET.CENTER_NMS MODEL.CENTERNET.NO_REDUCE '
        'MODEL.CENTERNET.NUM_SHARE_CONVS MODEL.ROI_BOX_HEAD.USE_EQL_LOSS '
        'MODEL.ROI_BOX_HEAD.EQL_FREQ_CAT MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES '
        'SOLVER.TRAIN_ITER MODEL.BIFPN.SEPARABLE_CONV': True,
        # not a choice in the code that is here; the parity tests cover it
        'MODEL.CENTERNET.NOT_NORM_REG MODEL.ROI_HEADS.IOU_LABELS MODEL.FPN.FUSE_TYPE '
        'MODEL.RESNETS.STEM_OUT_CHANNELS MODEL.RESNETS.RES2_OUT_CHANNELS '
        'DATALOADER.REPEAT_SQRT': True,
        # read by no builder, head or scheduler that a model uses
        'MODEL.DLA.DLAUP_* MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT '
        'MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER '
        'SOLVER.NUM_DECAYS SOLVER.RESCALE_INTERVAL': True,
        # how often to save is the user's business
        'SOLVER.CHECKPOINT_PERIOD': True,
        # cropping by detectron2 is off
        'INPUT.CROP.SIZE INPUT.CROP.TYPE': not original['INPUT.CROP.ENABLED'],
        # gradients are clipped by value, not by norm
        'SOLVER.CLIP_GRADIENTS.NORM_TYPE': original['SOLVER.CLIP_GRADIENTS.CLIP_TYPE'] == 'value',
        # a cosine has no steps, and steps have no end value
        'SOLVER.STEPS SOLVER.GAMMA': scheduler == 'WarmupCosineLR',
        'SOLVER.BASE_LR_END': scheduler == 'WarmupMultiStepLR',
        # training images are cropped, or they are not
        'INPUT.TRAIN_SIZE INPUT.SCALE_RANGE': not crops,
        'INPUT.MIN_SIZE_TRAIN INPUT.MIN_SIZE_TRAIN_SAMPLING INPUT.MAX_SIZE_TRAIN': crops,
        # test images keep to the shorter edge, or to the longer one
        'INPUT.TEST_SIZE': not square,
        'INPUT.MIN_SIZE_TEST INPUT.MAX_SIZE_TEST': square,
        # without repeat-factor sampling
        'DATALOADER.REPEAT_THRESHOLD': 'RepeatFactor' not in original['DATALOADER.SAMPLER_TRAIN'],
        # there is no ResNet, or no deformable convolution in it
        'MODEL.RESNETS.* MODEL.BACKBONE.FREEZE_AT': not (
            'resnet' in backbone or 'res2net' in backbone
        ),
        'MODEL.RESNETS.DEFORM_MODULATED MODEL.RESNETS.DEFORM_NUM_GROUPS': not any(
            original['MODEL.RESNETS.DEFORM_ON_PER_STAGE']
        ),
        # there is no DLA, or no up-sampling neck after it
        'MODEL.DLA.*': 'dla' not in backbone,
        'MODEL.DLA.USE_DLA_UP MODEL.DLA.OUT_FEATURES MODEL.DLA.MS_OUTPUT': (
            backbone != 'build_dla_backbone'
        ),
        # there is no pyramid, no plain FPN, no BiFPN
        'MODEL.FPN.IN_FEATURES': 'fpn' not in backbone,
        'MODEL.FPN.NORM MODEL.FPN.OUT_CHANNELS': '_fpn_' not in backbone,
        'MODEL.BIFPN.*': 'bifpn' not in backbone,
        # a one-stage model has no second stage and makes no proposals in training
        'MODEL.ROI_* TEST.DETECTIONS_PER_IMAGE MODEL.CENTERNET.*_TRAIN': one_stage,
        # there is no class-wise head
        'MODEL.CENTERNET.NUM_CLASSES MODEL.CENTERNET.NUM_CLS_CONVS': original[
            'MODEL.CENTERNET.ONLY_PROPOSAL'
        ],
        # without positive mining
        'MODEL.CENTERNET.MORE_POS_*': not original['MODEL.CENTERNET.MORE_POS'],
        # the second stage is a cascade, or it is not
        'MODEL.ROI_BOX_CASCADE_HEAD.*': not cascade,
        'MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS MODEL.ROI_HEADS.IOU_THRESHOLDS': cascade,
        # the box head has no convolutions
        'MODEL.ROI_BOX_HEAD.CONV_DIM': original['MODEL.ROI_BOX_HEAD.NUM_CONV'] == 0,
        # without the federated loss
        'MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CAT MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT '
        'MODEL.ROI_BOX_HEAD.CAT_FREQ_PATH': not original['MODEL.ROI_BOX_HEAD.USE_FED_LOSS'],
        # a softmax starts without a prior
        'MODEL.ROI_BOX_HEAD.PRIOR_PROB': not original['MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE'],
        # there is no mask head
        'MODEL.ROI_MASK_HEAD.* INPUT.MASK_FORMAT': not original['MODEL.MASK_ON'],
    }


def without_effect(original: Settings) -> set[str]:
    """Keys of one of the original's models that are not compared."""
    patterns = [p for keys, silent in rules(original).items() if silent for p in keys.split()]
    return {key for key in original if any(fnmatch(key, pattern) for pattern in patterns)}
