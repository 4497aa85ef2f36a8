"""Draw what a model is trained on. Pictures are RGB, (H, W, 3), uint8."""

import numpy as np
from detectron2.structures import Instances

from ..data.classes import Classes, palette
from .predictions import draw_classes, write_names
from .primitives import draw_masks, tile


def draw_training_input(inputs: dict, classes: Classes, input_format: str) -> np.ndarray:
    """Draw an image as a mapper returns it, and beside it the same image with its labels.

    Args:
        inputs: with ``image`` (3, H, W) and ``sem_seg`` (H, W) or ``instances``.
        input_format: order of the image's channels, "BGR" or "RGB".

    Example:
        >>> import torch
        >>> classes = Classes(("sky", "road"), palette(2), (0, 1))
        >>> inputs = {"image": torch.zeros(3, 60, 80), "sem_seg": torch.ones(60, 80).long()}
        >>> draw_training_input(inputs, classes, "RGB").shape
        (92, 178, 3)
    """
    image = inputs["image"].permute(1, 2, 0).numpy().clip(0, 255).astype(np.uint8)
    image = np.ascontiguousarray(image[:, :, ::-1] if input_format == "BGR" else image)
    if "sem_seg" in inputs:
        labels = inputs["sem_seg"].numpy()
        labelled = draw_classes(image, labels, classes)
        ignored = labels == classes.ignore_value
        labelled = _hatch(labelled, ignored)
        title = f"labels; hatched: no class ({100 * ignored.mean():.0f} %)"
    else:
        labelled = draw_objects(image, inputs["instances"], classes)
        title = f"{len(inputs['instances'])} objects"
    return tile([[image, labelled]], ["what the model sees", title])


def draw_objects(image: np.ndarray, instances: Instances, classes: Classes) -> np.ndarray:
    """Return an image (H, W, 3) with the boxes, masks and names of labelled objects over it."""
    colors = palette(len(instances))
    picture = image.copy()
    if instances.has("gt_masks"):
        picture = draw_masks(image, instances.gt_masks.tensor.numpy().astype(bool), colors)
    labels = []
    boxes = instances.gt_boxes.tensor.numpy().round().astype(int)
    for (x0, y0, x1, y1), number, color in zip(
        boxes, instances.gt_classes.tolist(), colors, strict=True
    ):
        x1, y1 = min(x1, image.shape[1]) - 1, min(y1, image.shape[0]) - 1
        picture[[y0, y1], x0 : x1 + 1] = color
        picture[y0 : y1 + 1, [x0, x1]] = color
        labels.append((classes.names[number], (x0, y0), color))
    return write_names(picture, labels)


def _hatch(picture: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Draw grey stripes where a mask (H, W) is set: no class has such a colour."""
    rows, columns = np.indices(where.shape)
    stripes = np.where((rows + columns) // 4 % 2, 90, 150).astype(np.uint8)[..., None]
    return np.where(where[..., None], stripes, picture)
