"""The mask head where Detectron2's fails, and at its edges."""

from dataclasses import replace

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, PolygonMasks
from torch import nn

from mask_inputs import (
    HEAD,
    HEIGHT,
    MASK_HEADS,
    NODE,
    STRIDES,
    WIDTH,
    assert_finite_with_gradients,
    builtin_head,
    builtin_of,
    detections,
    features,
    losses_of,
    mask_head,
    masks_of,
    other_classes,
    proposals,
)
from pointrend_seg import adopt_config
from pointrend_seg.errors import InputError
from pointrend_seg.points.boxes import pool
from small_configs import IMPLICIT_OPTS, STANDARD, builtin_cfg, small_instance_cfg

# --- nothing there -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("standard", {"loss_mask", "loss_mask_point"}),
        ("implicit", {"loss_l2", "loss_mask_point"}),
    ],
)
def test_no_foreground_in_the_whole_batch(kind, names):
    with pytest.raises((ValueError, RuntimeError), match="non-empty list of Tensors"):
        losses_of(builtin_of(kind), features(), proposals(0, 0))
    head = mask_head(MASK_HEADS[kind][0])
    losses = losses_of(head, features(), proposals(0, 0))
    assert set(losses) == names
    assert_finite_with_gradients(losses, head, zero=losses)


@pytest.mark.parametrize("counts", [(0,), (1,), (0, 3), (3, 0), (40, 1)], ids=str)
@pytest.mark.parametrize(
    ("opts", "side", "least"),
    [((), 224, 0.1), ((f"{HEAD}.POINT_HEAD_ON", False), 7, 0.1), (IMPLICIT_OPTS, 56, 0)],
    ids=["points", "coarse", "implicit"],
)
def test_any_number_of_boxes(opts, side, least, counts):
    head, maps = mask_head(opts), features(len(counts))
    losses = losses_of(head, maps, proposals(*counts))
    assert_finite_with_gradients(losses, head, zero=() if any(counts) else losses)
    assert all(loss > least for loss in losses.values()) or not any(counts)
    assert maps["p2"].grad is not None
    images = head.eval()(features(len(counts)), detections(*counts))
    for each, count in zip(images, counts, strict=True):
        assert each.pred_masks.shape == (count, 1, side, side)


def awkward(kind):
    boxes = torch.tensor(
        [
            [10.0, 10.0, 10.0, 40.0],
            [7.3, 9.9, 7.3, 9.9],
            [-50.0, -60.0, -10.0, -20.0],
            [WIDTH + 3.0, 5.0, WIDTH + 40.0, 30.0],
            [-30.0, -20.0, WIDTH + 30.0, HEIGHT + 20.0],
            [0.0, 0.0, WIDTH, HEIGHT],
            [20.0, 30.0, 20.01, 30.01],
        ]
    )
    images = proposals(len(boxes)) if kind == "proposal" else detections(len(boxes))
    images[0].set(f"{kind}_boxes", Boxes(boxes))
    return images


@pytest.mark.parametrize(("kind", "side"), [("standard", 224), ("implicit", 56)])
def test_boxes_without_area_and_outside_the_image(kind, side):
    head = mask_head(MASK_HEADS[kind][0])
    assert_finite_with_gradients(losses_of(head, features(1), awkward("proposal")), head)
    masks = masks_of(head, features(1), awkward("pred"))
    assert masks.shape == (7, 1, side, side) and masks.isfinite().all()


def test_images_do_not_see_one_another():
    head, maps = mask_head(), features()
    both = masks_of(head, maps, detections(4, 3))
    images = detections(4, 3)
    for k in range(2):
        alone = masks_of(head, {n: x[k : k + 1] for n, x in maps.items()}, [images[k]])
        torch.testing.assert_close(alone, both[:4] if k == 0 else both[4:], atol=1e-4, rtol=1e-4)


# --- shapes and settings -------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [8, 32, 40])
@pytest.mark.parametrize("pooler_size", [2, 7, 14])
def test_any_width_and_pooler_size(channels, pooler_size):
    head = mask_head((f"{HEAD}.POOLER_RESOLUTION", pooler_size), channels=channels)
    maps = features(channels=channels)
    assert_finite_with_gradients(losses_of(head, maps, proposals(3, 2)), head)
    assert masks_of(head, maps, detections(3, 2)).shape == (5, 1, 224, 224)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
@pytest.mark.parametrize("side", [7, 10])
def test_subdivision_steps(steps, side):
    opts = (f"{NODE}.SUBDIVISION_STEPS", steps, f"{HEAD}.OUTPUT_SIDE_RESOLUTION", side)
    head = mask_head(opts)
    masks = masks_of(head, features(), detections(2, 1))
    assert masks.shape == (3, 1, side * 2**steps, side * 2**steps)
    if (steps, side) == (1, 7):
        with pytest.raises(AttributeError, match="NoneType"):
            builtin_head(opts).eval()(features(), detections(2, 1))


