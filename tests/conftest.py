"""Fixtures that several test files share."""

import atexit
import importlib
import logging
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


@pytest.fixture(scope="session")
def instance_datasets() -> Path:
    """DETECTRON2_DATASETS with synthetic scenes in the COCO layout and LVIS's annotations."""
    from pointrend_seg.data.coco_layout import CocoParameters, write_coco
    from pointrend_seg.data.lvis_annotations import write_lvis

    parameters = CocoParameters(
        num_train=6, num_val=3, height=128, width=192, object_scale=1.0, deserted=0.0
    )
    write_coco(DATASETS, parameters)
    write_lvis(DATASETS, parameters)
    return DATASETS


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


@pytest.fixture
def run_in_process(monkeypatch, capsys):
    """Runs a tool of tools/ as its command line does, without the seconds of a new process.

    Takes the tool's name and its arguments; returns exit status, standard output and error.
    """
    from detectron2.utils.logger import setup_logger

    from pointrend_seg.command_line import run_tool

    def run(name: str, *args) -> tuple[int, str, str]:
        argv = [str(arg) for arg in args]
        module = importlib.import_module(name)
        monkeypatch.setattr("sys.argv", [f"tools/{name}.py", *argv])
        capsys.readouterr()
        try:
            run_tool(lambda: getattr(module, "run", module.main)(argv))
            status = 0
        except SystemExit as stopped:
            status = stopped.code
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    yield run
    setup_logger.cache_clear()
    for name in ("detectron2", "fvcore", "pointrend_seg"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.NOTSET)
