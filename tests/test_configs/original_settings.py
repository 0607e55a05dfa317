"""Our configs, said in the settings of the original.

:func:`settings_of` derives the original's keys from the *effective* values of
one of our configs, so that the two can be compared key by key.
"""
from typing import Any, Dict, List

from mmengine.config import Config

#: Settings of the original that none of our values can say, and why.
NOT_COMPARED = {
    # switched off in the original, and the code for it is not here
    'MODEL.CENTERNET.AS_PROPOSAL', 'MODEL.CENTERNET.CENTER_NMS',
    'MODEL.CENTERNET.NOT_NMS', 'MODEL.CENTERNET.NO_REDUCE',
    'MODEL.ROI_BOX_HEAD.USE_EQL_LOSS', 'MODEL.ROI_BOX_HEAD.EQL_FREQ_CAT',
    'MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES', 'SOLVER.TRAIN_ITER',
    'SOLVER.RESET_ITER', 'SOLVER.AMP.ENABLED',
    'SOLVER.REFERENCE_WORLD_SIZE',
    # always so in the code that is here
    'MODEL.CENTERNET.NOT_NORM_REG', 'MODEL.ROI_BOX_HEAD.MULT_PROPOSAL_SCORE',
    'MODEL.ROI_HEADS.IOU_LABELS', 'MODEL.FPN.FUSE_TYPE',
    'MODEL.RESNETS.STEM_OUT_CHANNELS', 'MODEL.RESNETS.RES2_OUT_CHANNELS',
    # without effect where the switch beside them is off, or at all
    'MODEL.CENTERNET.NUM_CLASSES', 'MODEL.CENTERNET.NUM_CLS_CONVS',
    'MODEL.CENTERNET.NUM_SHARE_CONVS', 'MODEL.CENTERNET.MORE_POS_THRESH',
    'MODEL.CENTERNET.MORE_POS_TOPK', 'MODEL.RESNETS.DEFORM_MODULATED',
    'MODEL.RESNETS.DEFORM_NUM_GROUPS', 'MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS',
    'MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT',
    'MODEL.ROI_BOX_HEAD.CAT_FREQ_PATH', 'MODEL.ROI_BOX_HEAD.CONV_DIM',
    'MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT',
    'MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER',
    'MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CAT',
    'MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES',
    'MODEL.ROI_BOX_HEAD.PRIOR_PROB', 'MODEL.ROI_HEADS.IOU_THRESHOLDS',
    'INPUT.MASK_FORMAT', 'SOLVER.NUM_DECAYS', 'SOLVER.RESCALE_INTERVAL',
    'SOLVER.BASE_LR_END', 'SOLVER.CLIP_GRADIENTS.NORM_TYPE',
    'SOLVER.WEIGHT_DECAY_BIAS',
    # how often to save is the user's business
    'SOLVER.CHECKPOINT_PERIOD',
}

BACKBONES = {('ResNet', 'FPN'): 'build_p67_resnet_fpn_backbone'}
WEIGHTS = {
    'open-mmlab://detectron2/resnet50_caffe':
    'detectron2://ImageNetPretrained/MSRA/R-50.pkl',
}
DATA_SETS = {
    'annotations/instances_train2017.json': 'coco_2017_train',
    'annotations/instances_val2017.json': 'coco_2017_val',
}
SAMPLERS = {'InfiniteSampler': 'TrainingSampler'}


def _one(pipeline: List[dict], *types: str) -> dict:
    found = [t for t in pipeline if t['type'] in types]
    assert len(found) == 1, (types, found)
    return found[0]


