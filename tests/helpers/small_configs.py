"""Configs of small models, on the CPU, from random weights."""

from detectron2.config import CfgNode, get_cfg
from detectron2.projects.point_rend import add_pointrend_config as add_builtin_config

from pointrend_seg import add_pointrend_config

_SMALL_FPN = (
    *("MODEL.DEVICE", "cpu"),
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"),
    *("MODEL.RESNETS.DEPTH", 18),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
    *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
    *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]),
    *("MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.PIXEL_STD", [57.0, 57.0, 57.0]),
)


def small_semantic_cfg(num_classes: int = 5, opts: tuple = ()) -> CfgNode:
    """The config of a small Semantic FPN with PointRend, on the CPU, from random weights."""
    cfg = get_cfg()
    add_pointrend_config(cfg)
    cfg.merge_from_list(
        [
            *_SMALL_FPN,
            *("MODEL.META_ARCHITECTURE", "SemanticSegmentor"),
            *("MODEL.SEM_SEG_HEAD.NAME", "PointRendSemanticHead"),
            *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", num_classes),
            *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
            *("MODEL.SEM_SEG_POINT_HEAD.FC_DIM", 32),
            *("MODEL.SEM_SEG_POINT_HEAD.TRAIN_NUM_POINTS", 64),
            *("MODEL.SEM_SEG_POINT_HEAD.SUBDIVISION_NUM_POINTS", 200),
        ]
    )
    cfg.merge_from_list(list(opts))
    return cfg


def small_instance_cfg(num_classes: int = 5, opts: tuple = ()) -> CfgNode:
    """The config of a small Mask R-CNN with PointRend, on the CPU, from random weights."""
    cfg = get_cfg()
    add_pointrend_config(cfg)
    cfg.merge_from_list(
        [
            *_SMALL_FPN,
            *("MODEL.MASK_ON", True),
            *("MODEL.ANCHOR_GENERATOR.SIZES", [[16], [32], [64], [96], [128]]),
            *("MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"]),
            *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 100),
            *("MODEL.RPN.POST_NMS_TOPK_TEST", 50),
            *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
            *("MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"]),
            *("MODEL.ROI_HEADS.NUM_CLASSES", num_classes),
            *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 32),
            *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead"),
            *("MODEL.ROI_BOX_HEAD.NUM_FC", 1),
            *("MODEL.ROI_BOX_HEAD.FC_DIM", 64),
            *("MODEL.ROI_MASK_HEAD.NAME", "PointRendInstanceHead"),
            *("MODEL.ROI_MASK_HEAD.POOLER_TYPE", ""),
            *("MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", True),
            *("MODEL.ROI_MASK_HEAD.CONV_DIM", 32),
            *("MODEL.ROI_MASK_HEAD.FC_DIM", 64),
            *("MODEL.POINT_HEAD.NUM_CLASSES", num_classes),
            *("MODEL.POINT_HEAD.FC_DIM", 32),
            *("TEST.DETECTIONS_PER_IMAGE", 20),
        ]
    )
    cfg.merge_from_list(list(opts))
    return cfg


STANDARD = ("PointRendMaskHead", "StandardPointHead")


IMPLICIT = ("ImplicitPointRendMaskHead", "ImplicitPointHead")


def builtin_cfg(mask_head, point_head, opts=()):
    """A config as it is written for Detectron2's PointRend: without a key of ours."""
    cfg = get_cfg()
    add_builtin_config(cfg)
    small = small_instance_cfg(opts=opts)

    def copy(old, new):
        for key, value in old.items():
            if isinstance(value, dict):
                copy(value, new[key])
            else:
                old[key] = new[key]

    copy(cfg, small)
    cfg.MODEL.ROI_MASK_HEAD.NAME, cfg.MODEL.POINT_HEAD.NAME = mask_head, point_head
    if "Implicit" in mask_head:
        cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS = 3
    return cfg


# What makes the mask head of `small_instance_cfg` the implicit one.
IMPLICIT_OPTS = (
    *("MODEL.ROI_MASK_HEAD.NAME", "ImplicitPointRendInstanceHead"),
    *("MODEL.POINT_HEAD.NAME", "ImplicitPointMLP"),
    *("MODEL.POINT_HEAD.FC_DIM", 16),
    *("MODEL.POINT_HEAD.SUBDIVISION_STEPS", 1),
)

# What makes `small_instance_cfg` a Panoptic FPN with point heads in both branches.
PANOPTIC = (
    *("MODEL.META_ARCHITECTURE", "PanopticFPN"),
    *("MODEL.SEM_SEG_HEAD.NAME", "PointRendSemanticHead"),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3),
    *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
    *("MODEL.SEM_SEG_POINT_HEAD.FC_DIM", 24),
    *("MODEL.SEM_SEG_POINT_HEAD.TRAIN_NUM_POINTS", 50),
    *("MODEL.POINT_HEAD.FC_DIM", 40),
)
