"""Training from labelled points, and from labels of one's own."""

import pytest
import torch
from detectron2.modeling import ROI_MASK_HEAD_REGISTRY, build_model
from detectron2.structures import Boxes
from torch.nn import functional as F

from mask_inputs import (
    HEAD,
    MASK_HEADS,
    NODE,
    assert_finite_with_gradients,
    batch,
    features,
    losses_of,
    mask_head,
    points_in,
    proposals,
    reader_of,
    train_once,
    with_points,
    without_objects,
)
from pointrend_seg import ImplicitPointRendInstanceHead, PointRendInstanceHead
from pointrend_seg.errors import InputError
from pointrend_seg.modeling import mask_targets
from pointrend_seg.modeling.mask_targets import FullMasks, GivenPoints, find_targets
from pointrend_seg.modeling.point_heads import select_class
from pointrend_seg.modeling.readers import CoarsePrediction
from small_configs import small_instance_cfg

SLOW = (f"{NODE}.FAST_PATH", False)
HEADS = [
    *(pytest.param((*opts, *SLOW), id=f"{kind}-plain") for kind, (opts, _) in MASK_HEADS.items()),
    *(pytest.param(opts, id=f"{kind}-fast") for kind, (opts, _) in MASK_HEADS.items()),
]


def gradients_of(head, maps, images):
    """Losses, and gradients of the head and of the maps."""
    head.zero_grad()
    losses = losses_of(head, maps, images)
    found = {name: value.grad for name, value in head.named_parameters()}
    found |= {f"map {name}": value.grad for name, value in maps.items() if value.grad is not None}
    return losses, found


def assert_same(first, second, tolerance=1e-6):
    for got, want in zip(first, second, strict=True):
        assert got.keys() == want.keys()
        for name, value in want.items():
            error = (got[name] - value).abs().max()
            assert error <= tolerance * value.abs().max() + 1e-12, (name, error)


def boxes_of(images):
    """Proposal box, points and labels of each box."""
    for each in images:
        boxes = each.proposal_boxes.tensor
        yield from zip(boxes, each.gt_point_coords, each.gt_point_labels, strict=True)


# --- the losses by hand --------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [True, False])
def test_the_losses_of_the_standard_head_by_hand(fast):
    head, maps = mask_head((f"{NODE}.FAST_PATH", fast)), features()
    images = with_points(3, 2)
    images[0].gt_point_labels[1, 4:] = -1
    losses = losses_of(head, maps, images)
    boxes = [each.proposal_boxes.tensor for each in images]
    reader, classes = reader_of(head, maps, boxes), torch.cat([i.gt_classes for i in images])
    coarse = reader.pool(head.coarse_head)
    of_class = select_class(coarse, classes)
    terms = {"loss_mask": [], "loss_mask_point": []}
    for number, (box, coords, labels) in enumerate(boxes_of(images)):
        place = (coords - box[:2]) / (box[2:] - box[:2])
        counts = (labels != -1) & ((place >= 0) & (place <= 1)).all(dim=1)
        place, wanted = place[counts], labels[counts].float()
        read = F.grid_sample(
            of_class[number][None, None],
            place[None, None] * 2 - 1,
            padding_mode="border",
            align_corners=False,
        )[0, 0, 0]
        of_all = place.expand(len(coarse), -1, -1)
        _, logits = reader.point_loss(
            CoarsePrediction(coarse, classes), of_all, torch.ones(of_all.shape[:2])
        )
        for name, values in (("loss_mask", read), ("loss_mask_point", logits[number])):
            terms[name].append(F.binary_cross_entropy_with_logits(values, wanted, reduction="none"))
    for name, values in terms.items():
        assert 30 < len(torch.cat(values)) < 50
        assert losses[name].item() == pytest.approx(torch.cat(values).mean().item(), rel=1e-4)


@pytest.mark.parametrize("opts", HEADS)
def test_points_of_the_sampler_train_as_masks_do(opts, monkeypatch):
    """With the labels that the masks have there, the point loss and its gradients are the same."""
    images, maps = proposals(3, 2), features()
    head = mask_head(opts)
    seen = {}

    def remember(targets, draw):
        seen["given"] = original(targets, draw)
        return seen["given"]

    original = FullMasks.at_points
    monkeypatch.setattr(FullMasks, "at_points", remember)
    torch.manual_seed(3)
    want, _ = gradients_of(head, maps, images)
    given = GivenPoints(*seen["given"])
    monkeypatch.setattr(type(head), "targets", lambda self, instances: given)
    got, _ = gradients_of(head, features(), images)
    assert got["loss_mask_point"] == want["loss_mask_point"]


# --- points that are ignored ---------------------------------------------------------------------


