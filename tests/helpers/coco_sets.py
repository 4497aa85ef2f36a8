"""Small data sets in COCO's format, and predictions for them, with random blobs as masks."""

import json

import cv2
import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances

CATEGORY_IDS = (3, 7, 40)  # with gaps, as COCO's
NAME = "pointrend_test_coco"


def blob(rng, height, width):
    """A connected-looking mask; it may touch the image's edge."""
    noise = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), 4)
    y, x = np.mgrid[:height, :width]
    cy, cx, r = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(4, height / 2)
    return noise / noise.std() * 0.2 + np.hypot(y - cy, x - cx) / r < 1


def mask_rle(mask):
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def box_of(mask):
    """x0, y0, x1, y1."""
    ys, xs = np.nonzero(mask)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(ys) else [0, 0, 0, 0]


def annotation(number, image_id, category_id, mask, **others):
    x0, y0, x1, y1 = map(float, box_of(mask))
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": mask_rle(mask),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(mask.sum()),
        "iscrowd": 0,
        **others,
    }


def random_set(seed=0, sizes=((120, 160), (97, 131), (64, 64), (50, 80)), crowds=True):
    """Images of several sizes, the last without objects.

    Returns:
        the content of a JSON file, and the masks in the order of the annotations.
    """
    rng = np.random.default_rng(seed)
    images, annotations, masks = [], [], []
    for image_id, (height, width) in enumerate(sizes, start=10):
        images.append({"id": image_id, "file_name": f"{image_id}.jpg"})
        images[-1].update(height=height, width=width)
        for k in range(0 if image_id - 9 == len(sizes) else 8):
            mask = blob(rng, height, width)
            if not mask.any():
                continue
            crowd = int(crowds and k == 7)
            category = CATEGORY_IDS[int(rng.integers(len(CATEGORY_IDS)))]
            number = len(masks) + 1
            annotations.append(annotation(number, image_id, category, mask, iscrowd=crowd))
            masks.append(mask)
    categories = [{"id": c, "name": f"class{c}"} for c in CATEGORY_IDS]
    return {"images": images, "annotations": annotations, "categories": categories}, masks


def register(folder, dataset, evaluator_type="coco", name=NAME):
    """(Re-)register a data set as users do, and return its name."""
    path = folder / "instances.json"
    path.write_text(json.dumps(dataset))
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)
    DatasetCatalog.register(name, list)
    ids = {category["id"]: i for i, category in enumerate(dataset["categories"])}
    MetadataCatalog.get(name).set(
        json_file=str(path),
        evaluator_type=evaluator_type,
        thing_classes=[category["name"] for category in dataset["categories"]],
        thing_dataset_id_to_contiguous_id=ids,
    )
    return name


def instances(height, width, masks=(), classes=(), scores=(), with_masks=True):
    result = Instances((height, width))
    boxes = torch.tensor([list(map(float, box_of(mask))) for mask in masks])
    result.pred_boxes = Boxes(boxes.reshape(-1, 4))
    result.pred_classes = torch.tensor(classes, dtype=torch.int64)
    result.scores = torch.tensor(scores, dtype=torch.float32)
    if with_masks:
        stacked = np.stack(masks) if len(masks) else np.zeros((0, height, width), bool)
        result.pred_masks = torch.from_numpy(stacked)
    return result


def predictions(dataset, masks, change=lambda mask, rng: mask, seed=1, **options):
    """Inputs and outputs of a model that predicts every annotation, each mask changed."""
    rng = np.random.default_rng(seed)
    index = {category["id"]: i for i, category in enumerate(dataset["categories"])}
    inputs, outputs = [], []
    for image in dataset["images"]:
        own = [k for k, a in enumerate(dataset["annotations"]) if a["image_id"] == image["id"]]
        inputs.append({"image_id": image["id"], "file_name": image["file_name"]})
        predicted = instances(
            image["height"],
            image["width"],
            [change(masks[k], rng) for k in own],
            [index[dataset["annotations"][k]["category_id"]] for k in own],
            rng.uniform(0.1, 1, len(own)).round(2).tolist(),
            **options,
        )
        outputs.append({"instances": predicted})
    return inputs, outputs


def random_predictions(dataset, masks, seed=1):
    """Some good, some bad, some of the wrong class, some twice, some missing."""

    def disturb(mask, rng):
        shift = rng.integers(-6, 7, 2) * (rng.random() < 0.7)
        return np.roll(mask, shift, axis=(0, 1)) ^ (blob(rng, *mask.shape) & (rng.random() < 0.2))

    first = predictions(dataset, masks, disturb, seed)
    second = predictions(dataset, masks, disturb, seed + 1)
    rng = np.random.default_rng(seed)
    outputs = []
    for a, b in zip(first[1], second[1], strict=True):
        both = Instances.cat([a["instances"], b["instances"]])
        kept = both[torch.from_numpy(rng.random(len(both)) < 0.8)]
        wrong = torch.from_numpy(rng.random(len(kept)) < 0.2)
        classes = len(dataset["categories"])
        kept.pred_classes = torch.where(wrong, (kept.pred_classes + 1) % classes, kept.pred_classes)
        outputs.append({"instances": kept})
    return first[0], outputs


def run(evaluator, inputs, outputs):
    evaluator.reset()
    for record, output in zip(inputs, outputs, strict=True):
        evaluator.process([record], [output])
    return evaluator.evaluate()
