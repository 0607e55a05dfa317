"""Our configs, said in the settings of the original.

:func:`settings_of` derives the original's keys from the *effective* values of
one of our configs, so that the two can be compared key by key.
"""

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from mmdet_centernet2.registry import SCOPE
from tests.test_configs.tiny_data import datasets_of

Settings = dict[str, Any]

#: (backbone, neck, number of levels) -> builder of the original.
BACKBONES = {
    ('ResNet', 'FPN', 5): 'build_p67_resnet_fpn_backbone',
    ('ResNeXt', 'FPN', 5): 'build_p67_resnet_fpn_backbone',
    ('CaffeRes2Net', 'FPN', 5): 'build_p67_res2net_fpn_backbone',
    ('CaffeRes2Net', 'BiFPN', 5): 'build_res2net_bifpn_backbone',
    ('DLA', 'BiFPN', 5): 'build_p37_dla_bifpn_backbone',
    ('DLA', 'FCOSBiFPN', 5): 'build_p37_fcos_dla_bifpn_backbone',
    ('DLA', 'FCOSBiFPN', 3): 'build_p35_fcos_dla_bifpn_backbone',
    ('DLA', 'DLAUpNeck', 1): 'build_dla_backbone',
}
#: Neck -> divisor that images are padded to, with the original.
PAD_DIVISORS = dict(FPN=32, DLAUpNeck=32, BiFPN=128, FCOSBiFPN=128)
WEIGHTS = {
    'open-mmlab://detectron2/resnet50_caffe': 'detectron2://ImageNetPretrained/MSRA/R-50.pkl',
    'open-mmlab://detectron2/resnext101_32x8d': 'detectron2://ImageNetPretrained/FAIR/X-101-32x8d.pkl',
    'open-mmlab://res2net101_v1d_26w_4s': 'output/r2_101.pkl',
    'checkpoints/dla34_mmdet.pth': '',  # the original's DLA finds its weights itself
}
_COCO = 'CenterNet2CocoDataset data/coco/annotations'
_LVIS = 'CenterNet2LVISDataset data/coco/annotations'
_O365 = 'CenterNet2Objects365Dataset data/Objects365/Obj365_v1/annotations'
_NUIMAGES = 'NuImagesDataset data/nuimages/annotations'
#: Class, annotations and images -> name in the original.
DATA_SETS = {
    f'{_COCO}/instances_train2017.json train2017/': 'coco_2017_train',
    f'{_COCO}/instances_val2017.json val2017/': 'coco_2017_val',
    # labels of another make: everybody makes their own
    f'{_COCO}/pseudo_labels_unlabeled2017.json unlabeled2017/': 'coco_un_yolov4_55_0.5',
    f'{_LVIS}/lvis_v1_train.json ': 'lvis_v1_train',
    f'{_LVIS}/lvis_v1_val.json ': 'lvis_v1_val',
    f'{_O365}/objects365_train.json train/': 'objects365_train',
    f'{_O365}/objects365_val.json val/': 'objects365_val',
    f'{_NUIMAGES}/nuimages_v1.0-train.json ': 'nuimages_train',
    f'{_NUIMAGES}/nuimages_v1.0-val.json ': 'nuimages_val',
}
SAMPLERS = {
    'InfiniteSampler': 'TrainingSampler',
    'RepeatFactorSampler': 'RepeatFactorTrainingSampler',
    'WeightedClassAwareSampler': 'ClassAwareSampler',
}
NUM_GPUS = 8  # of every model of the original
TRAIN_STEPS = 'LoadImageFromFile LoadAnnotations resize RandomFlip FilterAnnotations PackDetInputs'
TEST_STEPS = 'LoadImageFromFile resize LoadAnnotations PackDetInputs'
RESIZERS = ('RandomChoiceResize', 'Resize', 'EfficientDetResizeCrop')


def _steps(pipeline: list[ConfigDict], names: str) -> ConfigDict:
    """A pipeline by the names of its steps, which must be exactly these."""
    found = ConfigDict({('resize' if t.type in RESIZERS else t.type): t for t in pipeline})
    assert list(found) == names.split() and len(pipeline) == len(found)
    assert found.LoadImageFromFile.imdecode_backend == 'pillow'
    assert found.LoadImageFromFile._scope_ == SCOPE
    return found


def _name(dataset: ConfigDict) -> str:
    file = f'{dataset.data_root}{dataset.ann_file}'
    return DATA_SETS[f'{dataset.type} {file} {dataset.data_prefix.img}']


