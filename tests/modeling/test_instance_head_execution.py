"""The mask head's memory, precisions and memory layouts, and layers that were replaced."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from layer_changes import wrap
from mask_inputs import (
    HALVES,
    HEAD,
    HEIGHT,
    MASK_HEADS,
    NODE,
    WIDTH,
    Allocated,
    agreement,
    assert_finite_with_gradients,
    batch,
    builtin_head,
    builtin_of,
    detections,
    features,
    losses_of,
    mask_head,
    masks_of,
    proposals,
    reader_of,
    train_once,
)
from small_configs import small_instance_cfg

# --- cost -----------------------------------------------------------------------------------


def test_labels_are_not_copied_for_each_proposal():
    """64 boxes: Detectron2 makes 64 float masks of the image's size, and that twice."""
    images = proposals(64)
    whole = 64 * HEIGHT * WIDTH * 4
    opts = (f"{NODE}.TRAIN_NUM_POINTS", 40, f"{HEAD}.POOLER_RESOLUTION", 4)
    maps, counted = {k: v.detach() for k, v in features(1).items()}, []
    for head in (mask_head(opts), builtin_head(opts)):
        with EventStorage(), Allocated() as allocated:
            head.train()(maps, images)
        counted.append(allocated)
    assert counted[1].largest == whole
    assert counted[0].largest < whole / 2


def cost(num_classes, training):
    """What the head allocates behind its coarse logits, and how many bytes the largest is.

    Of these and the parameters, since each of them has a gradient.
    """
    opts = (f"{NODE}.SUBDIVISION_STEPS", 3)
    head, maps = mask_head(opts, num_classes, channels=8).train(training), features(1, 8)
    images = proposals(20) if training else detections(20)
    boxes = [images[0].get("proposal_boxes" if training else "pred_boxes").tensor]
    coarse = torch.zeros(20, num_classes, 7, 7, requires_grad=training)
    with torch.set_grad_enabled(training), EventStorage(), Allocated() as allocated:
        reader = reader_of(head, maps, boxes)
        if training:
            sum(head.losses(reader, coarse, images).values()).backward()
        else:
            head.inference(reader, coarse, images)
    given = [coarse, *head.point_head.parameters()]
    return allocated, max(each.nbytes for each in given)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_memory_does_not_grow_with_the_classes(training):
    """1203 classes of LVIS; Detectron2 carries them all, 72 GB for 300 boxes."""
    few, _ = cost(129, training)
    many, given = cost(1203, training)
    assert many.largest <= max(few.largest, 1.01 * given)
    assert many.total < few.total + 20 * given


@pytest.mark.parametrize("kind", MASK_HEADS)
def test_one_class_for_each_box_is_carried(kind):
    """Detectron2 subdivides the masks of all 80."""
    own, names = MASK_HEADS[kind]
    opts = (*own, "MODEL.ROI_HEADS.NUM_CLASSES", 80, f"{NODE}.NUM_CLASSES", 80)
    if kind == "implicit":
        opts += (f"{NODE}.SUBDIVISION_STEPS", 3)
    largest = []
    for head in (mask_head(opts), builtin_head(opts, names)):
        with torch.no_grad(), Allocated() as allocated:
            head.eval()(features(1), detections(4))
        largest.append(allocated.largest)
    assert largest[1] >= 4 * 80 * 224**2 * 4
    assert largest[0] < largest[1] / 10


# --- precision and layout -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("counts", [(4, 3), (0, 0)], ids=str)
@pytest.mark.parametrize(("kind", "least"), [("standard", 0.95), ("implicit", 0.9)])
def test_mixed_precision(kind, least, counts, dtype):
    head, maps = mask_head(MASK_HEADS[kind][0]), features()
    with torch.autocast("cpu", dtype=dtype):
        losses = losses_of(head, maps, proposals(*counts))
        got = masks_of(head, maps, detections(*counts))
    assert_finite_with_gradients(losses, head, zero=() if any(counts) else losses)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    want = masks_of(head, maps, detections(*counts))
    assert got.shape == want.shape
    if any(counts):
        assert agreement(got, want) > least
        assert 0.05 < (want > 0.5).float().mean() < 0.95


