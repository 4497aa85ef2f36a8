"""The settings inferred from shapes are those of the model's config."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from pointrend_seg.checkpoint.contents import describe
from pointrend_seg.checkpoint.fit import settings_that_differ
from pointrend_seg.engine.config_loading import load_config
from small_configs import small_instance_cfg, small_semantic_cfg

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
HEAD, POINTS, SEMANTIC = "MODEL.ROI_MASK_HEAD", "MODEL.POINT_HEAD", "MODEL.SEM_SEG_POINT_HEAD"
IMPLICIT = (f"{HEAD}.NAME", "ImplicitPointRendInstanceHead", f"{POINTS}.NAME", "ImplicitPointMLP")
CASCADE = (
    *("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
    *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
)
NO_FEATURES = ("MODEL.IMPLICIT_POINTREND.IMAGE_FEATURE_ENABLED", False)
NO_POINTS = (f"{HEAD}.POINT_HEAD_ON", False)
OTHER_SIZE = (f"{POINTS}.NUM_FC", 4, f"{POINTS}.FC_DIM", 48)
AGNOSTIC = (f"{POINTS}.CLS_AGNOSTIC_MASK", True)

INSTANCE = {
    "as it is": (),
    "class-agnostic": AGNOSTIC,
    "class-agnostic by the head's key": (f"{HEAD}.CLS_AGNOSTIC_MASK", True, *AGNOSTIC),
    "the coarse prediction once": (f"{POINTS}.COARSE_PRED_EACH_LAYER", False),
    "one hidden layer": (f"{POINTS}.NUM_FC", 1, f"{POINTS}.FC_DIM", 24),
    "several maps": (f"{POINTS}.IN_FEATURES", ["p2", "p3"], f"{HEAD}.IN_FEATURES", ["p2", "p4"]),
    "other coarse masks": (f"{HEAD}.OUTPUT_SIDE_RESOLUTION", 9, f"{HEAD}.POOLER_RESOLUTION", 10),
    "a narrow map": (f"{HEAD}.CONV_DIM", 64, f"{HEAD}.NUM_FC", 3),
    "without points": NO_POINTS,
    "without points, class-agnostic": (*NO_POINTS, f"{HEAD}.CLS_AGNOSTIC_MASK", True),
    "cascade": CASCADE,
    "depth 50": ("MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256),
    "implicit": IMPLICIT,
    "implicit, deeper": (*IMPLICIT, f"{POINTS}.NUM_FC", 4, f"{POINTS}.FC_DIM", 56),
    "implicit, without features": (*IMPLICIT, *NO_FEATURES),
    "implicit, without encoding": (*IMPLICIT, "MODEL.IMPLICIT_POINTREND.POS_ENC_ENABLED", False),
    "Mask R-CNN": (f"{HEAD}.NAME", "MaskRCNNConvUpsampleHead", f"{HEAD}.POOLER_TYPE", "ROIAlignV2"),
    "boxes": ("MODEL.MASK_ON", False),
}  # fmt: skip
SEMANTIC_CASES = {
    "as it is": (),
    "one class": ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 1),
    "the coarse prediction once": (f"{SEMANTIC}.COARSE_PRED_EACH_LAYER", False),
    "two layers of 48": (f"{SEMANTIC}.NUM_FC", 2, f"{SEMANTIC}.FC_DIM", 48),
    "without PointRend": ("MODEL.SEM_SEG_HEAD.NAME", "SemSegFPNHead"),
}


def told(cfg):
    """Describe the model of a config; it is built without memory for its weights."""
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return describe(build_model(cfg).state_dict())


@pytest.mark.parametrize("name", INSTANCE)
@pytest.mark.parametrize("classes", [1, 5])
def test_instance_models(name, classes):
    cfg = small_instance_cfg(classes, opts=INSTANCE[name])
    contents = told(cfg)
    assert settings_that_differ(contents, cfg) == {}
    masks = {"boxes": "without masks", "Mask R-CNN": "without PointRend"}.get(name, "PointRend")
    assert masks in contents.tasks[0] and ("Implicit" in contents.tasks[0]) == ("impl" in name)
    assert contents.settings["MODEL.ROI_HEADS.NUM_CLASSES"] == classes
    assert contents.name_format == "current"
    if masks == "PointRend":
        assert (
            contents.settings[f"{HEAD}.POOLER_RESOLUTION"]
            == cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION
        )
        assert f"{HEAD}.FC_DIM" in contents.settings and f"{HEAD}.CONV_DIM" in contents.settings
    if "points" not in name and masks == "PointRend" and "implicit" not in name:
        assert {f"{POINTS}.FC_DIM", f"{POINTS}.NUM_FC"} < set(contents.settings)
        assert contents.facts["fine feature channels"] == 32 * len(cfg.MODEL.POINT_HEAD.IN_FEATURES)


def test_the_implicit_mlp_is_inferred_from_its_number_of_parameters():
    contents = told(small_instance_cfg(opts=INSTANCE["implicit, deeper"]))
    assert contents.settings[f"{POINTS}.FC_DIM"] == 56
    assert contents.settings[f"{POINTS}.NUM_FC"] == 4
    assert contents.facts["fine feature channels"] == 32
    several = told(small_instance_cfg(opts=(*IMPLICIT, *OTHER_SIZE)))
    (found,) = [v for k, v in several.facts.items() if k.startswith("possible MLPs")]
    assert found == [(5, 1, 72, 32), (5, 4, 48, 32)]
    assert f"{POINTS}.FC_DIM" not in several.settings


def test_ambiguous_settings_are_left_out():
    """The coarse head may predict 4 classes of 7 x 7 or one of 14 x 14."""
    contents = told(small_instance_cfg(4, opts=INSTANCE["without points"]))
    assert f"{HEAD}.OUTPUT_SIDE_RESOLUTION" not in contents.settings


@pytest.mark.parametrize("name", SEMANTIC_CASES)
def test_semantic_models(name):
    cfg = small_semantic_cfg(opts=SEMANTIC_CASES[name])
    contents = told(cfg)
    assert settings_that_differ(contents, cfg) == {}
    assert "SemSegFPNHead" in contents.tasks[0]
    assert contents.settings["MODEL.SEM_SEG_HEAD.NUM_CLASSES"] == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if name != "without PointRend":
        assert contents.facts["fine feature channels (semantic)"] == 32


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*/*.yaml")), ids=lambda p: p.stem)
def test_every_config(path):
    if any(name in path.stem for name in ("swin", "mvit", "vitdet")):
        pytest.skip("Detectron2 cannot build its transformers without memory for their weights")
    if "lite0" in path.stem:
        pytest.importorskip("timm")
    cfg = load_config(str(path))
    contents = told(cfg)
    assert settings_that_differ(contents, cfg) == {}
    assert ("resnet" in cfg.MODEL.BACKBONE.NAME) == ("MODEL.RESNETS.DEPTH" in contents.settings)
    assert not any("not known" in task for task in contents.tasks)


def test_panoptic():
    cfg = small_instance_cfg()
    semantic = small_semantic_cfg()
    cfg.MODEL.META_ARCHITECTURE = "PanopticFPN"
    cfg.MODEL.SEM_SEG_HEAD = semantic.MODEL.SEM_SEG_HEAD
    cfg.MODEL.SEM_SEG_POINT_HEAD = semantic.MODEL.SEM_SEG_POINT_HEAD
    contents = told(cfg)
    assert settings_that_differ(contents, cfg) == {}
    assert [task.split(",")[0] for task in contents.tasks] == [
        "instance segmentation",
        "semantic segmentation",
    ]


def test_detectron2s_own_models_and_their_older_names():
    from detectron2.projects import point_rend  # noqa: F401

    cfg = small_instance_cfg()
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PointRendMaskHead"
    cfg.MODEL.POINT_HEAD.NAME = "StandardPointHead"
    theirs = build_model(cfg).state_dict()
    present = describe(theirs)
    assert settings_that_differ(present, small_instance_cfg()) == {}
    version_1 = {
        k.replace("coarse_head.fc", "coarse_head.coarse_mask_fc"): v for k, v in theirs.items()
    }
    oldest = {
        k.replace("mask_head.coarse_head", "mask_coarse_head").replace(
            "mask_head.point_head", "mask_point_head"
        ): v
        for k, v in version_1.items()
    }
    assert "coarse mask head (coarse_mask_fc*)" in describe(version_1).name_format
    assert "before version 2 of PointRendROIHeads" in describe(oldest).name_format
    for old in (version_1, oldest, {f"module.{k}": v for k, v in theirs.items()}):
        assert describe(old).settings == present.settings
        assert describe(old).tasks == present.tasks and describe(old).facts == present.facts


def test_backbones_and_others():
    model = build_model(small_semantic_cfg())
    contents = describe(model.backbone.bottom_up.state_dict())
    assert contents.tasks == ["none: only a backbone"]
    assert contents.settings["MODEL.RESNETS.DEPTH"] == 18
    other = describe({"encoder.w": np.zeros(2), "decoder.w": np.zeros(3)})
    assert other.tasks == ["unknown (parts: decoder, encoder)"] and other.settings == {}


def test_a_backbone_of_caffe2():
    weights = {"conv1_w": np.zeros((64, 3, 7, 7))}
    for stage, blocks in zip("2345", (3, 4, 6, 3), strict=True):
        for block in range(blocks):
            for conv, shape in zip(
                "abc", ((8, 8, 1, 1), (64, 64, 3, 3), (8, 8, 1, 1)), strict=True
            ):
                weights[f"res{stage}_{block}_branch2{conv}_w"] = np.zeros(shape)
    contents = describe(weights)
    assert contents.tasks == ["none: only a backbone"] and contents.name_format.startswith(
        "Caffe2 "
    )
    assert contents.settings["MODEL.RESNETS.DEPTH"] == 50
    assert contents.settings["MODEL.RESNETS.WIDTH_PER_GROUP"] == 64
