"""LVIS-style annotations of the synthetic scenes: many categories, some of them rare.

    ROOT/lvis/lvis_v1_{train,val}.json          LVIS's 1203 categories, of which some 36 occur
    ROOT/lvis/lvis_v0.5_val_cocofied.json       the validation images in COCO's categories, for AP*
    ROOT/lvis/synthetic.json                    what it was made from

The images are those of `coco_layout.py`, made from the same parameters. Detectron2's own
``lvis_v1_*`` and ``lvis_v0.5_val_cocofied`` data sets read them.

A thing's category depends on its kind and on how large it is in the image; the largest are the
rarest. A crowd is not annotated, as in LVIS: no category of its kind is
exhaustive in that image.
"""

import json
import os
from collections import Counter
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
    CocoParameters,
    image_record,
    jobs_of,
    numbered,
    scene_annotations,
    scene_of,
)
from .outlines import join_holes
from .trees import write_tree

# What a kind is called from small to large.
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
# The longer side of the box, as a part of the image's longer side, from which on the second, the
# third and the fourth name hold.
_STEPS = (0.16, 0.25, 0.32)
_ENLARGE = 4


class Vocabulary(NamedTuple):
    """The categories of a file.

    Attributes:
        categories: dicts with id, name, synset, synonyms and def.
        names: what a kind is called from small to large, or whatever its size.
    """

    categories: list[dict]
    names: dict[str, tuple[str, ...]]

    def name(self, item: dict) -> str:
        names = self.names[item["kind"]]
        return names[min(item["step"], len(names) - 1)]

    def ids(self) -> dict[str, int]:
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

    Arguments, result and errors are those of `write_coco`.
    """
    return write_tree(
        Path(root) / "lvis",
        asdict(parameters),
        partial(_annotate, parameters),
        jobs_of(parameters),
        finish=partial(_write_files, parameters),
        workers=workers,
        progress=progress,
    )


def _annotate(parameters: CocoParameters, root: Path, job: tuple[str, int]) -> list[dict]:
    items = scene_annotations(scene_of(parameters, *job))
    for item in items:
        extent = max(item["bbox"][2:]) / max(parameters.height, parameters.width)
        item["step"] = sum(extent > step for step in _STEPS)
        if not isinstance(item["segmentation"], list):
            item["segmentation"] = trace(mask_util.decode(item["segmentation"]))
    return items


def trace(mask: np.ndarray) -> list[list[float]]:
    """Polygons around the parts of a mask; holes are joined to the outline by a cut of no width.

    LVIS knows no run lengths, and Detectron2 reads none from it.

    Args:
        mask: (H, W), uint8, 0 and 1.
    """
    # Contours run through pixel centres; those of the enlarged mask are near the pixels' edges.
    large = mask.repeat(_ENLARGE, axis=0).repeat(_ENLARGE, axis=1)
    contours, tree = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [(ring[:, 0] + 0.5) / _ENLARGE for ring in contours]
    polygons = []
    for k, ring in enumerate(rings):
        if tree[0][k][3] < 0:  # no parent: an outline
            holes = [rings[j] for j in range(len(rings)) if tree[0][j][3] == k]
            polygons.append(join_holes([ring, *holes]).round(3).ravel().tolist())
    return [polygon for polygon in polygons if len(polygon) >= 6]


def _write_files(parameters: CocoParameters, root: Path, found: list[list[dict]]) -> None:
    for name, split, vocabulary in (
        ("lvis_v1_train", "train", _LVIS),
        ("lvis_v1_val", "val", _LVIS),
        ("lvis_v0.5_val_cocofied", "val", _COCO),
    ):
        content = {
            "info": {"description": "Synthetic scenes of pointrend_seg", "version": "1"},
            "licenses": [],
            **_images_and_annotations(parameters, split, found, vocabulary),
            "categories": _categories(parameters, found, vocabulary),
        }
        (root / f"{name}.json").write_text(json.dumps(content))


def _categories(parameters: CocoParameters, found, vocabulary: Vocabulary) -> list[dict]:
    """With how frequent each is: counted in the training images, for both splits."""
    images, instances = Counter(), Counter()
    for (split, _), items in zip(jobs_of(parameters), found, strict=True):
        if split == "train":
            names = [vocabulary.name(item) for item in items if not item["iscrowd"]]
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


def _images_and_annotations(parameters, split: str, found, vocabulary: Vocabulary) -> dict:
    ids = vocabulary.ids()
    occurring = {ids[vocabulary.name(item)] for items in found for item in items}
    images, annotations = [], []
    for (of_split, number), items in zip(jobs_of(parameters), found, strict=True):
        if of_split != split:
            continue
        singles = [item for item in items if not item["iscrowd"]]
        crowds = {item["kind"] for item in items if item["iscrowd"]}
        present = {ids[vocabulary.name(item)] for item in singles}
        crowded = {ids[name] for kind in crowds for name in vocabulary.names[kind]}
        record = image_record(parameters, split, number)
        record["neg_category_ids"] = sorted(occurring - present - crowded)
        record["not_exhaustive_category_ids"] = sorted(crowded)
        images.append(record)
        named = [{**item, "kind": vocabulary.name(item)} for item in singles]
        for item in numbered(named, record["id"], ids.__getitem__):
            del item["step"], item["iscrowd"]
            annotations.append({"id": len(annotations) + 1, **item})
    return {"images": images, "annotations": annotations}