@pytest.mark.parametrize("opts", HEADS)
@pytest.mark.parametrize("how", ["labelled -1", "outside of the box", "not a number"])
def test_ignored_points_are_as_if_not_there(opts, how):
    head = mask_head(opts)
    want = gradients_of(head, features(), with_points(3, 2, number=6))
    images = with_points(3, 2, number=6)
    for each in images:
        coords = each.gt_point_coords[:, :4].clone()
        labels = 1 - each.gt_point_labels[:, :4]  # the wrong ones
        if how == "labelled -1":
            labels.fill_(-1)
        elif how == "outside of the box":
            x1, y1, x2, y2 = each.proposal_boxes.tensor.T
            coords[:, 0, 0], coords[:, 1, 0] = x1 - 0.5, x2 + 0.5
            coords[:, 2, 1], coords[:, 3, 1] = y1 - 9, y2 + 0.5
        else:
            coords.fill_(float("nan"))
        each.gt_point_coords = torch.cat((coords, each.gt_point_coords), dim=1)
        each.gt_point_labels = torch.cat((labels, each.gt_point_labels), dim=1)
    assert want[0]["loss_mask_point"] > 0.1
    assert_same(gradients_of(head, features(), images), want)


@pytest.mark.parametrize("opts", HEADS)
@pytest.mark.parametrize("case", ["ignored", "no points", "no boxes", "boxes without area"])
def test_nothing_is_labelled(opts, case):
    counts = (0, 0) if case == "no boxes" else (3, 2)
    images = with_points(*counts, number=0 if case == "no points" else 5)
    for each in images:
        if case == "ignored":
            each.gt_point_labels.fill_(-1)
        elif case == "boxes without area":
            each.proposal_boxes = Boxes(each.proposal_boxes.tensor[:, [0, 1, 0, 1]])
    head, maps = mask_head(opts), features()
    losses, found = gradients_of(head, maps, images)
    zero = [name for name in losses if name != "loss_l2" or case == "no boxes"]
    assert_finite_with_gradients(losses, head, zero=zero)
    assert case == "no boxes" or "loss_l2" in losses or not any(g.any() for g in found.values())


@pytest.mark.parametrize("opts", HEADS)
def test_images_with_other_numbers_of_points(opts):
    """The mean is over all points, as if each image had as many, some of them ignored."""
    head = mask_head(opts)
    first, second = with_points(3, 2, number=8)
    second.gt_point_labels[:, 3:] = -1
    want = gradients_of(head, features(), [first, second])
    second.gt_point_coords = second.gt_point_coords[:, :3]
    second.gt_point_labels = second.gt_point_labels[:, :3]
    assert_same(gradients_of(head, features(), [first, second]), want)


@pytest.mark.parametrize("opts", HEADS)
def test_mixed_precision(opts):
    head = mask_head(opts)
    images = with_points(3, 2)
    images[0].gt_point_labels[:, :4] = -1
    want = losses_of(head, features(), images)
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(head, features(), images)
    assert_finite_with_gradients(losses, head)
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(want[name].item(), rel=0.05), name


# --- which labels are used ----------------------------------------------------------------------


@pytest.mark.parametrize("opts", HEADS)
def test_masks_are_used_where_there_are_both(opts):
    images = proposals(3, 2)
    torch.manual_seed(1)
    want = losses_of(mask_head(opts), features(), images)
    for each, points in zip(images, with_points(3, 2), strict=True):
        each.gt_point_coords, each.gt_point_labels = points.gt_point_coords, points.gt_point_labels
    torch.manual_seed(1)
    assert losses_of(mask_head(opts), features(), images) == want


def test_a_batch_of_both_kinds_is_refused():
    images = [*with_points(2), *proposals(3)]
    with pytest.raises(InputError, match=r"images with masks \(gt_masks\) and images with points"):
        losses_of(mask_head(), features(), images)
    find_targets([*with_points(2), *proposals(0)])


def test_points_without_labels_are_refused():
    (image,) = with_points(2)
    image.gt_point_labels = image.gt_point_labels[:, :5]
    with pytest.raises(
        InputError, match=r"gt_point_coords is \(2, 10, 2\); it must be .*gt_point_"
    ):
        find_targets([image])
    image.gt_point_coords, image.gt_point_labels = torch.zeros(2, 2), torch.zeros(2)
    with pytest.raises(InputError, match=r"is \(2, 2\); it must be \(objects, points, 2\)"):
        find_targets([image])
    image.remove("gt_point_labels")
    with pytest.raises(InputError, match="gt_point_labels must be there"):
        find_targets([image])
    with pytest.raises(InputError, match=r"not \(4, 2\) and \(4,\)"):
        GivenPoints(torch.zeros(4, 2), torch.zeros(4))


def test_the_log_says_once_that_points_are_used(caplog):
    mask_targets._say_once.cache_clear()
    with caplog.at_level("INFO"):
        for _ in range(3):
            find_targets(with_points(2))
        find_targets(proposals(2))
    assert caplog.text.count("Masks are trained from labelled points") == 1