# -----data-----
def _loading(cfg: Config) -> Settings:
    loader, test = cfg.train_dataloader, cfg.test_dataloader.dataset
    datasets = list(datasets_of(loader.dataset))
    sampler = loader.sampler
    assert cfg.val_dataloader == cfg.test_dataloader
    assert cfg.test_evaluator.ann_file == test.data_root + test.ann_file
    metric = 'LVIS' if 'LVIS' in test.type else 'Coco'
    assert cfg.test_evaluator.type.endswith(f'{metric}Metric')
    grouping = loader.batch_sampler.type == 'OriginalAspectRatioBatchSampler'
    filtered = all(d.filter_cfg == dict(filter_empty_gt=True) for d in datasets)
    repeat = sampler.type == 'RepeatFactorSampler'
    return {
        **({'DATALOADER.REPEAT_THRESHOLD': sampler.repeat_thr} if repeat else {}),
        'DATALOADER.ASPECT_RATIO_GROUPING': grouping,
        'DATALOADER.FILTER_EMPTY_ANNOTATIONS': filtered,
        'DATALOADER.NUM_WORKERS': loader.num_workers,
        'DATALOADER.SAMPLER_TRAIN': SAMPLERS[sampler.type],
        'DATASETS.TRAIN': tuple(map(_name, datasets)),
        'DATASETS.TEST': (_name(test),),
    }


def _train_resize(resize: ConfigDict) -> Settings:
    if resize.type == 'EfficientDetResizeCrop':
        assert resize.backend == 'antialias'
        return {
            'INPUT.CUSTOM_AUG': resize.type,
            'INPUT.SCALE_RANGE': resize.scale_range,
            'INPUT.TRAIN_SIZE': resize.size,
        }
    assert resize.type == 'RandomChoiceResize'
    assert resize.resize_type == 'AntialiasShortestEdge'
    first, *_, last = scales = tuple(resize.scales)
    every = scales == tuple(range(first, last + 1))
    return {
        'INPUT.CUSTOM_AUG': '',
        'INPUT.MAX_SIZE_TRAIN': resize.max_size,
        'INPUT.MIN_SIZE_TRAIN': (first, last) if every else scales,
        'INPUT.MIN_SIZE_TRAIN_SAMPLING': 'range' if every else 'choice',
    }


def _test_resize(resize: ConfigDict) -> Settings:
    assert resize.type == 'Resize' and resize._scope_ == SCOPE
    assert resize.keep_ratio and resize.backend == 'pillow'
    if 'rounding' in resize:
        assert resize.rounding == 'down'
        (size,) = set(resize.scale)
        return {'INPUT.TEST_INPUT_TYPE': 'square', 'INPUT.TEST_SIZE': size}
    return {
        'INPUT.MAX_SIZE_TEST': resize.scale[0],
        'INPUT.MIN_SIZE_TEST': resize.scale[1],
        'INPUT.TEST_INPUT_TYPE': 'default',
    }


def _images(cfg: Config) -> Settings:
    pipelines = [d.pipeline for d in datasets_of(cfg.train_dataloader.dataset)]
    assert all(pipeline == pipelines[0] for pipeline in pipelines)
    train = _steps(pipelines[0], TRAIN_STEPS)
    test = _steps(cfg.test_dataloader.dataset.pipeline, TEST_STEPS)
    tiny = train.FilterAnnotations
    assert tiny.min_gt_bbox_wh == (1e-5, 1e-5) and tiny.keep_empty is False
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor.pad_size_divisor == PAD_DIVISORS[cfg.model.neck.type]
    flip = train.RandomFlip
    settings = {
        'INPUT.CROP.ENABLED': False,  # _steps would have seen it
        'INPUT.FORMAT': 'RGB' if preprocessor.bgr_to_rgb else 'BGR',
        'INPUT.NOT_CLAMP_BOX': not train.resize.get('clip_object_border', True),
        'INPUT.RANDOM_FLIP': 'horizontal' if flip.prob == 0.5 else flip,
        'MODEL.PIXEL_MEAN': preprocessor.mean,
        'MODEL.PIXEL_STD': preprocessor.std,
        'TEST.AUG.ENABLED': 'tta_model' in cfg,
    }
    if train.LoadAnnotations.get('with_mask'):
        assert train.LoadAnnotations.poly2mask and tiny.by_mask
        settings['INPUT.MASK_FORMAT'] = 'bitmask'
    return {**settings, **_train_resize(train.resize), **_test_resize(test.resize)}


