"""The mask heads in whole models: any R-CNN, images without objects, both branches, weights."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_BOX_HEAD_REGISTRY, build_model
from torch import nn

from mask_inputs import (
    HEAD,
    MASK_HEADS,
    NODE,
    assert_finite_with_gradients,
    batch,
    builtin_of,
    mask_head,
    train_once,
    without_objects,
)
from small_configs import IMPLICIT_OPTS, small_instance_cfg

# --- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)], ids=str)
@pytest.mark.parametrize("roi_heads", ["StandardROIHeads", "CascadeROIHeads"])
def test_training_images_without_objects(which, roi_heads):
    opts = ("MODEL.ROI_HEADS.NAME", roi_heads, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True)
    model = build_model(small_instance_cfg(opts=opts))
    losses = train_once(model, without_objects(batch(0), *which))
    head = model.roi_heads.mask_head
    zero = ("loss_mask", "loss_mask_point") if len(which) == 2 else ()
    assert_finite_with_gradients(losses, head, zero=zero)


@ROI_BOX_HEAD_REGISTRY.register()
class OneLayerBoxHead(nn.Module):
    """A box head such as users write."""

    def __init__(self, cfg, input_shape):
        super().__init__()
        self.layer = nn.Linear(input_shape.channels, 24)
        self.output_shape = ShapeSpec(channels=24)

    def forward(self, x):
        return self.layer(x.mean((2, 3))).relu()


MODELS = {
    "a box head of the user's": ("MODEL.ROI_BOX_HEAD.NAME", "OneLayerBoxHead"),
    "cascade": (
        *("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
        *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
    ),
    "predicted boxes": ("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", True),
    "one class": ("MODEL.ROI_HEADS.NUM_CLASSES", 1),
    "narrow FPN": ("MODEL.FPN.OUT_CHANNELS", 8),
    "wide FPN": ("MODEL.FPN.OUT_CHANNELS", 48),
    "two fine features": (f"{NODE}.IN_FEATURES", ("p2", "p3")),
    "class-agnostic": (f"{HEAD}.CLS_AGNOSTIC_MASK", True),
    "coarse only": (f"{HEAD}.POINT_HEAD_ON", False),
    "implicit": IMPLICIT_OPTS,
}


@pytest.mark.parametrize("opts", MODELS.values(), ids=MODELS)
def test_models_train_and_infer(opts):
    model = build_model(small_instance_cfg(opts=opts))
    inputs = batch(0)
    for each in inputs:
        each["instances"].gt_classes %= model.roi_heads.num_classes
    losses = train_once(model, inputs)
    assert_finite_with_gradients(losses, model.roi_heads.mask_head)
    with torch.no_grad():
        for each in model.eval()(inputs):
            assert each["instances"].pred_masks.shape[1:] == each["instances"].image_size
            assert each["instances"].pred_masks.dtype == torch.bool


# --- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MASK_HEADS)
def test_state_dicts_fit_both_ways(kind):
    ours, theirs = mask_head(MASK_HEADS[kind][0]), builtin_of(kind)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    for value in theirs.state_dict().values():
        nn.init.normal_(value)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_a_model_in_the_format_before_version_2():
    model = build_model(small_instance_cfg())
    want = {name: torch.randn_like(x.float()) for name, x in model.state_dict().items()}
    old = {
        name.replace("coarse_head.fc", "coarse_head.coarse_mask_fc"): want[name] for name in want
    }
    assert set(old) != set(want)
    model.load_state_dict(old, strict=True)
    got = model.roi_heads.mask_head.coarse_head.fc2.weight
    assert torch.equal(got, want["roi_heads.mask_head.coarse_head.fc2.weight"])