def _data(cfg: Config) -> Dict[str, Any]:
    loader, dataset = cfg.train_dataloader, cfg.train_dataloader.dataset
    test = cfg.test_dataloader.dataset
    resize = _one(dataset.pipeline, 'RandomChoiceResize')
    test_resize = _one(test.pipeline, 'ResizeShortestEdge')
    flip = _one(dataset.pipeline, 'RandomFlip')
    assert resize.backend == test_resize.backend == 'pillow'
    assert resize.resize_type == 'ResizeShortestEdge'
    tiny = _one(dataset.pipeline, 'FilterAnnotations')
    assert tiny.min_gt_bbox_wh == (1e-5, 1e-5) and tiny.keep_empty is False
    for part in (dataset, test):
        load = _one(part.pipeline, 'LoadImageFromFile')
        assert load.imdecode_backend == 'pillow'
    preprocessor = cfg.model.data_preprocessor
    return {
        'DATALOADER.ASPECT_RATIO_GROUPING':
        loader.batch_sampler.type == 'AspectRatioBatchSampler',
        'DATALOADER.FILTER_EMPTY_ANNOTATIONS':
        dataset.filter_cfg == dict(filter_empty_gt=True),
        'DATALOADER.SAMPLER_TRAIN': SAMPLERS[loader.sampler.type],
        'DATASETS.TRAIN': (DATA_SETS[dataset.ann_file], ),
        'DATASETS.TEST': (DATA_SETS[test.ann_file], ),
        'INPUT.FORMAT': 'RGB' if preprocessor.bgr_to_rgb else 'BGR',
        'INPUT.MAX_SIZE_TEST': test_resize.max_size,
        'INPUT.MAX_SIZE_TRAIN': resize.max_size,
        'INPUT.MIN_SIZE_TEST': test_resize.scale,
        'INPUT.MIN_SIZE_TRAIN': tuple(resize.scales),
        'INPUT.MIN_SIZE_TRAIN_SAMPLING': 'choice',
        'INPUT.RANDOM_FLIP': 'horizontal' if flip.prob == 0.5 else flip,
        'MODEL.PIXEL_MEAN': preprocessor.mean,
        'MODEL.PIXEL_STD': preprocessor.std,
    }


def _backbone(cfg: Config) -> Dict[str, Any]:
    backbone, neck = cfg.model.backbone, cfg.model.neck
    assert backbone.norm_cfg == dict(type='BN', requires_grad=False)
    assert backbone.norm_eval
    assert neck.add_extra_convs == 'on_output'
    assert neck.relu_before_extra_convs and neck.num_outs == 5
    stages = [f'res{i + 2}' for i in backbone.out_indices]
    dcn = backbone.get('stage_with_dcn', (False, ) * 4)
    return {
        'MODEL.BACKBONE.FREEZE_AT': backbone.frozen_stages + 1,
        'MODEL.BACKBONE.NAME': BACKBONES[backbone.type, neck.type],
        'MODEL.FPN.IN_FEATURES': stages,
        'MODEL.FPN.NORM': neck.get('norm_cfg', ''),
        'MODEL.FPN.OUT_CHANNELS': neck.out_channels,
        'MODEL.RESNETS.DEFORM_ON_PER_STAGE': list(dcn),
        'MODEL.RESNETS.DEPTH': backbone.depth,
        'MODEL.RESNETS.NORM': 'FrozenBN',
        'MODEL.RESNETS.NUM_GROUPS': backbone.get('groups', 1),
        'MODEL.RESNETS.OUT_FEATURES': stages,
        'MODEL.RESNETS.RES5_DILATION': backbone.get('dilations',
                                                    (1, ) * 4)[3],
        'MODEL.RESNETS.STRIDE_IN_1X1': backbone.style == 'caffe',
        'MODEL.RESNETS.WIDTH_PER_GROUP': backbone.get('base_width', 64),
        'MODEL.WEIGHTS': WEIGHTS[backbone.init_cfg.checkpoint],
    }