# -----backbone and neck-----
def _backbone(cfg: Config) -> Settings:
    backbone, neck = cfg.model.backbone, cfg.model.neck
    strides = _head(cfg).strides
    weights = WEIGHTS[backbone.init_cfg.checkpoint]
    if cfg.load_from is not None:
        weights = cfg.load_from.split('/')[-2]
    of_backbone = _dla if backbone.type == 'DLA' else _resnet
    of_neck = dict(FPN=_fpn, DLAUpNeck=_dla_up, BiFPN=_bifpn, FCOSBiFPN=_bifpn)[neck.type]
    return {
        'MODEL.BACKBONE.NAME': BACKBONES[backbone.type, neck.type, len(strides)],
        'MODEL.WEIGHTS': weights,
        **of_backbone(cfg),
        **of_neck(cfg),
    }


def _in_features(cfg: Config) -> list[str]:
    backbone = cfg.model.backbone
    name, first = ('dla', 0) if backbone.type == 'DLA' else ('res', 2)
    return [f'{name}{i + first}' for i in backbone.out_indices]


def _resnet(cfg: Config) -> Settings:
    backbone = cfg.model.backbone
    assert backbone.norm_cfg == dict(type='BN', requires_grad=False)
    assert backbone.norm_eval
    settings = {
        'MODEL.BACKBONE.FREEZE_AT': backbone.frozen_stages + 1,
        'MODEL.RESNETS.DEFORM_ON_PER_STAGE': list(backbone.get('stage_with_dcn', (False,) * 4)),
        'MODEL.RESNETS.DEPTH': backbone.depth,
        'MODEL.RESNETS.NORM': 'FrozenBN',
        'MODEL.RESNETS.NUM_GROUPS': backbone.get('groups', 1),
        'MODEL.RESNETS.OUT_FEATURES': _in_features(cfg),
        'MODEL.RESNETS.RES5_DILATION': backbone.get('dilations', (1,) * 4)[3],
        'MODEL.RESNETS.STRIDE_IN_1X1': backbone.type == 'CaffeRes2Net' or backbone.style == 'caffe',
        'MODEL.RESNETS.WIDTH_PER_GROUP': backbone.get('base_width', 64),
    }
    if 'dcn' in backbone:
        assert not backbone.dcn.fallback_on_stride
        settings['MODEL.RESNETS.DEFORM_MODULATED'] = backbone.dcn.type == 'ExactDeformConv'
        settings['MODEL.RESNETS.DEFORM_NUM_GROUPS'] = backbone.dcn.deform_groups
    return settings


def _dla(cfg: Config) -> Settings:
    backbone = cfg.model.backbone
    assert backbone.norm_cfg.requires_grad and not backbone.get('norm_eval')
    return {'MODEL.DLA.NORM': backbone.norm_cfg.type, 'MODEL.DLA.NUM_LAYERS': backbone.depth}


def _fpn(cfg: Config) -> Settings:
    neck = cfg.model.neck
    assert neck.add_extra_convs == 'on_output'
    assert neck.relu_before_extra_convs and neck.num_outs == 5
    return {
        'MODEL.FPN.IN_FEATURES': _in_features(cfg),
        'MODEL.FPN.NORM': neck.get('norm_cfg', ''),
        'MODEL.FPN.OUT_CHANNELS': neck.out_channels,
    }


def _bifpn(cfg: Config) -> Settings:
    neck = cfg.model.neck
    return {
        'MODEL.BIFPN.NORM': neck.norm_cfg.type,
        'MODEL.BIFPN.NUM_BIFPN': neck.num_cells,
        'MODEL.BIFPN.NUM_LEVELS': neck.num_outs,
        'MODEL.BIFPN.OUT_CHANNELS': neck.out_channels,
        'MODEL.FPN.IN_FEATURES': _in_features(cfg),
    }


def _dla_up(cfg: Config) -> Settings:
    assert cfg.model.neck.norm_cfg == cfg.model.backbone.norm_cfg
    return {
        'MODEL.DLA.MS_OUTPUT': len(_head(cfg).strides) > 1,
        'MODEL.DLA.OUT_FEATURES': _levels(cfg, _head(cfg).strides),
        'MODEL.DLA.USE_DLA_UP': True,
    }


# -----heads-----
def _head(cfg: Config) -> ConfigDict:
    """The CenterNet head."""
    return cfg.model.get('rpn_head') or cfg.model.bbox_head


