"""Panoptic FPN with this package's heads in one branch or both."""

import pytest
import torch
from detectron2.modeling import build_model

from mask_inputs import assert_finite_with_gradients, batch, train_once
from pointrend_seg import InputError, adopt_config
from pointrend_seg.config import builtin_config
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


# --- configs that are written for Detectron2's PointRend, with it in one branch ----------------


def builtin_panoptic(branch):
    """A config of Detectron2's PanopticFPN with its PointRend in one branch."""
    cfg = builtin_cfg(*STANDARD, opts=("MODEL.POINT_HEAD.TRAIN_NUM_POINTS", 77))
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "PanopticFPN", 3
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 32
    if branch == "semantic":
        cfg.MODEL.SEM_SEG_HEAD.NAME = "PointRendSemSegHead"
        cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
        cfg.MODEL.ROI_MASK_HEAD.POOLER_TYPE = "ROIAlignV2"
        cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 1
        cfg.MODEL.POINT_HEAD.NUM_CLASSES = 3
        cfg.MODEL.POINT_HEAD.SUBDIVISION_STEPS = 2
        cfg.MODEL.POINT_HEAD.SUBDIVISION_NUM_POINTS = 200
    return cfg


@pytest.mark.parametrize("branch", ["semantic", "instance"])
def test_it_is_adopted_and_goes_back(branch):
    theirs = builtin_panoptic(branch)
    ours = adopt_config(theirs.clone())
    expected = {
        "semantic": ("PointRendSemanticHead", "MaskRCNNConvUpsampleHead"),
        "instance": ("SemSegFPNHead", "PointRendInstanceHead"),
    }[branch]
    assert expected == (ours.MODEL.SEM_SEG_HEAD.NAME, ours.MODEL.ROI_MASK_HEAD.NAME)
    node = ours.MODEL.SEM_SEG_POINT_HEAD if branch == "semantic" else ours.MODEL.POINT_HEAD
    assert node.TRAIN_NUM_POINTS == 77
    back = builtin_config(ours)
    models = [build_model(cfg).eval() for cfg in (theirs, ours, back)]
    for model in models:
        model.load_state_dict(models[0].state_dict(), strict=True)
        model.combine_instances_score_thresh = 0.0
        model.roi_heads.box_predictor.test_score_thresh = 0.0
        model.combine_stuff_area_thresh = 1
    with torch.no_grad():
        results = [model(batch(0)[:1])[0]["panoptic_seg"] for model in models]
    for segments, info in results[1:]:
        agree = (segments == results[0][0]).float().mean()
        assert agree > 0.99 and len(info) == len(results[0][1])


def test_both_branches_cannot_go_back():
    with pytest.raises(InputError, match="refines one branch, but both branches are of PointRend"):
        builtin_config(small_instance_cfg(opts=PANOPTIC))
