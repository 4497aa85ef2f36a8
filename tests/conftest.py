"""Fixtures that several test files share."""

import warnings

import pytest
import torch
from detectron2.config import CfgNode, get_cfg

from pointrend_seg import add_pointrend_config

warnings.filterwarnings("ignore", message=".*torch.jit.script.*")


def pytest_collection_modifyitems(items):
    """Tests marked `gpu` need a CUDA device."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def semantic_cfg():
    """Returns a function that gives the config of a small Semantic FPN with PointRend."""
    return small_semantic_cfg


def small_semantic_cfg(num_classes: int = 5, opts: tuple = ()) -> CfgNode:
    cfg = get_cfg()
    add_pointrend_config(cfg)
    cfg.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu"),
            *("MODEL.META_ARCHITECTURE", "SemanticSegmentor"),
            *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"),
            *("MODEL.RESNETS.DEPTH", 18),
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
            *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"]),
            *("MODEL.FPN.OUT_CHANNELS", 32),
            *("MODEL.PIXEL_STD", [57.0, 57.0, 57.0]),
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