def _first_stage(cfg: Config) -> Dict[str, Any]:
    head, model = cfg.model.rpn_head, cfg.model
    train, test = model.train_cfg.rpn_proposal, model.test_cfg.rpn
    heat, box = head.loss_cls, head.loss_bbox
    assert head.type == 'CenterNet2ProposalHead' and head.conv_bias
    assert head.bbox_bias == 8 and train.score_thr == test.score_thr
    assert train.nms.class_agnostic and test.nms.class_agnostic
    levels = [f'p{s.bit_length() - 1}' for s in head.strides]
    return {
        'MODEL.CENTERNET.FPN_STRIDES': head.strides,
        'MODEL.CENTERNET.HM_FOCAL_ALPHA': heat.alpha,
        'MODEL.CENTERNET.HM_FOCAL_BETA': heat.beta,
        'MODEL.CENTERNET.HM_MIN_OVERLAP': head.hm_min_overlap,
        'MODEL.CENTERNET.IGNORE_HIGH_FP': heat.ignore_high_fp,
        'MODEL.CENTERNET.INFERENCE_TH': test.score_thr,
        'MODEL.CENTERNET.IN_FEATURES': levels,
        'MODEL.CENTERNET.LOC_LOSS_TYPE': box.mode,
        'MODEL.CENTERNET.LOSS_GAMMA': heat.gamma,
        'MODEL.CENTERNET.MIN_RADIUS': head.hm_min_radius,
        'MODEL.CENTERNET.MORE_POS': head.get('more_pos') is not None,
        'MODEL.CENTERNET.NEG_WEIGHT': heat.neg_weight,
        'MODEL.CENTERNET.NMS_TH_TEST': test.nms.iou_threshold,
        'MODEL.CENTERNET.NMS_TH_TRAIN': train.nms.iou_threshold,
        'MODEL.CENTERNET.NORM': head.norm_cfg.type,
        'MODEL.CENTERNET.NUM_BOX_CONVS': head.stacked_convs,
        'MODEL.CENTERNET.ONLY_PROPOSAL': True,
        'MODEL.CENTERNET.POST_NMS_TOPK_TEST': test.max_per_img,
        'MODEL.CENTERNET.POST_NMS_TOPK_TRAIN': train.max_per_img,
        'MODEL.CENTERNET.POS_WEIGHT': heat.pos_weight,
        'MODEL.CENTERNET.PRE_NMS_TOPK_TEST': test.nms_pre,
        'MODEL.CENTERNET.PRE_NMS_TOPK_TRAIN': train.nms_pre,
        'MODEL.CENTERNET.PRIOR_PROB': head.prior_prob,
        'MODEL.CENTERNET.REG_WEIGHT': box.loss_weight,
        'MODEL.CENTERNET.SIGMOID_CLAMP': heat.clamp,
        'MODEL.CENTERNET.SOI': [list(r) for r in head.regress_ranges],
        'MODEL.CENTERNET.USE_DEFORMABLE': head.get('dcn_on_last_conv', False),
        'MODEL.CENTERNET.WITH_AGN_HM': True,
    }


