"""The semantic head against Detectron2's PointRendSemSegHead: same weights, same seed."""

from dataclasses import replace

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.projects.point_rend import add_pointrend_config as add_builtin_config

from pointrend_seg import add_pointrend_config, adopt_config
from small_configs import small_semantic_cfg


def builtin_cfg(each_layer, num_points):
    """A config as it is written for Detectron2's PointRend."""
    cfg = get_cfg()
    add_builtin_config(cfg)
    small = small_semantic_cfg()
    for node in ("BACKBONE", "RESNETS", "FPN"):
        cfg.MODEL[node] = small.MODEL[node].clone()
    for key in ("META_ARCHITECTURE", "DEVICE", "PIXEL_STD"):
        cfg.MODEL[key] = small.MODEL[key]
    cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemSegHead"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = cfg.MODEL.POINT_HEAD.NUM_CLASSES = 5
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = cfg.MODEL.POINT_HEAD.FC_DIM = 32
    cfg.MODEL.POINT_HEAD.COARSE_PRED_EACH_LAYER = each_layer
    cfg.MODEL.POINT_HEAD.TRAIN_NUM_POINTS = 100
    cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS = 2
    cfg.MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS = num_points
    return cfg


@pytest.fixture(params=[(True, 300), (False, 10**6)], ids=["each layer", "every point"])
def pair(request):
    """The built-in's model and ours, built from its config, with the same weights."""
    cfg = builtin_cfg(*request.param)
    torch.manual_seed(0)
    theirs = build_model(cfg)
    add_pointrend_config(cfg)
    ours = build_model(adopt_config(cfg))
    assert type(ours.sem_seg_head).__name__ == "PointRendSemanticHead"
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def batch(seed, sizes=((96, 128), (80, 100))):
    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for height, width in sizes:
        labels = torch.randint(0, 5, (height // 8, width // 4), generator=generator)
        labels = labels.repeat_interleave(8, 0).repeat_interleave(4, 1)
        labels[:7] = 255
        image = torch.rand(3, height, width, generator=generator) * 255
        inputs.append({"image": image, "sem_seg": labels})
    return inputs


def test_training_step_by_step(pair):
    """Every loss of every step to the bit, and every weight after them."""
    optimizers = [torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9) for model in pair]
    for step in range(4):
        losses = []
        for model, optimizer in zip(pair, optimizers, strict=True):
            torch.manual_seed(step)
            loss = model(batch(step))
            optimizer.zero_grad()
            sum(loss.values()).backward()
            optimizer.step()
            losses.append({name: value.item() for name, value in loss.items()})
        assert losses[0] == losses[1], step
        assert all(0 < value < 100 for value in losses[0].values())
    theirs, ours = (model.state_dict() for model in pair)
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


@torch.no_grad()
def test_inference(pair):
    """In the fast order up to the order of sums, where near-ties may choose other points.

    In the plain order to the bit.
    """
    theirs, ours = (model.eval() for model in pair)
    expected = [each["sem_seg"] for each in theirs(batch(9))]
    for want, got in zip(expected, ours(batch(9)), strict=True):
        assert (want.argmax(0) == got["sem_seg"].argmax(0)).float().mean() > 0.9995
        assert (want - got["sem_seg"]).abs().median() < 1e-5
    assert ours.sem_seg_head.reading.fast_path
    ours.sem_seg_head.reading = replace(ours.sem_seg_head.reading, fast_path=False)
    for want, got in zip(expected, ours(batch(9)), strict=True):
        assert torch.equal(got["sem_seg"], want)


def test_inference_from_non_contiguous_features(pair):
    """channels_last models give the same up to the rounding of other convolution kernels."""
    theirs, ours = (model.eval() for model in pair)
    ours = ours.to(memory_format=torch.channels_last)
    with torch.no_grad():
        want, got = theirs(batch(9))[0]["sem_seg"], ours(batch(9))[0]["sem_seg"]
    agree = want.argmax(0) == got.argmax(0)
    assert agree.float().mean() > 0.995  # near-ties may choose other points
    assert (want - got).abs().median() < 1e-5
