"""Write synthetic scenes in the COCO layout.

    ROOT/coco/{train,val}2017/NNNNNNNNNNNN.jpg
    ROOT/coco/annotations/instances_{train,val}2017.json            COCO's 80 categories
    ROOT/coco/annotations/synthetic_instances_{train,val}.json      only the nine that occur
    ROOT/coco/annotations/panoptic_{train,val}2017.json             COCO's 133 categories
    ROOT/coco/annotations/synthetic_panoptic_{train,val}.json       only the 14 that occur
    ROOT/coco/panoptic_{train,val}2017/NNNNNNNNNNNN.png             segment ids
    ROOT/coco/panoptic_stuff_{train,val}2017/NNNNNNNNNNNN.png       COCO's stuff; things are 0
    ROOT/coco/synthetic.json                                        the parameters

With ``DETECTRON2_DATASETS=ROOT``, Detectron2's own ``coco_2017_*`` data sets read the files with
2017 in their name. `registration.py` registers the others. `panoptic_annotations.py` describes the
panoptic files; `lvis_annotations.py` adds LVIS annotations.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.structures import polygons_to_bitmask

from ...structures.panoptic_png import encode_ids
from .outlines import clip_ring
from .panoptic_annotations import (
    panoptic_content,
    scene_segments,
    stuff_labels,
)
from .rendering import fill, render_image, render_labels
from .scenes import Scene, SceneObject, generate_scene
from .trees import save_picture, write_tree

T = TypeVar("T")

# The COCO category of each kind of object; other kinds are background.
COCO_NAMES = {
    "star": "kite",
    "ring": "frisbee",
    "gear": "clock",
    "comb": "bench",
    "letter": "stop sign",
    "pole": "traffic light",
    "bush": "potted plant",
    "car": "car",
    "bicycle": "bicycle",
}
KIND_IDS = {kind: category_id for category_id, kind in enumerate(COCO_NAMES, start=1)}
SPLITS = ("train", "val")
INFO = {"description": "Synthetic scenes of pointrend_seg", "version": "1"}
MIN_VISIBLE_PIXELS = 16  # objects with fewer visible pixels are not annotated
# Minimum IoU of an outline in pycocotools' rasterization with the visible pixels. The rasterization
# makes details up to a pixel wider or narrower, which changes the thinnest poles too much.
MIN_POLYGON_IOU = 0.95


@dataclass(frozen=True)
class SplitSizes:
    """Numbers of images in the splits."""

    num_train: int
    num_val: int


@dataclass(frozen=True)
class CocoParameters(SplitSizes):
    """Parameters of a data set; the same parameters give the same bytes.

    Attributes:
        object_scale, crowds, deserted: as in `generate_scene`.
    """

    height: int = 320
    width: int = 480
    seed: int = 0
    object_scale: float = 2.0
    crowds: float = 0.06
    deserted: float = 0.03


def coco_scene(parameters: CocoParameters, split: str, number: int) -> Scene:
    """Generate the scene of an image."""
    return generate_scene(
        (parameters.seed, 2 + SPLITS.index(split), number),
        parameters.height,
        parameters.width,
        object_scale=parameters.object_scale,
        crowds=parameters.crowds,
        deserted=parameters.deserted,
    )


def list_images(sizes: SplitSizes) -> list[tuple[str, int]]:
    """Return split and number of each image."""
    counts = (sizes.num_train, sizes.num_val)
    return [(split, k) for split, n in zip(SPLITS, counts, strict=True) for k in range(n)]


def image_record(parameters: CocoParameters, split: str, number: int) -> dict:
    """Return the entry of an image in a COCO or LVIS file. Ids differ between the splits."""
    image_id = 1 + number + (parameters.num_train if split == "val" else 0)
    name = f"{image_id:012d}.jpg"
    return {
        "id": image_id,
        "file_name": name,
        "coco_url": f"http://images.cocodataset.org/{split}2017/{name}",
        "height": parameters.height,
        "width": parameters.width,
    }


def scene_annotations(scene: Scene, objects: np.ndarray | None = None) -> list[dict]:
    """Annotate the visible objects: kind, and bbox, area, segmentation and iscrowd as in COCO.

    Args:
        objects: as `render_labels` returns them; None to render them.

    The segmentation is a polygon, exact to 1/16 pixel, if the object is wholly visible, consists of
    one outline without holes, and is rasterized well by pycocotools. Otherwise it is the run
    lengths of the visible pixels.
    """
    if objects is None:
        _, objects = render_labels(scene)
    annotations = []
    for number, item in enumerate(scene.objects):
        visible = objects == number
        if item.kind not in COCO_NAMES or visible.sum() < MIN_VISIBLE_PIXELS:
            continue
        left, top, width, height = cv2.boundingRect(visible.astype(np.uint8))
        annotations.append(
            {
                "kind": item.kind,
                "bbox": [left, top, width, height],
                "area": int(visible.sum()),
                "segmentation": _polygons(item, visible) or _run_lengths(visible),
                "iscrowd": int(item.is_crowd),
            }
        )
    return annotations


def _polygons(item: SceneObject, visible: np.ndarray) -> list[list[float]] | None:
    if item.is_crowd or len(item.shapes) > 1 or len(item.shapes[0]) > 1:
        return None
    if not np.array_equal(fill(item.shapes[0], *visible.shape), visible):
        return None
    ring = clip_ring(item.shapes[0][0], *visible.shape)
    polygons = [np.round(ring, 4).ravel().tolist()]
    drawn = polygons_to_bitmask([np.array(p) for p in polygons], *visible.shape)
    iou = (drawn & visible).sum() / (drawn | visible).sum()
    return polygons if iou >= MIN_POLYGON_IOU else None


def _run_lengths(mask: np.ndarray) -> dict:
    encoded = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def write_coco(
    root: str | os.PathLike,
    parameters: CocoParameters,
    *,
    workers: int = 1,
    progress: bool = False,
) -> bool:
    """Write synthetic scenes to ``root``/coco.

    Arguments, return value and errors are those of `write_cityscapes`.
    """
    return write_tree(
        Path(root) / "coco",
        asdict(parameters) | {"annotations": ["instances", "panoptic"]},
        partial(_write_image, parameters),
        list_images(parameters),
        finish=partial(_write_annotations, parameters),
        workers=workers,
        progress=progress,
    )


def _write_image(
    parameters: CocoParameters, root: Path, job: tuple[str, int]
) -> tuple[list[dict], list[dict]]:
    split, number = job
    scene = coco_scene(parameters, split, number)
    kinds, objects = render_labels(scene)
    segments = scene_segments(scene, kinds, objects, set(COCO_NAMES), MIN_VISIBLE_PIXELS)
    stem = Path(image_record(parameters, split, number)["file_name"]).stem
    quality = (cv2.IMWRITE_JPEG_QUALITY, 95)
    for folder, name, picture, options in (
        (f"{split}2017", f"{stem}.jpg", render_image(scene), quality),
        (f"panoptic_{split}2017", f"{stem}.png", encode_ids(segments.ids), ()),
        (f"panoptic_stuff_{split}2017", f"{stem}.png", stuff_labels(segments), ()),
    ):
        (root / folder).mkdir(exist_ok=True)
        save_picture(root / folder / name, picture, options)
    return scene_annotations(scene, objects), segments.listed


def _write_annotations(
    parameters: CocoParameters, root: Path, items: list[tuple[list[dict], list[dict]]]
) -> None:
    coco_ids = {c["name"]: c["id"] for c in COCO_CATEGORIES if c["isthing"]}
    objects, segments = ([item[k] for item in items] for k in (0, 1))
    (root / "annotations").mkdir()
    for split in SPLITS:
        (root / f"{split}2017").mkdir(exist_ok=True)
        for name, names_and_ids, ids_by_kind in (
            (f"instances_{split}2017", coco_ids, {k: coco_ids[n] for k, n in COCO_NAMES.items()}),
            (f"synthetic_instances_{split}", KIND_IDS, KIND_IDS),
        ):
            images: list[dict] = []
            annotations: list[dict] = []
            for number, image_items in items_in_split(parameters, split, objects):
                images.append(image_record(parameters, split, number))
                append_annotations(annotations, image_items, images[-1]["id"], ids_by_kind)
            content = {
                "info": INFO,
                "licenses": [],
                "images": images,
                "annotations": annotations,
                "categories": [
                    {"id": category_id, "name": name, "supercategory": "thing"}
                    for name, category_id in names_and_ids.items()
                ],
            }
            (root / "annotations" / f"{name}.json").write_text(json.dumps(content))
        in_split = items_in_split(parameters, split, segments)
        records = [(image_record(parameters, split, number), each) for number, each in in_split]
        for name, content in (
            (f"panoptic_{split}2017", panoptic_content(records, KIND_IDS, coco_names=COCO_NAMES)),
            (f"synthetic_panoptic_{split}", panoptic_content(records, KIND_IDS)),
        ):
            text = json.dumps({"info": INFO, "licenses": [], **content})
            (root / "annotations" / f"{name}.json").write_text(text)


def items_in_split(sizes: SplitSizes, split: str, items: list[T]) -> list[tuple[int, T]]:
    """Return number and item of each image in a split.

    Args:
        items: one for each of `list_images`, such as its `scene_annotations`.
    """
    images = zip(list_images(sizes), items, strict=True)
    return [(number, item) for (name, number), item in images if name == split]


def append_annotations(
    annotations: list[dict], items: list[dict], image_id: int, category_ids: Mapping[str, int]
) -> None:
    """Append an image's items to a file's annotations, with ids in place of the kind.

    Args:
        items: as `scene_annotations` returns them.
        category_ids: by kind.
    """
    for item in items:
        ids = {
            "id": len(annotations) + 1,
            "image_id": image_id,
            "category_id": category_ids[item["kind"]],
        }
        annotations.append(ids | {key: item[key] for key in item if key != "kind"})
