"""Fixtures that several test files share."""

import atexit
import os
import shutil
import tempfile
import warnings
from pathlib import Path

# Detectron2 reads it when it is imported, so it is set before; `datasets` fills the folder.
DATASETS = Path(tempfile.mkdtemp(prefix="pointrend_seg_datasets_"))
os.environ["DETECTRON2_DATASETS"] = str(DATASETS)
atexit.register(shutil.rmtree, DATASETS, ignore_errors=True)

import numpy as np
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
def cityscapes_scripts():
    """Skips where the Cityscapes evaluation scripts are missing or do not run under this NumPy."""
    pytest.importorskip("cityscapesscripts")
    if not hasattr(np, "in1d"):
        pytest.skip("the Cityscapes scripts call numpy.in1d, which this NumPy no longer has")


@pytest.fixture(scope="session")
def datasets() -> Path:
    """DETECTRON2_DATASETS with a synthetic tree of 128 x 256 images in the Cityscapes layout."""
    from pointrend_seg.data.cityscapes_layout import TreeParameters, write_cityscapes

    write_cityscapes(DATASETS, TreeParameters(num_train=4, num_val=2, height=128, width=256))
    return DATASETS


def small_semantic_cfg(num_classes: int = 5, opts: tuple = ()) -> CfgNode:
    """The config of a small Semantic FPN with PointRend, on the CPU, from random weights."""
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
