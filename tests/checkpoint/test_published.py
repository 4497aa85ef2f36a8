"""Models for the published checkpoints have the same weights as Detectron2's heads."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from pointrend_seg.engine.config_loading import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PUBLISHED = [
    "coco/pointrend_rcnn_R_50_FPN_1x_coco.yaml",
    "coco/pointrend_rcnn_R_50_FPN_3x_coco.yaml",
    "coco/pointrend_rcnn_R_101_FPN_3x_coco.yaml",
    "coco/pointrend_rcnn_X_101_32x8d_FPN_3x_coco.yaml",
    "cityscapes/pointrend_rcnn_R_50_FPN_1x_cityscapes.yaml",
    "cityscapes/pointrend_semantic_R_101_FPN_1x_cityscapes.yaml",
]


def shapes(cfg):
    """Return the shapes of a model's weights; it is built without memory for them."""
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in build_model(cfg).state_dict().items()}


def as_detectron2_names_it(cfg):
    """Return the config with the head names of Detectron2's PointRend."""
    from detectron2.projects import point_rend  # noqa: F401

    cfg = cfg.clone()
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
    cfg.MODEL.POINT_HEAD.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor":
        cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemSegHead"
        cfg.MODEL.POINT_HEAD = cfg.MODEL.SEM_SEG_POINT_HEAD.clone()
        cfg.MODEL.POINT_HEAD.NUM_CLASSES = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    cfg.MODEL.POINT_HEAD.NAME = "StandardPointHead"
    return cfg


@pytest.mark.parametrize("config", PUBLISHED)
def test_names_and_shapes(config):
    cfg = load_config(str(CONFIGS / config))
    assert shapes(cfg.clone()) == shapes(as_detectron2_names_it(cfg))