def test_a_model_in_mixed_precision():
    model, inputs = build_model(small_instance_cfg()), batch(0)[1:]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = train_once(model, inputs)
        assert_finite_with_gradients(losses, model.roi_heads.mask_head)
        with torch.no_grad():
            masks = model.eval()(inputs)[0]["instances"].pred_masks
    assert masks.dtype == torch.bool and masks.shape[1:] == inputs[0]["image"].shape[1:]


@pytest.mark.parametrize(("kind", "least"), [("standard", 0.98), ("implicit", 0.9)])
def test_half_precision(kind, least):
    """Detectron2's fails: points in float read from features in half."""
    half = {name: x.half() for name, x in features().items()}
    with pytest.raises(RuntimeError, match="dtype|type"), torch.no_grad():
        builtin_of(kind).half().eval()(half, detections(4, 3))
    head = mask_head(MASK_HEADS[kind][0])
    want = masks_of(head, features(), detections(4, 3))
    head = head.half()
    got = masks_of(head, half, detections(4, 3))
    assert got.dtype == torch.float32  # Detectron2 pastes at coordinates of this dtype
    assert agreement(got, want) > least
    assert_finite_with_gradients(losses_of(head, half, proposals(3, 2)), head)


@pytest.mark.parametrize("layout", ["channels_last", "transposed"])
@pytest.mark.parametrize("kind", MASK_HEADS)
def test_memory_layouts(kind, layout):
    head, maps = mask_head(MASK_HEADS[kind][0]), features()
    moved = copy.deepcopy(head)
    if layout == "channels_last":
        other = {k: v.to(memory_format=torch.channels_last) for k, v in maps.items()}
        moved.to(memory_format=torch.channels_last)
    else:
        other = {k: v.transpose(2, 3).contiguous().transpose(2, 3) for k, v in maps.items()}
    assert not other["p2"].is_contiguous()
    want, got = (masks_of(*x, detections(4, 3)) for x in ((head, maps), (moved, other)))
    assert agreement(got, want) > 0.999
    assert (got - want).abs().median() < 1e-4
    losses = []
    for each, x in ((head, maps), (moved, other)):
        torch.manual_seed(1)
        losses.append(losses_of(each, x, proposals(3, 2)))
        assert_finite_with_gradients(losses[-1], each)
    for name, loss in losses[0].items():
        torch.testing.assert_close(losses[1][name], loss, atol=1e-3, rtol=1e-3)


# --- layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["point_head.fc1", "point_head.predictor", "coarse_head.fc1"])
@pytest.mark.parametrize("num_classes", [5, 140])
def test_a_swapped_layer_is_used_in_training_and_inference(name, num_classes):
    """Also with so many classes that only one of them is computed otherwise."""
    head, maps = mask_head(num_classes=num_classes), features()
    changed, scaled = copy.deepcopy(head), copy.deepcopy(head)
    parent, _, attribute = name.rpartition(".")
    wrap(changed.get_submodule(parent), attribute)
    with torch.no_grad():
        for value in scaled.get_submodule(name).parameters():
            value.div_(2)
    losses = []
    for each in (head, changed, scaled):
        torch.manual_seed(1)
        losses.append(losses_of(each, maps, proposals(3, 2))["loss_mask_point"])
    torch.testing.assert_close(losses[1], losses[2])
    assert (losses[0] - losses[1]).abs() > 1e-4
    plain, got, want = (masks_of(each, maps, detections(3, 2)) for each in (head, changed, scaled))
    assert (got - want).abs().median() < 1e-5
    assert agreement(got, want) > 0.999
    assert (plain - got).abs().median() > 1e-3


@pytest.mark.parametrize("name", ["point_head", "point_head.fc2", "point_head.predictor"])
@pytest.mark.parametrize("num_classes", [5, 140])
def test_hooks_are_called_in_training_and_inference(name, num_classes):
    head, maps, calls = mask_head(num_classes=num_classes), features(), []
    head.get_submodule(name).register_forward_hook(lambda *_: calls.append(1))
    losses_of(head, maps, proposals(3, 2))
    assert len(calls) == 1
    masks_of(head, maps, detections(3, 2))
    assert len(calls) > 3