def _levels(cfg: Config, strides: Sequence[int]) -> list[str]:
    prefix = 'dla' if cfg.model.neck.type == 'DLAUpNeck' else 'p'
    return [f'{prefix}{stride.bit_length() - 1}' for stride in strides]


def _centernet(cfg: Config) -> Settings:
    head, one_stage = _head(cfg), 'roi_head' not in cfg.model
    test = cfg.model.test_cfg if one_stage else cfg.model.test_cfg.rpn
    heat, box = head.loss_cls, head.loss_bbox
    assert head.conv_bias and head.bbox_bias == 8
    assert head.in_channels == head.get('feat_channels', head.in_channels)
    assert one_stage == (head.type == 'CenterNet2Head')
    assert test.nms.get('class_agnostic', False) == (not one_stage)
    settings = {
        'FPN_STRIDES': head.strides,
        'HM_FOCAL_ALPHA': heat.alpha,
        'HM_FOCAL_BETA': heat.beta,
        'HM_MIN_OVERLAP': head.hm_min_overlap,
        'IGNORE_HIGH_FP': heat.ignore_high_fp,
        'INFERENCE_TH': test.score_thr,
        'IN_FEATURES': _levels(cfg, head.strides),
        'LOC_LOSS_TYPE': box.mode,
        'LOSS_GAMMA': heat.gamma,
        'MIN_RADIUS': head.hm_min_radius,
        'MORE_POS': head.get('more_pos') is not None,
        'NEG_WEIGHT': heat.neg_weight,
        'NMS_TH_TEST': test.nms.iou_threshold,
        'NORM': head.norm_cfg.type,
        'NOT_NMS': test.get('nms') is None,
        'NUM_BOX_CONVS': head.stacked_convs,
        'ONLY_PROPOSAL': not one_stage,
        'POST_NMS_TOPK_TEST': test.max_per_img,
        'POS_WEIGHT': heat.pos_weight,
        'PRE_NMS_TOPK_TEST': test.nms_pre,
        'PRIOR_PROB': head.prior_prob,
        'REG_WEIGHT': box.loss_weight,
        'SIGMOID_CLAMP': heat.clamp,
        'SOI': [list(r) for r in head.regress_ranges],
        'USE_DEFORMABLE': head.get('dcn_on_last_conv', False),
        'WITH_AGN_HM': head.type == 'CenterNet2ProposalHead',
    }
    if head.get('more_pos'):
        settings['MORE_POS_THRESH'] = head.more_pos.thresh
        settings['MORE_POS_TOPK'] = head.more_pos.topk
    if one_stage:
        settings['NUM_CLASSES'] = head.num_classes
        settings['NUM_CLS_CONVS'] = head.stacked_convs
    else:
        train = cfg.model.train_cfg.rpn_proposal
        assert train.score_thr == test.score_thr and train.nms.class_agnostic
        settings['NMS_TH_TRAIN'] = train.nms.iou_threshold
        settings['POST_NMS_TOPK_TRAIN'] = train.max_per_img
        settings['PRE_NMS_TOPK_TRAIN'] = train.nms_pre
    return {f'MODEL.CENTERNET.{key}': v for key, v in settings.items()}


def _second_stage(cfg: Config) -> Settings:
    roi = cfg.model.get('roi_head')
    if roi is None:
        assert cfg.model.type == 'SingleStageDetector'
        return {'MODEL.META_ARCHITECTURE': 'CenterNetDetector', 'MODEL.MASK_ON': False}
    of_stages = dict(CenterNet2CascadeRoIHead=_cascade, CenterNet2RoIHead=_single)[roi.type]
    masks = 'mask_head' in roi
    return {
        'MODEL.META_ARCHITECTURE': 'GeneralizedRCNN',
        'MODEL.MASK_ON': masks,
        **_rois(cfg),
        **_box_head(cfg),
        **of_stages(cfg),
        **(_masks(cfg) if masks else {}),
    }


