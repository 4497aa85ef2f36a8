"""A trace is what the model does."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from pointrend_seg.errors import InputError
from pointrend_seg.modeling.recording import trace_instances, trace_semantic
from small_configs import small_instance_cfg, small_semantic_cfg

NODE = "MODEL.POINT_HEAD"
LOW = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)


def instance_model(opts=()):
    torch.manual_seed(1)
    return build_model(small_instance_cfg(4, (*LOW, *opts))).eval()


@pytest.fixture
def image():
    return torch.rand(3, 50, 75, generator=torch.Generator().manual_seed(0)) * 255


def check_trace(model, image):
    trace = trace_instances(model, image)
    with torch.no_grad():
        (want,) = model([{"image": image}])
    want, got = want["instances"].to("cpu"), trace.instances
    assert len(got) == len(want) > 3 and torch.equal(got.pred_classes, want.pred_classes)
    assert (got.pred_masks == want.pred_masks).float().mean() > 0.9999
    assert (trace.steps[-1] == want.pred_masks.numpy()).mean() > 0.9999
    assert trace.coarse.shape == trace.steps[0].shape == (len(got), 50, 75)
    assert (trace.coarse != trace.steps[-1]).any()
    return trace


@pytest.mark.parametrize("fast", [True, False])
def test_instances(image, fast):
    model = instance_model((f"{NODE}.FAST_PATH", fast, f"{NODE}.SUBDIVISION_NUM_POINTS", 200))
    trace = check_trace(model, image)
    # 7 and 14 cells are predicted in one go; 28, 56, 112 and 224 are steps
    assert len(trace.steps) == len(trace.points) == 4
    assert all(len(points) == 200 * len(trace.instances) for points in trace.points)
    boxes = trace.instances.pred_boxes.tensor
    low, high = boxes[:, :2].min(0).values.numpy(), boxes[:, 2:].max(0).values.numpy()
    for points in trace.points:
        assert (points >= low - 1e-3).all() and (points <= high + 1e-3).all()
    assert "inference" not in vars(model.roi_heads.mask_head)  # as it was


def test_a_resolution_that_is_no_doubling(image):
    assert len(check_trace(instance_model((f"{NODE}.MASK_RESOLUTION", 100)), image).steps) == 2


def test_an_image_without_objects(image):
    model = instance_model(("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.999))
    trace = trace_instances(model, image)
    assert len(trace.instances) == 0 and trace.coarse.shape == (0, 50, 75)


def test_semantic_steps(image):
    model = build_model(small_semantic_cfg()).eval()
    trace = trace_semantic(model, image)
    assert [step.shape for step in trace.steps] == [(50, 75)] * 2
    assert np.array_equal(trace.steps[-1], trace.refined)
    first = trace.steps[0][:50, :74]
    assert np.array_equal(first[::2, ::2], first[1::2, 1::2])  # cells of two pixels


@pytest.mark.parametrize(
    ("opts", "text"),
    [
        (("MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", False), "without a point head"),
        ((f"{NODE}.MASK_RESOLUTION", -1), "is -1 .'box'."),
        (("MODEL.MASK_ON", False), "Steps and points exist only for PointRendInstanceHead"),
    ],
)
def test_models_without_steps(image, opts, text):
    with pytest.raises(InputError, match=text):
        trace_instances(instance_model(opts), image)