def _second_stage(cfg: Config) -> Dict[str, Any]:
    roi, stages = cfg.model.roi_head, cfg.model.train_cfg.rcnn
    extractor, head = roi.bbox_roi_extractor, roi.bbox_head
    assert roi.type == 'CenterNet2CascadeRoIHead'
    assert roi.stage_loss_weights == [1, 1, 1]
    assert [s.sampler.type for s in stages
            ] == ['RandomSampler', 'PseudoSampler', 'PseudoSampler']
    for stage in stages:
        assert not stage.assigner.match_low_quality
        assert stage.assigner.pos_iou_thr == stage.assigner.neg_iou_thr
    assert head.type == 'CenterNet2BBoxHead'
    assert head.loss_bbox == dict(type='L1Loss', loss_weight=1)
    assert head.loss_cls.loss_weight == 1
    sampler, layer = stages[0].sampler, extractor.roi_layer
    test = cfg.model.test_cfg.rcnn
    return {
        'MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS':
        [[1 / std for std in stds] for stds in roi.stage_target_stds],
        'MODEL.ROI_BOX_CASCADE_HEAD.IOUS':
        [s.assigner.pos_iou_thr for s in stages],
        'MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE': 'smooth_l1',
        'MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA': 0.0,  # that is plain L1
        'MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG':
        head.reg_class_agnostic,
        'MODEL.ROI_BOX_HEAD.FC_DIM': head.fc_out_channels,
        'MODEL.ROI_BOX_HEAD.NAME': 'FastRCNNConvFCHead',
        'MODEL.ROI_BOX_HEAD.NORM': head.get('norm_cfg', ''),
        'MODEL.ROI_BOX_HEAD.NUM_CONV': head.get('num_shared_convs', 0),
        'MODEL.ROI_BOX_HEAD.NUM_FC': 2,  # Shared2FCBBoxHead
        'MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION': layer.output_size,
        'MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO': layer.sampling_ratio,
        'MODEL.ROI_BOX_HEAD.POOLER_TYPE':
        'ROIAlignV2' if layer.get('aligned', True) else 'ROIAlign',
        'MODEL.ROI_BOX_HEAD.USE_FED_LOSS':
        head.loss_cls.type == 'FederatedLoss',
        'MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE': head.loss_cls.use_sigmoid,
        'MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE': sampler.num,
        'MODEL.ROI_HEADS.IN_FEATURES':
        [f'p{s.bit_length() - 1}' for s in extractor.featmap_strides],
        'MODEL.ROI_HEADS.NAME': 'CustomCascadeROIHeads',
        'MODEL.ROI_HEADS.NMS_THRESH_TEST': test.nms.iou_threshold,
        'MODEL.ROI_HEADS.NUM_CLASSES': head.num_classes,
        'MODEL.ROI_HEADS.POSITIVE_FRACTION': sampler.pos_fraction,
        'MODEL.ROI_HEADS.PROPOSAL_APPEND_GT': sampler.add_gt_as_proposals,
        'MODEL.ROI_HEADS.SCORE_THRESH_TEST': test.score_thr,
        'TEST.DETECTIONS_PER_IMAGE': test.max_per_img,
    }


def _solver(cfg: Config) -> Dict[str, Any]:
    warmup, steps = cfg.param_scheduler
    wrapper = cfg.optim_wrapper
    optimizer, clip = wrapper.optimizer, wrapper.clip_grad
    assert warmup.type == 'LinearLR' and steps.type == 'MultiStepLR'
    assert not warmup.by_epoch and not steps.by_epoch
    assert optimizer.type == 'SGD' and cfg.train_cfg.max_iters == steps.end
    images = cfg.auto_scale_lr.base_batch_size
    assert images == 8 * cfg.train_dataloader.batch_size
    norm_decay = wrapper.paramwise_cfg.norm_decay_mult
    return {
        'SOLVER.BASE_LR': optimizer.lr,
        'SOLVER.BIAS_LR_FACTOR': wrapper.paramwise_cfg.get(
            'bias_lr_mult', 1.0),
        'SOLVER.CLIP_GRADIENTS.CLIP_TYPE': clip.type,
        'SOLVER.CLIP_GRADIENTS.CLIP_VALUE': clip.clip_value,
        'SOLVER.CLIP_GRADIENTS.ENABLED': True,
        'SOLVER.GAMMA': steps.gamma,
        'SOLVER.IMS_PER_BATCH': images,
        'SOLVER.LR_SCHEDULER_NAME': 'WarmupMultiStepLR',
        'SOLVER.MAX_ITER': cfg.train_cfg.max_iters,
        'SOLVER.MOMENTUM': optimizer.momentum,
        'SOLVER.NESTEROV': optimizer.get('nesterov', False),
        'SOLVER.STEPS': tuple(steps.milestones),
        'SOLVER.WARMUP_FACTOR': warmup.start_factor,
        'SOLVER.WARMUP_ITERS': warmup.end - 1,
        'SOLVER.WARMUP_METHOD': 'linear',
        'SOLVER.WEIGHT_DECAY': optimizer.weight_decay,
        'SOLVER.WEIGHT_DECAY_NORM': optimizer.weight_decay * norm_decay,
    }


def settings_of(cfg: Config) -> Dict[str, Any]:
    """Effective settings of one of our configs, by the original's keys.

    Raises:
        AssertionError: If something that the original has no key for, but
            always does, is not so in the config.
    """
    settings: Dict[str, Any] = {}
    for part in (_data, _backbone, _first_stage, _second_stage, _solver):
        settings.update(part(cfg))
    return settings
