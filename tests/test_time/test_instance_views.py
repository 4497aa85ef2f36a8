"""Objects of all views of an image: ours and Detectron2's, each with heads of this package."""

import numpy as np
import pytest
import torch
from detectron2.layers import paste_masks_in_image
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference_single_image
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch.nn import functional as F

from pointrend_seg.structures.box_masks import BoxMasks
from pointrend_seg.structures.rle_masks import RleMasks
from pointrend_seg.test_time.model import AugmentedModel
from small_configs import IMPLICIT_OPTS, small_instance_cfg

SIZES = (64, 96)
AUG = (
    *("TEST.AUG.MIN_SIZES", SIZES, "TEST.AUG.MAX_SIZE", 140),
    *("INPUT.MIN_SIZE_TEST", 0, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
    *("TEST.DETECTIONS_PER_IMAGE", 8),
)
CASCADE = (
    *("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 2000),
)
PER_BOX = ("MODEL.POINT_HEAD.MASK_RESOLUTION", -1)
HEADS = {
    "standard": (),
    "box-sized masks": PER_BOX,
    "implicit": IMPLICIT_OPTS,
    "implicit, box-sized": (*IMPLICIT_OPTS, *PER_BOX),
    "cascade": CASCADE,
    "coarse alone": ("MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", False),
    "slow path": ("MODEL.POINT_HEAD.FAST_PATH", False),
}


def image(height=70, width=93, seed=0):
    noise = np.random.default_rng(seed).integers(0, 255, (height // 7 + 1, width // 7 + 1, 3))
    smooth = Image.fromarray(noise.astype(np.uint8)).resize((width, height), Image.BICUBIC)
    return torch.from_numpy(np.array(smooth).transpose(2, 0, 1).copy())


def record(pixels):
    return {"image": pixels, "height": pixels.shape[1], "width": pixels.shape[2]}


def build(*opts):
    torch.manual_seed(0)
    cfg = small_instance_cfg(opts=(*AUG, *opts))
    model = build_model(cfg).eval()
    for module in (model.roi_heads.mask_head, model.roi_heads.box_predictor):
        for parameter in module.parameters():  # else every score and mask is about the same
            parameter.data *= 3
    return cfg, model


def views(pixels):
    """Each view's pixels (3, h, w), and whether it is mirrored; by plain loops."""
    height, width = pixels.shape[1:]
    for side in SIZES:
        w, h = int(width * side / height + 0.5), side
        picture = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((w, h), Image.BILINEAR)
        for flip in (False, True):
            array = np.array(picture)[:, ::-1] if flip else np.array(picture)
            yield torch.from_numpy(array.transpose(2, 0, 1).astype(np.float32)), flip


def mirrored(boxes, width):
    return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


@torch.no_grad()
def direct(cfg, model, pixels):
    """Boxes, scores, classes; mean masks in the boxes; these pasted. No class of either package."""
    height, width = pixels.shape[1:]
    boxes, scores = [], []
    for seen, flip in views(pixels):
        (found,) = model.inference([{"image": seen}], do_postprocess=False)
        own = mirrored(found.pred_boxes.tensor, seen.shape[2]) if flip else found.pred_boxes.tensor
        factor = [width / seen.shape[2], height / seen.shape[1]] * 2
        boxes.append(own * torch.tensor(factor))
        one_hot = F.one_hot(found.pred_classes, cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1)
        scores.append(found.scores[:, None] * one_hot)
    threshold, most = cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST, cfg.TEST.DETECTIONS_PER_IMAGE
    merged, _ = fast_rcnn_inference_single_image(
        torch.cat(boxes), torch.cat(scores), (height, width), 1e-8, threshold, most
    )
    masks = []
    for seen, flip in views(pixels):
        factor = [seen.shape[2] / width, seen.shape[1] / height] * 2
        own = merged.pred_boxes.tensor * torch.tensor(factor)
        own = mirrored(own, seen.shape[2]) if flip else own
        given = Instances(tuple(seen.shape[1:]), pred_boxes=Boxes(own))
        given.pred_classes = merged.pred_classes
        (found,) = model.inference([{"image": seen}], [given], do_postprocess=False)
        all_masks = found.pred_masks
        all_masks = all_masks.masks if isinstance(all_masks, BoxMasks) else all_masks[:, 0]
        masks.append([mask.flip(1) if flip else mask for mask in all_masks])
    means, pasted = [], []
    for box, each in zip(merged.pred_boxes.tensor, zip(*masks, strict=True), strict=True):
        side = max(len(mask) for mask in each)
        resized = [
            F.interpolate(mask[None, None], (side, side), mode="bilinear", align_corners=False)[0]
            for mask in each
        ]
        mean = torch.stack(resized).mean(0)
        means.append(mean[0])
        pasted.append(paste_masks_in_image(mean, box[None], (height, width), threshold=0.5)[0])
    return merged, torch.stack(pasted), means


def assert_equal(found, merged, masks):
    assert len(found) == len(merged) > 3
    assert torch.allclose(found.pred_boxes.tensor, merged.pred_boxes.tensor, atol=1e-3)
    assert torch.allclose(found.scores, merged.scores, atol=1e-6)
    assert torch.equal(found.pred_classes, merged.pred_classes)
    assert found.pred_masks.shape == masks.shape and found.pred_masks.dtype == torch.bool
    assert (found.pred_masks & masks).sum() > 0.99 * (found.pred_masks | masks).sum()
    assert masks.any((1, 2)).sum() > 3


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_ours_is_the_direct_computation(head):
    cfg, model = build(*HEADS[head])
    ours = AugmentedModel(model, cfg)([record(image())])[0]["instances"]
    assert_equal(ours, *direct(cfg, model, image())[:2])
    assert model.roi_heads.mask_on and ours.image_size == (70, 93)


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_detectron2s_own_is_the_direct_computation(head):
    cfg, model = build(*HEADS[head])
    theirs = GeneralizedRCNNWithTTA(cfg, model, batch_size=1)([record(image())])[0]["instances"]
    assert_equal(theirs, *direct(cfg, model, image())[:2])


@torch.no_grad()
@pytest.mark.parametrize("head", ["standard", "box-sized masks", "implicit"])
def test_detectron2s_own_in_its_batches(head):
    """Of images of several sizes in one batch, as `GeneralizedRCNNWithTTA` makes them."""
    cfg, model = build(*HEADS[head])
    inputs = [record(image()), record(image(50, 80, seed=1))]
    outputs = GeneralizedRCNNWithTTA(cfg, model)(inputs)
    for given, output in zip(inputs, outputs, strict=True):
        masks = output["instances"].pred_masks
        assert masks.shape[1:] == given["image"].shape[1:] and masks.dtype == torch.bool


@torch.no_grad()
def test_masks_are_not_those_of_one_view():
    """The direct computation would see a mask that is not mirrored back."""
    cfg, model = build()
    ours = AugmentedModel(model, cfg)([record(image())])[0]["instances"]
    cfg.TEST.AUG.FLIP = False
    other = AugmentedModel(model, cfg)([record(image())])[0]["instances"]
    assert len(ours) != len(other) or not torch.equal(ours.pred_masks, other.pred_masks)


@torch.no_grad()
@pytest.mark.parametrize("head", ["standard", "box-sized masks", "implicit", "cascade"])
@pytest.mark.parametrize("wrapper", [AugmentedModel, GeneralizedRCNNWithTTA])
def test_no_detections(head, wrapper):
    cfg, model = build(*HEADS[head], "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.1)
    augmented = (
        wrapper(model, cfg).eval() if wrapper is AugmentedModel else wrapper(cfg, model).eval()
    )
    (output,) = augmented([record(image())])
    found = output["instances"]
    assert len(found) == 0 and found.pred_masks.shape == (0, 70, 93)
    assert found.pred_boxes.tensor.shape == (0, 4) and found.image_size == (70, 93)


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (300, 20)])
def test_images_of_any_size(size):
    cfg, model = build()
    (output,) = AugmentedModel(model, cfg)([record(image(*size))])
    assert output["instances"].pred_masks.shape[1:] == size


@torch.no_grad()
def test_a_detector_without_masks():
    cfg, model = build()
    expected = AugmentedModel(model, cfg)([record(image())])[0]["instances"]
    model.roi_heads.mask_on = False
    found = AugmentedModel(model, cfg)([record(image())])[0]["instances"]
    assert not found.has("pred_masks")
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)


@torch.no_grad()
def test_the_mask_head_is_on_again_after_an_error():
    cfg, model = build()
    model.pixel_mean = torch.zeros(5, 1, 1)  # of an image that has 3 channels
    with pytest.raises(RuntimeError):
        AugmentedModel(model, cfg)([record(image())])
    assert model.roi_heads.mask_on


@torch.no_grad()
def test_several_images_give_what_each_gives_alone():
    cfg, model = build()
    augmented = AugmentedModel(model, cfg)
    images = [record(image(50, 60)), record(image(70, 40, seed=1))]
    for together, each in zip(augmented(images), images, strict=True):
        alone = augmented([each])[0]["instances"]
        assert torch.equal(together["instances"].pred_masks, alone.pred_masks)
        assert torch.equal(together["instances"].scores, alone.scores)


@torch.no_grad()
@pytest.mark.parametrize("head", ["standard", "box-sized masks"])
def test_masks_stay_in_their_boxes_where_they_may(head, monkeypatch):
    """Of three sizes: sums of coarser masks, made finer twice, would be smoother."""
    monkeypatch.setitem(globals(), "SIZES", (40, 64, 96))
    cfg, model = build(*HEADS[head])
    cfg.TEST.AUG.MIN_SIZES = SIZES
    pasted = AugmentedModel(model, cfg)([record(image())])[0]["instances"]
    found = AugmentedModel(model, cfg, paste=False)([record(image())])[0]["instances"]
    masks = found.pred_masks.to_bitmasks(found.pred_boxes, 70, 93).tensor
    assert torch.equal(masks, pasted.pred_masks)
    inside = found.pred_masks
    inside = inside.masks if isinstance(inside, BoxMasks) else inside.tensor
    for ours, mean in zip(inside, direct(cfg, model, image())[2], strict=True):
        assert torch.allclose(ours, mean, rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("head", ["standard", "box-sized masks"])
def test_objects_of_tiles(head):
    """An image in tiles has detections in the pixels of the image, at most so many in a tile."""
    cfg, model = build(*HEADS[head], "TEST.TILES.SIZE", 96, "TEST.TILES.OVERLAP", 32)
    found = AugmentedModel(model, cfg)([record(image(100, 150))])[0]["instances"]
    assert isinstance(found.pred_masks, RleMasks) and found.image_size == (100, 150)
    assert len(found) > 8 and found.pred_boxes.tensor[:, 2].max() > 120
