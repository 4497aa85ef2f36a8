"""Make the cases of evaluation: masks in their boxes become run lengths, and scores."""

import contextlib
import io
import itertools
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.layers import paste_masks_in_image
from detectron2.structures import Boxes, Instances, ROIMasks
from torch import Tensor

from ..evaluation.coco import CocoInstanceEvaluator
from ..evaluation.region_masks import encode_region_masks
from .measurement import Case
from .setting import Setting, random_boxes, smooth_noise

IMAGE = (800, 1216)
NUM_CLASSES = 80
_NUMBERS = itertools.count()

# Boxes (N, 4), probabilities (N, 224, 224), scores (N,) and classes (N,) of an image.
Prediction = tuple[Tensor, Tensor, Tensor, Tensor]


def _predictions(
    setting: Setting, number: int, image: tuple[int, int], images: int
) -> Iterator[Prediction]:
    """Draw the prediction for each of so many images."""
    generator = setting.generator()
    for _ in range(images):
        masks = smooth_noise(setting, number, 224, 224)[0].cpu().sigmoid()
        boxes = random_boxes(number, image, generator)
        scores = torch.rand(number, generator=generator)
        yield boxes, masks, scores, torch.randint(0, NUM_CLASSES, (number,), generator=generator)


def encoding(
    setting: Setting, *, num_detections: int = 100, image: tuple[int, int] = IMAGE
) -> Case:
    """Make the case from probabilities in boxes to run lengths in the image; on the CPU."""
    boxes, masks, _, _ = next(_predictions(setting, num_detections, image, 1))

    def builtin() -> list[dict]:
        pasted = paste_masks_in_image(masks, boxes, image)
        return [
            mask_util.encode(np.array(mask[:, :, None], order="F", dtype="uint8"))[0]
            for mask in pasted
        ]

    def agreement(ours: list[dict], builtin: list[dict]) -> dict[str, float]:
        pairs = zip(ours, builtin, strict=True)
        same = [a["counts"].encode() == b["counts"] for a, b in pairs]
        return {"equal": sum(same) / len(same)}

    return Case(lambda: encode_region_masks(masks, boxes, *image), builtin, agreement)


def evaluation(
    setting: Setting,
    *,
    num_detections: int = 100,
    num_images: int = 4,
    num_objects: int = 10,
    image: tuple[int, int] = IMAGE,
) -> Case:
    """Make the case from what models return to box and mask AP; on the CPU.

    For the built-in it includes pasting the masks, since its models return pasted ones.
    """
    predictions = list(_predictions(setting, num_detections, image, num_images))
    inputs = [{"image_id": k + 1} for k in range(num_images)]
    tasks = ("bbox", "segm")

    def run(
        evaluator: COCOEvaluator, masks_of: Callable[[Tensor, Tensor], ROIMasks | Tensor]
    ) -> dict:
        evaluator.reset()
        for record, (boxes, masks, scores, classes) in zip(inputs, predictions, strict=True):
            found = Instances(image, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)
            found.pred_masks = masks_of(masks, boxes)
            evaluator.process([record], [{"instances": found}])
        with _silence():
            return evaluator.evaluate()

    def agreement(ours: dict, builtin: dict) -> dict[str, float]:
        scores = itertools.product(tasks, ("AP", "AP50", "AP75"))
        return {"AP difference": max(abs(ours[t][k] - builtin[t][k]) for t, k in scores)}

    with tempfile.TemporaryDirectory() as folder, _silence():
        name = _register(predictions, num_objects, image, folder)
        ours = CocoInstanceEvaluator(name, tasks=tasks, distributed=False)
        builtin = COCOEvaluator(name, tasks=tasks, distributed=False, use_fast_impl=False)
    return Case(
        lambda: run(ours, lambda masks, boxes: ROIMasks(masks)),
        lambda: run(builtin, lambda masks, boxes: paste_masks_in_image(masks, boxes, image)),
        agreement,
    )


def _register(
    predictions: list[Prediction], num_objects: int, image: tuple[int, int], folder: str
) -> str:
    """Register a data set whose objects are the first detections of each image; return its name."""
    annotations: list[dict[str, Any]] = []
    for number, (boxes, masks, _, classes) in enumerate(predictions, start=1):
        rles = encode_region_masks(masks[:num_objects], boxes[:num_objects], *image)
        for rle, label in zip(rles, classes.tolist(), strict=False):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "iscrowd": 0,
                    "category_id": label + 1,
                    "segmentation": rle,
                    "area": float(mask_util.area(rle)),
                    "bbox": list(mask_util.toBbox(rle)),
                }
            )
    images = [
        {"id": number + 1, "height": image[0], "width": image[1], "file_name": f"{number}.png"}
        for number in range(len(predictions))
    ]
    categories = [{"id": k + 1, "name": f"class {k}"} for k in range(NUM_CLASSES)]
    path = os.path.join(folder, "annotations.json")
    with open(path, "w") as file:
        json.dump({"images": images, "annotations": annotations, "categories": categories}, file)
    name = f"pointrend_seg_benchmark_{next(_NUMBERS)}"
    MetadataCatalog.get(name).set(
        json_file=path,
        evaluator_type="coco",
        thing_classes=[each["name"] for each in categories],
        thing_dataset_id_to_contiguous_id={k + 1: k for k in range(NUM_CLASSES)},
    )
    return name


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hide the scores that pycocotools and both evaluators print and log."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