def test_the_point_head_switched_off(caplog):
    opts = (f"{HEAD}.POINT_HEAD_ON", False)
    with pytest.raises(AttributeError, match="subdivision"):
        builtin_head(opts).eval()(features(), detections(2, 1))
    with caplog.at_level("WARNING"):
        head = mask_head(opts)
    assert "POINT_HEAD_ON is False: masks stay coarse, 7 x 7" in caplog.text
    assert set(losses_of(head, features(), proposals(2, 1))) == {"loss_mask"}
    assert not any("point_head" in name for name in head.state_dict())
    images, maps = detections(2, 1), features()
    masks = masks_of(head, maps, images)
    coarse = head.coarse_head(pool(maps, {"p2": 4}, [i.pred_boxes.tensor for i in images], 14))
    classes = torch.cat([i.pred_classes for i in images])
    want = torch.stack([coarse[k, c] for k, c in enumerate(classes)]).sigmoid()
    torch.testing.assert_close(masks[:, 0], want)


@pytest.mark.parametrize("key", [f"{HEAD}.CLS_AGNOSTIC_MASK", f"{NODE}.CLS_AGNOSTIC_MASK"])
def test_class_agnostic_masks_are_so_throughout(key):
    """Detectron2's coarse head predicts a mask for each class all the same."""
    assert builtin_head((key, True)).coarse_head.output_shape == (5, 7, 7)
    head = mask_head((key, True))
    assert head.coarse_head.output_shape == (1, 7, 7)
    assert head.point_head.predictor.out_channels == 1
    assert head.point_head.fc1.in_channels == 32 + 1
    assert_finite_with_gradients(losses_of(head, features(), proposals(3, 2)), head)
    maps, others = features(), other_classes(detections(3, 2))
    assert torch.equal(masks_of(head, maps, detections(3, 2)), masks_of(head, maps, others))


def test_masks_are_those_of_the_predicted_class():
    head, maps, others = mask_head(), features(), other_classes(detections(3, 2))
    assert not torch.equal(masks_of(head, maps, detections(3, 2)), masks_of(head, maps, others))


def test_several_fine_features_in_the_order_of_their_names():
    names = ("p3", "p2")
    head = mask_head((f"{NODE}.IN_FEATURES", names), channels=3)
    assert head.point_head.fc1.in_channels == 6 + 5
    seen = []
    head.point_head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    maps = {name: torch.full((1, 3, 24, 32), float(s)) for name, s in STRIDES.items()}
    head.reading = replace(head.reading, padding_mode="border")
    masks_of(head, maps, detections(2))
    assert seen[0][:, :, 0].tolist() == [[8.0] * 3 + [4.0] * 3] * 2


class CoarseAsItIs(nn.Module):
    def forward(self, fine, coarse):
        return coarse + fine[:, :1]


