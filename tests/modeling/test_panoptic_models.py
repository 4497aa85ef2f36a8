"""Panoptic FPN with this package's heads in one branch or both."""

import pytest
import torch
from detectron2.modeling import build_model

from mask_inputs import assert_finite_with_gradients, batch, train_once
from pointrend_seg.modeling.roi_mask_model import RoiMaskModel
from small_configs import IMPLICIT_OPTS, PANOPTIC, STANDARD, builtin_cfg, small_instance_cfg

WEIGHT = "MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT"


def panoptic_batch(seed=0):
    inputs = batch(seed)
    for each in inputs:
        each["sem_seg"] = torch.randint(0, 3, each["image"].shape[1:])
    return inputs


def test_panoptic_fpn_with_point_heads_in_both_branches():
    """In Detectron2 one node serves both, whose numbers of classes must then be the same."""
    cfg = builtin_cfg(*STANDARD)
    cfg.MODEL.META_ARCHITECTURE = "PanopticFPN"
    cfg.MODEL.SEM_SEG_HEAD.NAME, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "PointRendSemSegHead", 3
    with pytest.raises(AssertionError):
        build_model(cfg)
    model = build_model(small_instance_cfg(opts=PANOPTIC))
    assert model.sem_seg_head.point_head.fc1.out_channels == 24
    assert model.roi_heads.mask_head.point_head.fc1.out_channels == 40
    inputs = batch(0)
    for each in inputs:
        each["sem_seg"] = torch.randint(0, 3, each["image"].shape[1:])
    losses = train_once(model, inputs)
    assert {"loss_sem_seg", "loss_sem_seg_point", "loss_mask", "loss_mask_point"} <= set(losses)
    assert_finite_with_gradients(losses, model.roi_heads.mask_head)
    assert_finite_with_gradients(losses, model.sem_seg_head)
    with torch.no_grad():
        assert "panoptic_seg" in model.eval()(inputs)[0]


HEADS = {
    "standard": ((), {"loss_mask", "loss_mask_point"}),
    "read plainly": (("MODEL.POINT_HEAD.FAST_PATH", False), {"loss_mask", "loss_mask_point"}),
    "coarse only": (("MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", False), {"loss_mask"}),
    "implicit": (IMPLICIT_OPTS, {"loss_mask_point", "loss_l2"}),
}


@pytest.mark.parametrize(("opts", "mask_losses"), HEADS.values(), ids=HEADS)
def test_the_weight_of_the_instance_losses(opts, mask_losses):
    """Detectron2 sets it on the mask head, whose losses all scale with it."""
    opts = (*PANOPTIC, *opts)
    torch.manual_seed(0)
    plain = build_model(small_instance_cfg(opts=opts))
    weighted = build_model(small_instance_cfg(opts=(*opts, WEIGHT, 0.25)))
    weighted.load_state_dict(plain.state_dict())
    results = []
    for model in (plain, weighted):
        torch.manual_seed(1)
        losses = train_once(model, panoptic_batch())
        head = model.roi_heads.mask_head
        gradients = [p.grad for p in head.parameters() if p.grad is not None]
        results.append((losses, gradients))
    (before, gradients), (after, scaled) = results
    assert mask_losses <= set(before)
    for name, loss in before.items():
        # Detectron2's box predictor has a weight for loss_box_reg alone, so loss_cls stays
        factor = 0.25 if name in {*mask_losses, "loss_box_reg"} else 1
        torch.testing.assert_close(after[name], factor * loss, msg=name)
    assert gradients
    for large, small in zip(gradients, scaled, strict=True):
        torch.testing.assert_close(small, 0.25 * large)


@pytest.mark.parametrize("resolution", [28, -1])
def test_masks_of_any_resolution_are_combined(resolution):
    """Also `BoxMasks`, each mask of its own size: they are pasted before they are combined."""
    opts = (*PANOPTIC, "MODEL.POINT_HEAD.MASK_RESOLUTION", resolution)
    model = build_model(small_instance_cfg(opts=opts)).eval()
    # found and combined whatever random weights say
    model.combine_instances_score_thresh = model.roi_heads.box_predictor.test_score_thresh = 0.0
    with torch.no_grad():
        (result, *_) = model(batch(0))
    segments, info = result["panoptic_seg"]
    things = [segment for segment in info if segment["isthing"]]
    assert len(result["instances"]) and things
    for segment in things:
        mask = result["instances"].pred_masks[segment["instance_id"]]
        assert (mask | (segments != segment["id"])).all()  # what it has lies in its mask


def test_evaluation_does_not_leave_the_masks_in_their_boxes():
    """`RoiMaskModel` would give up the semantic and the panoptic output."""
    model = build_model(small_instance_cfg(opts=PANOPTIC))
    assert not RoiMaskModel.suits(model, [])
    assert RoiMaskModel.suits(build_model(small_instance_cfg()), [])
