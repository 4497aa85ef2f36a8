"""Limits on the number of detections are raised for larger images, and reached ones are named."""

import pytest
import torch
from detectron2.modeling import build_model

from pointrend_seg.tiling.limits import raised_limits, reached_limit
from small_configs import small_instance_cfg


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    opts = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "MODEL.ROI_HEADS.NMS_THRESH_TEST", 1.0)
    return build_model(small_instance_cfg(4, opts)).eval()


def detections(model):
    with torch.no_grad():
        return len(model([{"image": torch.rand(3, 128, 128) * 255}])[0]["instances"])


def limits(model):
    rpn = model.proposal_generator
    found = rpn.pre_nms_topk[False], rpn.post_nms_topk[False]
    return *found, model.roi_heads.box_predictor.test_topk_per_image


def test_limits_are_raised_for_a_while(model):
    before = limits(model)
    assert before[1:] == (50, 20) and detections(model) == 20
    with raised_limits(model, 2.5):
        assert limits(model) == (int(2.5 * before[0]), 125, 50)
        assert detections(model) == 50
    assert limits(model) == before
    with pytest.raises(ZeroDivisionError), raised_limits(model, 4):
        raise ZeroDivisionError
    assert limits(model) == before
    with raised_limits(model, 1):
        assert limits(model) == before
    with raised_limits(model, 1e9):
        assert limits(model) == (20000, 20000, 20000)


def test_a_limit_that_is_reached():
    cfg = small_instance_cfg(4, ("MODEL.RPN.POST_NMS_TOPK_TEST", 150))
    assert reached_limit(cfg, 19) == ""
    message = reached_limit(cfg, 20)
    assert "has 20 detections, the most that TEST.DETECTIONS_PER_IMAGE 20 allows" in message
    assert "TEST.DETECTIONS_PER_IMAGE 40" in message
    assert reached_limit(cfg, 40, factor=4) == ""
    assert "20 allows (80 for a part of this size)" in reached_limit(cfg, 80, factor=4)
    cfg.TEST.DETECTIONS_PER_IMAGE = 200
    assert reached_limit(cfg, 74) == ""
    assert "MODEL.RPN.POST_NMS_TOPK_TEST 600" in reached_limit(cfg, 75)
    assert reached_limit(cfg, 75, proposals=False) == ""
    cfg.TEST.DETECTIONS_PER_IMAGE = -1  # no limit
    assert reached_limit(cfg, 10) == ""