@pytest.mark.parametrize("padding_mode", ["zeros", "border"])
def test_constant_maps_at_the_edge_of_the_image(padding_mode):
    """With zeros they are read as less than they are there: masks stop short. Not with border."""
    edge = detections(1)[0]
    edge.pred_boxes = Boxes(torch.tensor([[WIDTH - 40.0, 20.0, WIDTH, 60.0]]))
    maps = {"p2": torch.ones(1, 32, HEIGHT // 4, WIDTH // 4)}
    head = mask_head((f"{NODE}.PADDING_MODE", padding_mode))
    pooled, points = [], []
    head.coarse_head.register_forward_pre_hook(lambda _, args: pooled.append(args[0]))
    head.coarse_head.register_forward_hook(lambda _, args, out: torch.ones_like(out))
    head.point_head = CoarseAsItIs()
    head.point_head.register_forward_pre_hook(lambda _, args: points.extend(args))
    masks = masks_of(head, maps, [edge])
    for seen in (pooled[0], points[0], points[1]):
        assert seen.max() > 0.9999 and (seen.min() > 0.9999) == (padding_mode == "border")
    assert (masks.max() - masks.min() < 1e-4) == (padding_mode == "border")


@pytest.mark.parametrize(
    ("kind", "opts", "factors"),
    [
        ("standard", (), {"loss_mask": 1, "loss_mask_point": 3}),
        (
            "implicit",
            ("MODEL.IMPLICIT_POINTREND.PARAMS_L2_REGULARIZER", 1e-3),
            {"loss_l2": 100, "loss_mask_point": 3},
        ),
    ],
)
def test_losses_have_weights(kind, opts, factors):
    losses = []
    for weights in ((), (f"{NODE}.LOSS_WEIGHT", 3.0, *opts)):
        head = mask_head((*MASK_HEADS[kind][0], *weights))
        torch.manual_seed(1)
        losses.append(losses_of(head, features(), proposals(3, 2)))
    for name, factor in factors.items():
        torch.testing.assert_close(losses[1][name], factor * losses[0][name])


# --- ground truth --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MASK_HEADS)
def test_polygons_give_the_losses_of_their_bits(kind):
    triangle = [[12.0, 9.0, 70.0, 20.0, 40.0, 80.0]]
    square = [[30.0, 30.0, 100.0, 30.0, 100.0, 85.0, 30.0, 85.0]]
    polygons = PolygonMasks([triangle, square, triangle])
    bits = BitMasks.from_polygon_masks(polygons, HEIGHT, WIDTH)
    losses = []
    for masks in (bits, polygons):
        images = proposals(3)
        images[0].gt_masks = masks
        torch.manual_seed(1)
        losses.append(losses_of(mask_head(MASK_HEADS[kind][0]), features(1), images))
    assert losses[0] == losses[1]
    with pytest.raises(AssertionError, match="bitmask"):
        losses_of(builtin_of(kind), features(1), images)


# --- what is wrong with a config -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (
            (f"{HEAD}.IN_FEATURES", ("p2", "p7")),
            r"MODEL.ROI_MASK_HEAD.IN_FEATURES is \['p2', 'p7'\].*given p2, p3, p4, p5 "
            r"\(MODEL.ROI_HEADS.IN_FEATURES\)",
        ),
        ((f"{NODE}.IN_FEATURES", ("res2",)), r"MODEL.POINT_HEAD.IN_FEATURES is \['res2'\]"),
        ((f"{NODE}.IN_FEATURES", ()), r"MODEL.POINT_HEAD.IN_FEATURES is \[\]"),
        ((f"{NODE}.IN_FEATURES", ("p2", "p2")), r"\['p2', 'p2'\]: name each feature map once"),
        (
            (f"{NODE}.PADDING_MODE", "reflect"),
            "PADDING_MODE is 'reflect'; it must be 'zeros' or 'bord",
        ),
        ((f"{NODE}.NAME", "ImplicitPointMLP"), "MODEL.POINT_HEAD.NAME.*set it to 'PointMLP'"),
        ((f"{NODE}.NAME", "StandardPointHead"), "is 'StandardPointHead'.*Known names.*PointMLP"),
        (
            ("MODEL.ROI_HEADS.NUM_CLASSES", 0),
            "MODEL.ROI_HEADS.NUM_CLASSES is 0; it must be 1 or more",
        ),
        ((f"{HEAD}.POOLER_RESOLUTION", 1), "POOLER_RESOLUTION is 1; it must be 2 or more"),
        (
            (f"{HEAD}.OUTPUT_SIDE_RESOLUTION", 0),
            "OUTPUT_SIDE_RESOLUTION is 0; it must be 1 to 1024",
        ),
        ((f"{NODE}.TRAIN_NUM_POINTS", 0), "POINT_HEAD.TRAIN_NUM_POINTS is 0; it must be 1 or more"),
        (
            (f"{NODE}.SUBDIVISION_STEPS", -1),
            "POINT_HEAD.SUBDIVISION_STEPS is -1; it must be 0 to 20",
        ),
        (
            (f"{NODE}.SUBDIVISION_NUM_POINTS", 0),
            "SUBDIVISION_NUM_POINTS is 0; it must be 1 or more",
        ),
    ],
)
def test_a_wrong_config_says_which_key(opts, message):
    with pytest.raises(InputError, match=message):
        mask_head(opts)


def test_a_pooler_that_is_not_wanted():
    message = "POOLER_TYPE is 'ROIAlignV2', but PointRendInstanceHead .* Set it to ''"
    with pytest.raises(InputError, match=message):
        build_model(small_instance_cfg(opts=(f"{HEAD}.POOLER_TYPE", "ROIAlignV2")))


def test_heads_of_one_feature_map():
    opts = ("MODEL.ROI_HEADS.NAME", "Res5ROIHeads", "MODEL.ROI_HEADS.IN_FEATURES", ["p2"])
    with pytest.raises(InputError, match="Res5ROIHeads.*StandardROIHeads or CascadeROIHeads"):
        build_model(small_instance_cfg(opts=opts))


def test_the_class_count_of_the_point_head_is_that_of_the_model():
    """Detectron2 wants the number in both places."""
    cfg = builtin_cfg(*STANDARD)
    cfg.MODEL.POINT_HEAD.NUM_CLASSES = 80
    with pytest.raises(AssertionError):
        build_model(cfg)
    head = build_model(adopt_config(cfg)).roi_heads.mask_head
    assert head.point_head.predictor.out_channels == 5


def test_without_a_point_head_its_features_do_not_matter():
    head = mask_head((f"{HEAD}.POINT_HEAD_ON", False, f"{NODE}.IN_FEATURES", ("res2",)))
    assert masks_of(head, features(), detections(2, 1)).shape == (3, 1, 7, 7)
