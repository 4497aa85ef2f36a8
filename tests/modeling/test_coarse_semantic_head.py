"""Detectron2's DeepLab heads as coarse heads: images of any size."""

import copy

import pytest
import torch
from detectron2.layers import ASPP, ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.projects import deeplab  # noqa: F401  registers its heads
from torch.nn.functional import cross_entropy

from pointrend_seg.modeling.coarse_semantic_head import ImagePooling, build_coarse_head
from small_configs import small_semantic_cfg

HEADS = {
    "DeepLabV3Head": (
        *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res5"], "MODEL.SEM_SEG_HEAD.COMMON_STRIDE", 16),
    ),
    "DeepLabV3PlusHead": (
        *("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res2", "res5"]),
        *("MODEL.SEM_SEG_HEAD.PROJECT_FEATURES", ["res2"]),
        *("MODEL.SEM_SEG_HEAD.PROJECT_CHANNELS", [4], "MODEL.SEM_SEG_HEAD.COMMON_STRIDE", 4),
    ),
}
SHAPES = {"res2": ShapeSpec(channels=4, stride=4), "res5": ShapeSpec(channels=6, stride=16)}


def config(name):
    crop = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [64, 96])
    opts = ("MODEL.SEM_SEG_HEAD.LOSS_TYPE", "cross_entropy", "MODEL.SEM_SEG_HEAD.NORM", "")
    return small_semantic_cfg(3, (*crop, *opts, *HEADS[name]))


def features(height, width):
    size = torch.Generator().manual_seed(height + width)
    shapes = {
        name: (2, s.channels, height // s.stride, width // s.stride) for name, s in SHAPES.items()
    }
    return {name: torch.rand(shape, generator=size) for name, shape in shapes.items()}


def aspp_of(head):
    return next(module for module in head.modules() if isinstance(module, ASPP))


@pytest.mark.parametrize("name", HEADS)
def test_multiples_of_the_crop_as_in_detectron2_and_every_other_size(name):
    cfg = config(name)
    torch.manual_seed(0)
    theirs = SEM_SEG_HEADS_REGISTRY.get(name)(cfg, SHAPES).eval()
    torch.manual_seed(0)
    ours = build_coarse_head(cfg, SHAPES, name=name).eval()
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for height, width in ((64, 96), (128, 192)):
        x = features(height, width)["res5"]
        assert torch.equal(aspp_of(ours)(x), aspp_of(theirs)(x))
    for height, width in ((80, 112), (32, 48), (128, 48), (16, 16)):
        x = features(height, width)["res5"]
        with pytest.raises(ValueError, match="divisible"):
            aspp_of(theirs)(x)
        assert aspp_of(ours)(x).shape[-2:] == x.shape[-2:]


def test_windows_are_those_of_the_crop_or_the_whole_map():
    pool = ImagePooling((2, 3))
    x = torch.arange(12.0).view(1, 1, 2, 6)
    assert torch.equal(pool(x)[0, 0], x[0, 0].unfold(1, 3, 1).mean((0, 2))[None])
    assert torch.equal(pool(x[..., :2]), x[..., :2].mean((2, 3), keepdim=True))
    assert copy.deepcopy(pool).state_dict() == {}


@pytest.mark.parametrize("loss", ["cross_entropy", "hard_pixel_mining"])
@pytest.mark.parametrize(("classes", "weights"), [(1, []), (1, [1.0, 3.0]), (3, [1.0, 2.0, 5.0])])
def test_binary_and_weighted_losses_mine_hard_pixels_as_deeplab_does(loss, classes, weights):
    """Detectron2's own loss has neither, so that the loss is ours; its kind is still DeepLab's."""
    keys = ("LOSS_TYPE", loss, "NUM_CLASSES", classes, "CLASS_WEIGHTS", weights)
    opts = [f"MODEL.SEM_SEG_HEAD.{k}" if i % 2 == 0 else k for i, k in enumerate(keys)]
    cfg = config("DeepLabV3Head")
    cfg.merge_from_list([*opts, "MODEL.SEM_SEG_POINT_HEAD.IN_FEATURES", ["res2"]])
    cfg.merge_from_list(["MODEL.SEM_SEG_POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME", "DeepLabV3Head"])
    head = SEM_SEG_HEADS_REGISTRY.get("PointRendSemanticHead")(cfg, SHAPES)
    coarse = torch.randn(2, classes, 4, 6, generator=torch.Generator().manual_seed(0)) * 5
    labels = torch.arange(2 * 64 * 96).view(2, 64, 96) % max(2, classes)
    got = head.losses(coarse, features(64, 96), labels)["loss_sem_seg"]
    logits = head.upsample(coarse)
    logits = torch.cat((torch.zeros_like(logits), logits), dim=1) if classes == 1 else logits
    losses = cross_entropy(logits, labels, reduction="none")
    at_pixels = torch.tensor(weights or [1.0, 1.0])[labels]
    if loss == "hard_pixel_mining":
        hardest = (losses * at_pixels).flatten().sort(descending=True).values
        expected = hardest[: len(hardest) // 5].mean()
    else:
        expected = (losses * at_pixels).sum() / at_pixels.sum()
    torch.testing.assert_close(got, expected)
