"""Write LVIS annotations of the synthetic scenes: many categories, some of them rare.

    ROOT/lvis/lvis_v1_{train,val}.json          the 1203 categories of LVIS, of which up to 36 occur
    ROOT/lvis/lvis_v0.5_val_cocofied.json       the validation images in COCO's categories, for AP*
    ROOT/lvis/synthetic.json                    the parameters

The images are those of `coco_layout.py` with the same parameters. Detectron2's own ``lvis_v1_*``
and ``lvis_v0.5_val_cocofied`` data sets read the files.

An object's category depends on its kind and on its size in the image; the largest objects have the
rarest categories. As in LVIS, crowds are not annotated, and the categories of their kind are not
exhaustive in that image.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES

from .coco_layout import (
    COCO_NAMES,
    INFO,
    CocoParameters,
    append_annotations,
    coco_scene,
    image_record,
    items_in_split,
    list_images,
    scene_annotations,
)
from .outlines import join_holes
from .trees import write_tree

# The categories of each kind, from small to large objects.
LVIS_NAMES = {
    "star": ("kite", "starfish", "banner", "pinwheel"),
    "ring": ("ring", "bracelet", "necklace", "tiara"),
    "gear": ("clock", "wall_clock", "pocket_watch", "doughnut"),
    "comb": ("bench", "fork", "ladder", "broom"),
    "letter": ("street_sign", "stop_sign", "signboard", "handle"),
    "pole": ("pole", "flagpole", "streetlight", "telephone_pole"),
    "bush": ("flower_arrangement", "pineapple", "artichoke", "bouquet"),
    "car": ("car_(automobile)", "cab_(taxi)", "minivan", "convertible_(automobile)"),
    "bicycle": ("bicycle", "motor_scooter", "tricycle", "dirt_bike"),
}
# Above these sizes, objects have the second, third and fourth category. The size is the longer side
# of the box as a fraction of the image's longer side.
_SIZE_STEPS = (0.16, 0.25, 0.32)
_ENLARGEMENT = 4


class Vocabulary(NamedTuple):
    """The categories of a file.

    Attributes:
        categories: dicts with id, name, synset, synonyms and def.
        names: the category names of each kind, from small to large; one name for any size.
    """

    categories: list[dict]
    names: Mapping[str, tuple[str, ...]]

    def name(self, item: dict) -> str:
        """Return the category name of an item with ``kind`` and ``step``."""
        names = self.names[item["kind"]]
        return names[min(item["step"], len(names) - 1)]

    def ids(self) -> dict[str, int]:
        """Return the category ids by name."""
        return {category["name"]: category["id"] for category in self.categories}


_LVIS = Vocabulary(LVIS_CATEGORIES, LVIS_NAMES)
_COCO = Vocabulary(
    [
        {"id": c["id"], "name": c["name"], "synset": "", "synonyms": [c["name"]], "def": ""}
        for c in COCO_CATEGORIES
        if c["isthing"]
    ],
    {kind: (name,) for kind, name in COCO_NAMES.items()},
)


def write_lvis(
    root: str | os.PathLike,
    parameters: CocoParameters,
    *,
    workers: int = 1,
    progress: bool = False,
) -> bool:
    """Write the annotations to ``root``/lvis.

    Arguments, return value and errors are those of `write_cityscapes`.
    """
    return write_tree(
        Path(root) / "lvis",
        asdict(parameters),
        partial(_annotate, parameters),
        list_images(parameters),
        finish=partial(_write_files, parameters),
        workers=workers,
        progress=progress,
    )


def _annotate(parameters: CocoParameters, root: Path, job: tuple[str, int]) -> list[dict]:
    items = scene_annotations(coco_scene(parameters, *job))
    for item in items:
        extent = max(item["bbox"][2:]) / max(parameters.height, parameters.width)
        item["step"] = sum(extent > step for step in _SIZE_STEPS)
        if not isinstance(item["segmentation"], list):
            item["segmentation"] = mask_to_polygons(mask_util.decode(item["segmentation"]))
    return items


def mask_to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Convert a mask to polygons, because LVIS files have no run lengths.

    Holes are joined to the outline by a cut of zero width.

    Args:
        mask: (H, W), uint8, 0 and 1.

    Returns:
        a list x, y, x, y, … for each connected part.
    """
    # OpenCV's contours go through pixel centres; enlarging the mask moves them near pixel edges.
    large = mask.repeat(_ENLARGEMENT, axis=0).repeat(_ENLARGEMENT, axis=1)
    contours, tree = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [(ring[:, 0] + 0.5) / _ENLARGEMENT for ring in contours]
    polygons = []
    for k, ring in enumerate(rings):
        if tree[0][k][3] < 0:  # no parent: an outline
            holes = [rings[j] for j in range(len(rings)) if tree[0][j][3] == k]
            polygons.append(join_holes([ring, *holes]).round(3).ravel().tolist())
    return [polygon for polygon in polygons if len(polygon) >= 6]


def _write_files(parameters: CocoParameters, root: Path, items: list[list[dict]]) -> None:
    for name, split, vocabulary in (
        ("lvis_v1_train", "train", _LVIS),
        ("lvis_v1_val", "val", _LVIS),
        ("lvis_v0.5_val_cocofied", "val", _COCO),
    ):
        content = {
            "info": INFO,
            "licenses": [],
            **_images_and_annotations(parameters, split, items, vocabulary),
            "categories": _categories(parameters, items, vocabulary),
        }
        (root / f"{name}.json").write_text(json.dumps(content))


def _categories(
    parameters: CocoParameters, items: list[list[dict]], vocabulary: Vocabulary
) -> list[dict]:
    """Return the categories with their frequency in the training images."""
    images: Counter[str] = Counter()
    instances: Counter[str] = Counter()
    for _, image_items in items_in_split(parameters, "train", items):
        names = [vocabulary.name(item) for item in image_items if not item["iscrowd"]]
        instances.update(names)
        images.update(set(names))
    return [
        {
            **category,
            "frequency": _frequency(images[category["name"]]),
            "image_count": images[category["name"]],
            "instance_count": instances[category["name"]],
        }
        for category in vocabulary.categories
    ]


def _frequency(images: int) -> str:
    return "r" if images <= 10 else "c" if images <= 100 else "f"


def _images_and_annotations(
    parameters: CocoParameters, split: str, items: list[list[dict]], vocabulary: Vocabulary
) -> dict[str, list[dict]]:
    ids = vocabulary.ids()
    occurring = {ids[vocabulary.name(item)] for image_items in items for item in image_items}
    images: list[dict] = []
    annotations: list[dict] = []
    for number, image_items in items_in_split(parameters, split, items):
        singles = [item for item in image_items if not item["iscrowd"]]
        crowds = {item["kind"] for item in image_items if item["iscrowd"]}
        present = {ids[vocabulary.name(item)] for item in singles}
        crowded = {ids[name] for kind in crowds for name in vocabulary.names[kind]}
        record = image_record(parameters, split, number)
        record["neg_category_ids"] = sorted(occurring - present - crowded)
        record["not_exhaustive_category_ids"] = sorted(crowded)
        images.append(record)
        named = [{**item, "kind": vocabulary.name(item)} for item in singles]
        for item in named:
            del item["step"], item["iscrowd"]
        append_annotations(annotations, named, record["id"], ids)
    return {"images": images, "annotations": annotations}