# --- whole models -------------------------------------------------------------------------------

MASK_RCNN = (f"{HEAD}.NAME", "PointSupMaskRCNNHead", f"{HEAD}.POOLER_TYPE", "ROIAlignV2")
CASCADE = ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads")
CASCADE += ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True)


def point_batch(seed):
    inputs = batch(seed)
    for each in inputs:
        points_in(each["instances"], each["instances"].gt_boxes.tensor)
    return inputs


@pytest.mark.parametrize(
    ("opts", "lr"),
    [((), 5e-3), (MASK_HEADS["implicit"][0], 3e-4), (MASK_RCNN, 5e-3), (CASCADE, 5e-3)],
    ids=[*MASK_HEADS, "Mask R-CNN", "cascade"],
)
def test_models_learn_the_masks_from_points(opts, lr):
    torch.manual_seed(0)
    model = build_model(small_instance_cfg(opts=opts))
    optimizer = torch.optim.AdamW(model.roi_heads.mask_head.parameters(), lr)
    history = []
    for _ in range(8):
        optimizer.zero_grad()
        losses = train_once(model, point_batch(3))
        history.append(sum(losses[name].item() for name in losses if "mask" in name))
        optimizer.step()
    assert all(torch.isfinite(torch.tensor(history)))
    assert min(history[-3:]) < 0.85 * history[0]
    losses = train_once(model, without_objects(point_batch(3), 0))
    assert_finite_with_gradients(losses, model.roi_heads.mask_head)
    losses = train_once(model, without_objects(point_batch(3), 0, 1))
    assert all(losses[name] == 0 for name in losses if "mask" in name)


def test_mask_rcnns_head_with_masks_is_detectron2s():
    losses = []
    for name in ("PointSupMaskRCNNHead", "MaskRCNNConvUpsampleHead"):
        torch.manual_seed(0)
        model = build_model(small_instance_cfg(opts=(f"{HEAD}.NAME", name, *MASK_RCNN[2:])))
        losses.append(train_once(model, batch(3)))
    assert losses[0] == losses[1] and "loss_mask" in losses[0]


def test_mask_rcnns_head_reads_the_masks_at_the_points():
    """As Detectron2's PointSup: zeros beyond the mask, and the mean over the points that count."""
    torch.manual_seed(0)
    head = build_model(small_instance_cfg(opts=MASK_RCNN)).roi_heads.mask_head
    torch.nn.init.normal_(head.predictor.weight, std=0.5)
    pooled, images = torch.randn(5, 32, 14, 14), with_points(3, 2)
    images[1].gt_point_labels[0, :3] = -1
    losses = losses_of(head, pooled, images)
    terms = []
    classes = torch.cat([each.gt_classes for each in images])
    for number, (box, coords, labels) in enumerate(boxes_of(images)):
        mask = head.layers(pooled[number : number + 1])[:, classes[number], None]
        place = (coords - box[:2]) / (box[2:] - box[:2])
        counts = (labels != -1) & ((place >= 0) & (place <= 1)).all(dim=1)
        logits = F.grid_sample(mask, place[None, None] * 2 - 1, align_corners=False)[0, 0, 0]
        wanted = labels[counts].float()
        terms.append(F.binary_cross_entropy_with_logits(logits[counts], wanted, reduction="none"))
    assert losses["loss_mask"].item() == pytest.approx(torch.cat(terms).mean().item(), rel=1e-5)


# --- a head of the user's own -------------------------------------------------------------------


def test_a_subclass_decides_points_and_labels(request):
    """PointSup's way of its implicit head, as a subclass of ours; docs/samplers.md has one, too."""

    class LeftHalf(PointRendInstanceHead):
        """The object is the left half of each box; there is no ground truth of its mask."""

        def targets(self, instances):
            boxes = sum(len(each) for each in instances)
            coords = torch.rand(boxes, 20, 2)
            return GivenPoints(coords, coords[..., 0] < 0.5)

    assert ImplicitPointRendInstanceHead.targets is not LeftHalf.targets
    name = LeftHalf.__name__
    ROI_MASK_HEAD_REGISTRY.register(LeftHalf)
    request.addfinalizer(lambda: ROI_MASK_HEAD_REGISTRY._obj_map.pop(name))
    head, images = mask_head((f"{HEAD}.NAME", name)), proposals(4, 3)
    for each in images:
        each.remove("gt_masks")
    optimizer, maps = torch.optim.AdamW(head.parameters(), 1e-2), features()
    for _ in range(25):
        optimizer.zero_grad()
        losses = losses_of(head, maps, images)
        optimizer.step()
    assert losses["loss_mask"] < 0.3 and losses["loss_mask_point"] < 0.3
