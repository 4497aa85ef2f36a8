"""Each family of configs/lazy/ against its YAML config: weights, losses and outputs to the bit."""

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from mask_inputs import batch
from pointrend_seg.engine.config_loading import load_config
from tool_runs import REPOSITORY

# Random weights need a normalisation that is not frozen, and SyncBN a GPU.
_RESNET = ["backbone.bottom_up.stem.norm=BN", "backbone.bottom_up.stages.norm=BN"]
BN = ([f"model.{change}" for change in _RESNET], ["MODEL.RESNETS.NORM", "BN"])
DEEPLAB_BN = (
    ["model.backbone.stem.norm=BN"],
    ["MODEL.RESNETS.NORM", "BN", "MODEL.SEM_SEG_HEAD.NORM", "BN"],
)
# The published size of the per-box MLPs has 290 million weights.
NARROW = (
    ["model.roi_heads.mask_head.point_head.fc_dim=8"],
    ["MODEL.POINT_HEAD.FC_DIM", 8],
)
# The published size needs crops that no small image fills.
CROP = (["model.sem_seg_head.coarse_head.train_size=[64,96]"], ["INPUT.CROP.SIZE", [64, 96]])
CROP_OF_CONFIG = (["model.sem_seg_head.coarse_head.cfg.INPUT.CROP.SIZE=[64,96]"], CROP[1])
FAMILIES = {
    "cityscapes/pointrend_semantic_R_50_FPN_1x_cityscapes": [BN],
    "cityscapes/pointrend_deeplabv3_R_50_OS16_cityscapes": [DEEPLAB_BN, CROP_OF_CONFIG],
    "cityscapes/pointrend_deeplabv3plus_R_103_OS16_cityscapes": [DEEPLAB_BN, CROP],
    "coco/pointrend_rcnn_R_50_FPN_1x_coco": [BN],
    "coco/pointrend_rcnn_R_50_FPN_3x_coco": [BN],
    "coco/cascade_pointrend_rcnn_R_50_FPN_3x_coco": [BN],
    "coco/implicit_pointrend_R_50_FPN_1x_coco": [BN, NARROW],
    "coco/pointrend_panoptic_R_50_FPN_1x_coco": [BN],
    "quick/pointrend_rcnn_R_18_FPN": [],
    "quick/pointrend_panoptic_R_18_FPN": [],
    "quick/implicit_pointrend_R_18_FPN": [],
    "quick/pointrend_deeplabv3_R_18_OS16": [CROP_OF_CONFIG],
}
SEMANTIC, _, V3PLUS, _, _, CASCADE, *_ = FAMILIES
R18 = ("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64)


def small_fpn(lazy):
    """Give a lazy config ResNet-18 and an FPN of 32 channels; return the same for YAML."""
    backbone = lazy.model.backbone
    backbone.bottom_up.stages.depth = 18
    del backbone.bottom_up.stages.stride_in_1x1
    backbone.out_channels = 32
    return [*R18, "MODEL.FPN.OUT_CHANNELS", 32]


def small_cascade(lazy):
    opts = small_fpn(lazy)
    lazy.model.proposal_generator.head.in_channels = 32
    for head in lazy.model.roi_heads.box_heads:
        head.input_shape.channels, head.fc_dims = 32, [64, 64]
    for predictor in lazy.model.roi_heads.box_predictors:
        predictor.input_shape.channels = 64
        predictor.test_topk_per_image = 20
    lazy.model.roi_heads.batch_size_per_image = 32
    lazy.model.proposal_generator.post_nms_topk = (100, 50)
    boxes = ("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 32, "TEST.DETECTIONS_PER_IMAGE", 20)
    boxes += ("MODEL.RPN.POST_NMS_TOPK_TRAIN", 100, "MODEL.RPN.POST_NMS_TOPK_TEST", 50)
    return [*opts, *boxes, "MODEL.ROI_BOX_HEAD.FC_DIM", 64]


def small_deeplab(lazy):
    quick = LazyConfig.load(str(REPOSITORY / "configs/lazy/quick/pointrend_deeplabv3_R_18_OS16.py"))
    lazy.model.backbone = quick.model.backbone
    lazy.model.backbone.out_features = ["res2", "res5"]
    head = lazy.model.sem_seg_head
    head.coarse_head.input_shape = {
        "res2": {"channels": 64, "stride": 4},
        "res5": {"channels": 512, "stride": 32},
    }
    head.point_head.in_channels = 64
    basic = ("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.STEM_TYPE", "basic")
    basic += ("MODEL.RESNETS.STEM_OUT_CHANNELS", 64, "MODEL.RESNETS.RES5_DILATION", 1)
    return [*R18, *basic]


# Small ones in `make test`, all at their published size in `make test-slow`.
FAST = {SEMANTIC: small_fpn, CASCADE: small_cascade, V3PLUS: small_deeplab}
FAST |= {name: None for name in FAMILIES if name.startswith("quick/")}
# Detectron2 makes the heads of a cascade one after the other from YAML, and boxes first from lazy
# configs, also from its own.
DRAWN_IN_ANOTHER_ORDER = "roi_heads.box_"


def both(name, shrink=None):
    """The model of the lazy config and that of the YAML config, from one seed."""
    changes = FAMILIES[name]
    lazy = LazyConfig.load(str(REPOSITORY / f"configs/lazy/{name}.py"))
    LazyConfig.apply_overrides(lazy, [text for texts, _ in changes for text in texts])
    opts = [each for _, pairs in changes for each in pairs]
    opts += shrink(lazy) if shrink else []
    cfg = load_config(str(REPOSITORY / f"configs/{name}.yaml"), ["MODEL.DEVICE", "cpu", *opts])
    models = []
    for build in (lambda: instantiate(lazy.model), lambda: build_model(cfg)):
        torch.manual_seed(0)
        models.append(build())
    return models


def inputs(step, model):
    found = batch(step, ((64, 96), (64, 96)))
    if hasattr(model, "sem_seg_head"):
        generator = torch.Generator().manual_seed(step)
        for each in found:
            classes = model.sem_seg_head.num_classes
            each["sem_seg"] = torch.randint(0, classes, (64, 96), generator=generator)
    return found


def history(model):
    """The losses of each of three steps."""
    found = []
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    for step in range(3):
        torch.manual_seed(step)
        with EventStorage():
            losses = model.train()(inputs(step, model))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        # Some models of published size diverge from random weights.
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        found.append({key: loss.item() for key, loss in losses.items()})
    return found


def outputs(model):
    for each in model.modules():
        if hasattr(each, "test_score_thresh"):
            each.test_score_thresh = -1.0  # models that know nothing are to detect something
    with torch.no_grad():
        found = model.eval()(inputs(7, model))[0]
    fields = found.pop("instances").get_fields() if "instances" in found else {}
    if "panoptic_seg" in found:
        found["panoptic_seg"], _ = found["panoptic_seg"]
    fields |= found
    return {name: getattr(value, "tensor", value) for name, value in fields.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if FAST.get(name, 1) is not None])
def test_published_sizes(name):
    check_parity(name)


@pytest.mark.parametrize("name", FAST)
def test_small_models(name):
    check_parity(name, FAST[name])


def check_parity(name, shrink=None):
    lazy, yaml = both(name, shrink)
    weights, expected = lazy.state_dict(), yaml.state_dict()
    assert list(weights) == list(expected)
    other = {key for key in weights if not torch.equal(weights[key], expected[key])}
    is_cascade = "cascade" in name
    assert bool(other) == is_cascade
    assert all(key.startswith(DRAWN_IN_ANOTHER_ORDER) for key in other)
    trained = [
        {key: p.requires_grad for key, p in each.named_parameters()} for each in (lazy, yaml)
    ]
    assert trained[0] == trained[1]
    lazy.load_state_dict(expected)
    ours, theirs = (history(model) for model in (lazy, yaml))
    assert ours == theirs
    assert any("point" in key for key in ours[0])
    found, wanted = (outputs(model) for model in (lazy, yaml))
    assert found.keys() == wanted.keys()
    assert all(len(value) and torch.equal(value, wanted[key]) for key, value in found.items())


def test_every_lazy_config_has_its_parity_test():
    folder = REPOSITORY / "configs/lazy"
    files = [file.relative_to(folder) for file in folder.rglob("*.py")]
    assert {str(f.with_suffix("")) for f in files if f.parts[0] != "common"} == FAMILIES.keys()
