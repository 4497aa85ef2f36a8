"""Draw what a model is trained on. Pictures are RGB, (H, W, 3), uint8."""

import cv2
import numpy as np
from detectron2.structures import Instances

from ..data.classes import Classes, palette
from .labels import Label, drawn_name, write_labels
from .predictions import draw_classes
from .primitives import draw_masks, tile

_LEAST_HEIGHT = 256  # smaller images are enlarged
_POINT_SHARE = 120  # height of a picture in radii of its points


def draw_training_input(
    inputs: dict, classes: Classes, input_format: str, *, names: bool = True
) -> np.ndarray:
    """Draw an image as a mapper returns it, and beside it the same image with its labels.

    Small images are enlarged, by a whole factor. Of panoptic labels, objects are drawn over stuff.

    Args:
        inputs: with ``image`` (3, H, W) and ``sem_seg`` (H, W) or ``instances``, or both, where
            ``sem_seg`` is 0 for all things.
        input_format: order of the image's channels, "BGR" or "RGB".
        names: write names, where there is room.

    Example:
        >>> import torch
        >>> classes = Classes(("sky", "road"), palette(2), (0, 1))
        >>> inputs = {"image": torch.zeros(3, 60, 80), "sem_seg": torch.ones(60, 80).long()}
        >>> draw_training_input(inputs, classes, "RGB").shape
        (332, 818, 3)
    """
    image = inputs["image"].permute(1, 2, 0).numpy().clip(0, 255).astype(np.uint8)
    image = image[:, :, ::-1] if input_format == "BGR" else image
    factor = -(-_LEAST_HEIGHT // image.shape[0])
    image = _enlarge(image, factor)
    if "sem_seg" in inputs:
        labels = _enlarge(inputs["sem_seg"].numpy(), factor)
        if "instances" in inputs:
            labels = _without_things(labels, classes)
        labelled = draw_classes(image, labels, classes, names=names)
        ignored = labels == classes.ignore_value
        labelled = _hatch(labelled, ignored)
        title = f"labels; hatched: no class ({100 * ignored.mean():.0f} %)"
        if "instances" in inputs:
            things = labels == len(classes)
            labelled[things] = image[things]
            labelled = draw_objects(labelled, inputs["instances"], classes, factor, names=names)
            title = f"{len(inputs['instances'])} objects, stuff; {title.partition('; ')[2]}"
    else:
        labelled = draw_objects(image, inputs["instances"], classes, factor, names=names)
        title = f"{len(inputs['instances'])} objects"
        if inputs["instances"].has("gt_point_labels"):
            title += "; white: points on the object, black: points beside it"
    return tile([[image, labelled]], ["what the model sees", title])


def _without_things(labels: np.ndarray, classes: Classes) -> np.ndarray:
    """Return labels of the semantic branch (H, W) as numbers of ``classes``; things are C."""
    numbers = np.where(labels > 0, labels + (classes.num_things or 0) - 1, len(classes))
    return np.where(labels == classes.ignore_value, labels, numbers)


def draw_objects(
    image: np.ndarray,
    instances: Instances,
    classes: Classes,
    factor: int = 1,
    *,
    names: bool = True,
) -> np.ndarray:
    """Return an image (H, W, 3) with labelled objects over it: boxes, masks, points and names.

    A point has a rim in the colour of its object. It is white where its label is 1 and black where
    it is 0; points of the label -1 are left out.

    Args:
        factor: how much larger the image is than the one that has the labels.
    """
    colors = palette(len(instances))
    picture = image.copy()
    if instances.has("gt_masks"):
        masks = (_enlarge(mask.numpy().astype(bool), factor) for mask in instances.gt_masks.tensor)
        picture = draw_masks(image, masks, colors)
    labels = []
    boxes = (factor * instances.gt_boxes.tensor.numpy()).round().astype(int)
    for (x0, y0, x1, y1), number, color in zip(
        boxes, instances.gt_classes.tolist(), colors, strict=True
    ):
        x1, y1 = min(x1, image.shape[1]) - 1, min(y1, image.shape[0]) - 1
        picture[[y0, y1], x0 : x1 + 1] = color
        picture[y0 : y1 + 1, [x0, x1]] = color
        name = drawn_name(classes, number)
        labels.append(Label(name, ((x0 + x1) / 2, y0), (x1 - x0, y1 - y0), color))
    if instances.has("gt_point_labels"):
        _draw_points(picture, instances, colors, factor)
    return write_labels(picture, labels) if names else picture


def _draw_points(
    picture: np.ndarray, instances: Instances, colors: np.ndarray, factor: int
) -> None:
    """Draw the labelled points of objects on a picture that is larger by ``factor``."""
    radius = max(2, picture.shape[0] // _POINT_SHARE)
    for coords, labels, color in zip(
        instances.gt_point_coords, instances.gt_point_labels, colors, strict=True
    ):
        drawn = labels >= 0
        places = (factor * coords[drawn]).floor().int().tolist()
        for place, label in zip(places, labels[drawn].tolist(), strict=True):
            cv2.circle(picture, place, radius + 1, color.tolist(), -1)
            cv2.circle(picture, place, radius - 1, (255 * label,) * 3, -1)


def _enlarge(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Repeat each pixel of an array (H, W, …) in both directions."""
    return np.ascontiguousarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))


def _hatch(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Draw grey stripes where a mask (H, W) is set: no class has such a colour."""
    rows, columns = np.indices(where.shape)
    stripes = np.where((rows + columns) // 4 % 2, 90, 150).astype(np.uint8)[..., None]
    return np.where(where[..., None], stripes, picture)