def _rois(cfg: Config) -> Settings:
    roi, test = cfg.model.roi_head, cfg.model.test_cfg.rcnn
    stages = cfg.model.train_cfg.rcnn
    first = stages[0] if isinstance(stages, list) else stages
    assert first.sampler.type == 'RandomSampler'
    extractor = roi.bbox_roi_extractor
    return {
        'MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE': first.sampler.num,
        'MODEL.ROI_HEADS.IN_FEATURES': _levels(cfg, extractor.featmap_strides),
        'MODEL.ROI_HEADS.NMS_THRESH_TEST': test.nms.iou_threshold,
        'MODEL.ROI_HEADS.NUM_CLASSES': roi.bbox_head.num_classes,
        'MODEL.ROI_HEADS.POSITIVE_FRACTION': first.sampler.pos_fraction,
        'MODEL.ROI_HEADS.PROPOSAL_APPEND_GT': first.sampler.add_gt_as_proposals,
        'MODEL.ROI_HEADS.SCORE_THRESH_TEST': test.score_thr,
        'TEST.DETECTIONS_PER_IMAGE': test.max_per_img,
    }


def _threshold(stage: ConfigDict) -> float:
    """IoU from which on a RoI of a stage is an object."""
    assigner = stage.assigner
    assert not assigner.match_low_quality and assigner.ignore_iof_thr == -1
    assert assigner.pos_iou_thr == assigner.neg_iou_thr
    return assigner.pos_iou_thr


def _box_weights(stds: Sequence[float]) -> list[float]:
    return [1 / std for std in stds]


def _cascade(cfg: Config) -> Settings:
    roi, stages = cfg.model.roi_head, cfg.model.train_cfg.rcnn
    assert roi.stage_loss_weights == [1, 1, 1]
    assert [s.sampler.type for s in stages[1:]] == ['PseudoSampler'] * 2
    weights = list(map(_box_weights, roi.stage_target_stds))
    return {
        'MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS': weights,
        'MODEL.ROI_BOX_CASCADE_HEAD.IOUS': list(map(_threshold, stages)),
        'MODEL.ROI_HEADS.NAME': 'CustomCascadeROIHeads',
    }


def _single(cfg: Config) -> Settings:
    stds = cfg.model.roi_head.bbox_head.bbox_coder.target_stds
    return {
        'MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS': _box_weights(stds),
        'MODEL.ROI_HEADS.IOU_THRESHOLDS': [_threshold(cfg.model.train_cfg.rcnn)],
        'MODEL.ROI_HEADS.NAME': 'CustomROIHeads',
    }


def _pooler(extractor: ConfigDict) -> Settings:
    layer = extractor.roi_layer
    assert extractor.type == 'CanonicalRoIExtractor'
    assert (extractor.get('canonical_size', 224), extractor.get('canonical_level', 4)) == (224, 4)
    return {
        'POOLER_RESOLUTION': layer.output_size,
        'POOLER_SAMPLING_RATIO': layer.sampling_ratio,
        'POOLER_TYPE': 'ROIAlignV2' if layer.get('aligned', True) else 'ROIAlign',
    }


def _box_head(cfg: Config) -> Settings:
    head = cfg.model.roi_head.bbox_head
    loss, fed = head.loss_cls, head.loss_cls.type == 'FederatedLoss'
    assert head.type == 'CenterNet2BBoxHead'
    assert head.bbox_coder.type == 'OneSidedDeltaXYWHBBoxCoder'
    assert head.loss_bbox == dict(type='L1Loss', loss_weight=1)
    assert loss.loss_weight == 1
    settings = {
        'BBOX_REG_LOSS_TYPE': 'smooth_l1',
        'SMOOTH_L1_BETA': 0.0,  # that is plain L1
        'CLS_AGNOSTIC_BBOX_REG': head.reg_class_agnostic,
        'FC_DIM': head.fc_out_channels,
        'MULT_PROPOSAL_SCORE': True,  # both RoI heads do
        'NAME': 'FastRCNNConvFCHead',
        'NORM': head.get('norm_cfg', ''),
        'NUM_CONV': head.get('num_shared_convs', 0),
        'NUM_FC': 2,  # Shared2FCBBoxHead
        'USE_FED_LOSS': fed,
        'USE_SIGMOID_CE': fed or loss.use_sigmoid,
        **_pooler(cfg.model.roi_head.bbox_roi_extractor),
    }
    if fed:
        assert loss.cat_freq == 'lvis_v1'
        settings['CAT_FREQ_PATH'] = 'datasets/lvis/lvis_v1_train_cat_info.json'
        settings['FED_LOSS_FREQ_WEIGHT'] = loss.freq_power
        settings['FED_LOSS_NUM_CAT'] = loss.num_sampled_classes
        settings['PRIOR_PROB'] = loss.prior_prob
    return {f'MODEL.ROI_BOX_HEAD.{key}': v for key, v in settings.items()}


