"""Panoptic-DeepLab's semantic head as coarse head, and its weights of pixels."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY, build_model
from torch.nn import functional as F

from pointrend_seg import add_pointrend_config
from pointrend_seg.errors import InputError
from pointrend_seg.modeling.panoptic_deeplab import import_panoptic_deeplab, import_part
from pointrend_seg.modeling.semantic_head import PointRendSemanticHead
from small_configs import small_semantic_cfg

import_panoptic_deeplab()  # which registers it
HEAD = "MODEL.SEM_SEG_HEAD"
OPTS = (
    *("MODEL.SEM_SEG_POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME", "PanopticDeepLabSemSegHead"),
    *("MODEL.SEM_SEG_POINT_HEAD.IN_FEATURES", ["res2"]),
    *(f"{HEAD}.IN_FEATURES", ["res2", "res5"], f"{HEAD}.PROJECT_FEATURES", ["res2"]),
    *(f"{HEAD}.PROJECT_CHANNELS", [4], f"{HEAD}.ASPP_CHANNELS", 8, f"{HEAD}.CONVS_DIM", 8),
    *(f"{HEAD}.HEAD_CHANNELS", 8, f"{HEAD}.NORM", "", f"{HEAD}.LOSS_WEIGHT", 2.0),
    *(f"{HEAD}.ASPP_DROPOUT", 0.0, f"{HEAD}.COMMON_STRIDE", 4),
)
SHAPES = {"res2": ShapeSpec(channels=6, stride=4), "res5": ShapeSpec(channels=7, stride=16)}


def config(*opts):
    return small_semantic_cfg(3, (*OPTS, *opts))


def inputs(height=64, width=96, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = {
        name: torch.rand(2, s.channels, height // s.stride, width // s.stride, generator=generator)
        for name, s in SHAPES.items()
    }
    targets = torch.randint(0, 3, (2, height, width), generator=generator)
    targets[:, :5] = 255
    weights = torch.ones(2, height, width)
    weights[:, 20:40, 30:50] = 3.0
    return features, targets, weights


def refined_and_plain(*opts):
    """Our head over Panoptic-DeepLab's, and Detectron2's alone, with the same weights."""
    cfg = config(*opts)
    torch.manual_seed(0)
    ours = PointRendSemanticHead(cfg, SHAPES).train()
    theirs = SEM_SEG_HEADS_REGISTRY.get("PanopticDeepLabSemSegHead")(cfg, SHAPES).train()
    theirs.load_state_dict(ours.coarse_sem_seg_head.state_dict(), strict=True)
    return ours, theirs


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("share", [0.2, 1.0])
def test_the_coarse_loss_is_detectron2s_to_the_last_bit(weighted, share):
    ours, theirs = refined_and_plain(f"{HEAD}.LOSS_TOP_K", share)
    features, targets, weights = inputs()
    weights = weights if weighted else None
    _, losses = ours(features, targets, weights)
    _, expected = theirs(features, targets, weights)
    assert torch.equal(losses["loss_sem_seg"], expected["loss_sem_seg"])
    assert set(losses) == {"loss_sem_seg", "loss_sem_seg_point"}


def test_the_point_loss_is_weighted_at_the_points():
    """A weight counts once for its pixel; what the sum is divided by stays the number of points."""
    ours, _ = refined_and_plain()
    features, targets, weights = inputs()
    drawn = []
    sampler, predict = ours.point_sampler, ours.point_head.forward
    ours.point_sampler = lambda *args: drawn.append(sampler(*args)) or drawn[-1]
    logits = []
    ours.point_head.forward = lambda *args: logits.append(predict(*args)) or logits[-1]
    loss = ours(features, targets, weights)[1]["loss_sem_seg_point"]
    x, y = (drawn[0] * torch.tensor([96.0, 64.0])).long().clamp(min=0).unbind(-1)
    images = torch.arange(2)[:, None]
    labels, factors = targets[images, y, x], weights[images, y, x]
    valid = labels != 255
    assert 0 < (factors == 3).sum() < factors.numel() and not valid.all()
    each = F.cross_entropy(logits[0], labels, ignore_index=255, reduction="none")
    torch.testing.assert_close(loss, (each * factors).sum() / valid.sum())


def test_weights_of_one_change_nothing_and_of_zero_leave_nothing():
    results = []
    for factor in (None, 1.0, 0.0):
        torch.manual_seed(0)
        head = PointRendSemanticHead(config(), SHAPES).train()
        features, targets, _ = inputs()
        weights = None if factor is None else torch.full(targets.shape, factor)
        torch.manual_seed(1)
        results.append(head(features, targets, weights)[1])
    for name, loss in results[0].items():
        torch.testing.assert_close(results[1][name], loss)
        assert results[2][name] == 0


@pytest.mark.parametrize("coarse", ["SemSegFPNHead", "PanopticDeepLabSemSegHead"])
def test_a_coarse_head_whose_own_loss_takes_no_weights(coarse):
    """Detectron2's FPN head; Panoptic-DeepLab's with plain cross entropy, which fails there."""
    name = "MODEL.SEM_SEG_POINT_HEAD.COARSE_SEM_SEG_HEAD_NAME"
    cfg = config(name, coarse, f"{HEAD}.LOSS_TYPE", "cross_entropy")
    torch.manual_seed(0)
    head = PointRendSemanticHead(cfg, SHAPES).train()
    features, targets, weights = inputs()
    logits = head.upsample(head.coarse_sem_seg_head.layers(features))
    each = F.cross_entropy(logits, targets, ignore_index=255, reduction="none")
    for given, factors in ((None, 1.0), (weights, weights)):
        loss = head(features, targets, given)[1]["loss_sem_seg"]
        torch.testing.assert_close(loss, 2 * (each * factors).sum() / (targets != 255).sum())


def test_images_whose_size_is_no_multiple_of_the_stride():
    """Labels and weights are padded alike, the weights with 0."""
    ours, _ = refined_and_plain()
    features, targets, weights = inputs()
    _, losses = ours(features, targets[:, :61, :93], weights[:, :61, :93])
    targets[:, 61:], targets[:, :, 93:] = 255, 255
    _, expected = ours(features, targets, weights)
    assert torch.equal(losses["loss_sem_seg"], expected["loss_sem_seg"])


def test_weights_of_another_size():
    head, _ = refined_and_plain()
    features, targets, weights = inputs()
    with pytest.raises(InputError, match=r"'sem_seg_weights' in each data set dict is \(H, W\)"):
        head(features, targets, weights[:, ::2])


def whole_model():
    cfg = small_semantic_cfg(3)
    import_part("config").add_panoptic_deeplab_config(cfg)
    add_pointrend_config(cfg)
    branch = "MODEL.INS_EMBED_HEAD"
    opts = (
        *("MODEL.META_ARCHITECTURE", "PanopticDeepLab"),
        *("MODEL.BACKBONE.NAME", "build_resnet_backbone"),
        *("MODEL.RESNETS.OUT_FEATURES", ["res2", "res5"], "MODEL.RESNETS.NORM", "BN"),
        *(f"{branch}.IN_FEATURES", ["res2", "res5"], f"{branch}.PROJECT_FEATURES", ["res2"]),
        *(f"{branch}.PROJECT_CHANNELS", [4], f"{branch}.ASPP_CHANNELS", 8),
        *(f"{branch}.NORM", "", f"{branch}.HEAD_CHANNELS", 8, f"{branch}.CONVS_DIM", 8),
        *("DATASETS.TRAIN", ("panoptic_deeplab_step",)),
    )
    cfg.merge_from_list([*OPTS, *opts])
    metadata = MetadataCatalog.get("panoptic_deeplab_step")
    metadata.set(thing_dataset_id_to_contiguous_id={1: 1, 2: 2}, label_divisor=1000)
    return build_model(cfg)


def test_the_whole_model_trains_steps_and_predicts():
    """Detectron2's PanopticDeepLab over our head, with targets and weights of its own generator."""
    torch.manual_seed(0)
    model = whole_model()
    assert isinstance(model.sem_seg_head, PointRendSemanticHead)
    generator = import_part("target_generator").PanopticDeepLabTargetGenerator(
        255, {1, 2}, small_instance_area=4096, small_instance_weight=3
    )
    segments = np.ones((64, 96), np.int64)
    segments[10:40, 20:60], segments[30:60, 70:90] = 2, 3
    info = [{"id": k + 1, "category_id": k, "iscrowd": 0} for k in range(3)]
    record = {"image": torch.rand(3, 64, 96) * 255, "height": 64, "width": 96}
    record |= generator(segments, info)
    assert record["sem_seg_weights"].unique().tolist() == [1, 3]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    totals = []
    for _ in range(5):
        losses = model([record, record])
        assert {"loss_sem_seg", "loss_sem_seg_point", "loss_center", "loss_offset"} == set(losses)
        total = losses["loss_sem_seg"] + losses["loss_sem_seg_point"]
        optimizer.zero_grad()
        sum(losses.values()).backward()
        for parameter in model.sem_seg_head.parameters():
            assert parameter.grad.isfinite().all()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]
    with torch.no_grad():
        (result,) = model.eval()([record])
    assert result["sem_seg"].shape == (3, 64, 96)
    assert result["panoptic_seg"][0].shape == (64, 96)


# --- the way in ------------------------------------------------------------------------------


def test_it_is_imported_once_and_without_panopticapi():
    assert import_panoptic_deeplab() is import_panoptic_deeplab()
    head = SEM_SEG_HEADS_REGISTRY.get("PanopticDeepLabSemSegHead")
    assert head is import_panoptic_deeplab().PanopticDeepLabSemSegHead
    if importlib.util.find_spec("panopticapi") is None:
        assert "detectron2.projects.panoptic_deeplab" not in sys.modules


def test_with_panopticapi_it_is_detectron2s_own_package(tmp_path):
    package = tmp_path / "panopticapi"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "utils.py").write_text("rgb2id = None")
    program = (
        "from pointrend_seg.modeling.panoptic_deeplab import import_panoptic_deeplab as start\n"
        "from detectron2.projects.panoptic_deeplab import PanopticDeepLab\n"
        "assert start().PanopticDeepLab is PanopticDeepLab\n"
    )
    paths = [str(tmp_path), *filter(None, sys.path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