def _masks(cfg: Config) -> Settings:
    roi, model = cfg.model.roi_head, cfg.model
    head, pooler = roi.mask_head, roi.mask_roi_extractor
    assert head.type == 'FCNMaskHead' and head.loss_mask.use_mask
    assert head.loss_mask.loss_weight == 1
    assert head.num_classes == roi.bbox_head.num_classes
    assert pooler.featmap_strides == roi.bbox_roi_extractor.featmap_strides
    assert model.train_cfg.rcnn[0].mask_size == 2 * pooler.roi_layer['output_size']
    assert model.test_cfg.rcnn.mask_thr_binary == 0.5
    settings = {
        'CLS_AGNOSTIC_MASK': head.get('class_agnostic', False),
        'CONV_DIM': head.conv_out_channels,
        'NAME': 'MaskRCNNConvUpsampleHead',
        'NORM': head.get('norm_cfg', ''),
        'NUM_CONV': head.num_convs,
        **_pooler(pooler),
    }
    return {f'MODEL.ROI_MASK_HEAD.{key}': v for key, v in settings.items()}


# -----training-----
def _schedule(cfg: Config) -> Settings:
    warmup, *steps = cfg.param_scheduler
    max_iters = cfg.train_cfg.max_iters
    if warmup.type == 'LinearLR':
        (steps,) = steps
        assert not warmup.by_epoch and not steps.by_epoch
        assert steps.type == 'MultiStepLR' and steps.end == max_iters
        factor, iters = warmup.start_factor, warmup.end - 1
    else:
        assert not steps
        steps = warmup
        factor, iters = warmup.warmup_factor, warmup.warmup_iters
    if warmup.type == 'WarmupCosineLR':
        assert warmup.max_iters == max_iters
        law = {'SOLVER.LR_SCHEDULER_NAME': 'WarmupCosineLR', 'SOLVER.BASE_LR_END': 0.0}
    else:
        law = {
            'SOLVER.LR_SCHEDULER_NAME': 'WarmupMultiStepLR',
            'SOLVER.GAMMA': steps.gamma,
            'SOLVER.STEPS': tuple(steps.milestones),
        }
    return {
        **law,
        'SOLVER.MAX_ITER': max_iters,
        'SOLVER.WARMUP_FACTOR': factor,
        'SOLVER.WARMUP_ITERS': iters,
        'SOLVER.WARMUP_METHOD': 'linear',
    }


def _solver(cfg: Config) -> Settings:
    wrapper, scale = cfg.optim_wrapper, cfg.auto_scale_lr
    optimizer, clip = wrapper.optimizer, wrapper.clip_grad
    assert optimizer.type == 'SGD'
    assert scale.base_batch_size == NUM_GPUS * cfg.train_dataloader.batch_size
    paramwise = wrapper.paramwise_cfg
    return {
        'SOLVER.AMP.ENABLED': wrapper.type != 'OptimWrapper',
        'SOLVER.BASE_LR': optimizer.lr,
        'SOLVER.BIAS_LR_FACTOR': paramwise.get('bias_lr_mult', 1.0),
        'SOLVER.CLIP_GRADIENTS.CLIP_TYPE': clip.type,
        'SOLVER.CLIP_GRADIENTS.CLIP_VALUE': clip.clip_value,
        'SOLVER.CLIP_GRADIENTS.ENABLED': True,
        'SOLVER.IMS_PER_BATCH': scale.base_batch_size,
        'SOLVER.MOMENTUM': optimizer.momentum,
        'SOLVER.NESTEROV': optimizer.get('nesterov', False),
        'SOLVER.REFERENCE_WORLD_SIZE': NUM_GPUS if scale.enable else 0,
        # a detector that is loaded, not resumed, starts at iteration 0
        'SOLVER.RESET_ITER': cfg.load_from is not None and not cfg.resume,
        'SOLVER.WEIGHT_DECAY': optimizer.weight_decay,
        'SOLVER.WEIGHT_DECAY_BIAS': paramwise.get('bias_decay_mult'),
        'SOLVER.WEIGHT_DECAY_NORM': optimizer.weight_decay * paramwise.norm_decay_mult,
    }


def settings_of(cfg: Config) -> Settings:
    """Effective settings of one of our configs, by the original's keys.

    Raises:
        AssertionError: If something that the original has no key for, but
            always does, is not so in the config.
        KeyError: If a part of the config is nothing the original has.
    """
    parts = (_loading, _images, _backbone, _centernet, _second_stage, _schedule, _solver)
    return {key: value for part in parts for key, value in part(cfg).items()}
