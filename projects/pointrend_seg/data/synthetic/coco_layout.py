"""Synthetic scenes in the COCO layout, so that whatever reads COCO instances reads them.

    ROOT/coco/{train,val}2017/NNNNNNNNNNNN.jpg
    ROOT/coco/annotations/instances_{train,val}2017.json            COCO's 80 categories
    ROOT/coco/annotations/synthetic_instances_{train,val}.json      the nine there are
    ROOT/coco/synthetic.json                                        what it was made from

With ``DETECTRON2_DATASETS=ROOT``, Detectron2's own ``coco_2017_*`` data sets read it, and
`synthetic.py` registers the second pair. `lvis_annotations.py` adds LVIS's categories.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.structures import polygons_to_bitmask

from .outlines import clip_ring
from .rendering import fill, render_image, render_labels
from .scenes import Scene, SceneObject, generate_scene
from .trees import save_picture, write_tree

# What each kind of thing is labelled as among COCO's categories; everything else is background.
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
KINDS = tuple(COCO_NAMES)
SPLITS = ("train", "val")
# Of an object that shows fewer pixels than this, nothing is to be seen.
LEAST_PIXELS = 16
# IoU with the visible pixels that an outline must have in pycocotools' rasterisation. That one
# thickens and thins details by up to a pixel, which the thinnest poles do not bear.
LEAST_AGREEMENT = 0.95


@dataclass(frozen=True)
class CocoParameters:
    """What a tree is made from; the same parameters give the same bytes.

    Attributes:
        object_scale, crowds, deserted: see `generate_scene`.
    """

    num_train: int
    num_val: int
    height: int = 320
    width: int = 480
    seed: int = 0
    object_scale: float = 2.0
    crowds: float = 0.06
    deserted: float = 0.03


def scene_of(parameters: CocoParameters, split: str, number: int) -> Scene:
    """The scene of an image."""
    return generate_scene(
        (parameters.seed, 2 + SPLITS.index(split), number),
        parameters.height,
        parameters.width,
        object_scale=parameters.object_scale,
        crowds=parameters.crowds,
        deserted=parameters.deserted,
    )


def jobs_of(parameters: CocoParameters) -> list[tuple[str, int]]:
    """Split and number of each image."""
    counts = (parameters.num_train, parameters.num_val)
    return [(split, k) for split, n in zip(SPLITS, counts, strict=True) for k in range(n)]


def image_record(parameters: CocoParameters, split: str, number: int) -> dict:
    """The entry of an image in a COCO or LVIS file. Ids are not the same in two splits."""
    image_id = 1 + number + (parameters.num_train if split == "val" else 0)
    name = f"{image_id:012d}.jpg"
    return {
        "id": image_id,
        "file_name": name,
        "coco_url": f"http://images.cocodataset.org/{split}2017/{name}",
        "height": parameters.height,
        "width": parameters.width,
    }


def scene_annotations(scene: Scene) -> list[dict]:
    """What is to be seen of each thing: kind, bbox, area, segmentation and iscrowd as in COCO.

    An object that is one outline without holes, and wholly visible, is a polygon, exact to
    1/16 pixel, unless pycocotools draws it too differently; every other one is the run lengths
    of its visible pixels.
    """
    _, objects = render_labels(scene)
    annotations = []
    for number, item in enumerate(scene.objects):
        visible = objects == number
        if item.kind not in COCO_NAMES or visible.sum() < LEAST_PIXELS:
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
    agreement = (drawn & visible).sum() / (drawn | visible).sum()
    return polygons if agreement >= LEAST_AGREEMENT else None


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
    """Write a tree of synthetic scenes to ``root``/coco.

    Arguments, result and errors are those of `write_cityscapes`.
    """
    return write_tree(
        Path(root) / "coco",
        asdict(parameters),
        partial(_write_image, parameters),
        jobs_of(parameters),
        finish=partial(_write_annotations, parameters),
        workers=workers,
        progress=progress,
    )


def _write_image(parameters: CocoParameters, root: Path, job: tuple[str, int]) -> list[dict]:
    split, number = job
    scene = scene_of(parameters, split, number)
    folder = root / f"{split}2017"
    folder.mkdir(exist_ok=True)
    name = image_record(parameters, split, number)["file_name"]
    save_picture(folder / name, render_image(scene), (cv2.IMWRITE_JPEG_QUALITY, 95))
    return scene_annotations(scene)


def _write_annotations(parameters: CocoParameters, root: Path, found: list[list[dict]]) -> None:
    ids = {c["name"]: c["id"] for c in COCO_CATEGORIES}
    coco = [
        {"id": c["id"], "name": c["name"], "supercategory": "thing"}
        for c in COCO_CATEGORIES
        if c["isthing"]
    ]
    own = [
        {"id": k, "name": kind, "supercategory": "thing"} for k, kind in enumerate(KINDS, start=1)
    ]
    (root / "annotations").mkdir()
    for split in SPLITS:
        (root / f"{split}2017").mkdir(exist_ok=True)
        for name, categories, id_of in (
            (f"instances_{split}2017", coco, lambda kind: ids[COCO_NAMES[kind]]),
            (f"synthetic_instances_{split}", own, lambda kind: 1 + KINDS.index(kind)),
        ):
            content = _coco_file(parameters, split, found, categories, id_of)
            (root / "annotations" / f"{name}.json").write_text(json.dumps(content))


def _coco_file(parameters, split: str, found: list[list[dict]], categories, id_of) -> dict:
    images, annotations = [], []
    for (of_split, number), items in zip(jobs_of(parameters), found, strict=True):
        if of_split != split:
            continue
        images.append(image_record(parameters, split, number))
        for item in numbered(items, images[-1]["id"], id_of):
            annotations.append({"id": len(annotations) + 1, **item})
    info = {"description": "Synthetic scenes of pointrend_seg", "version": "1"}
    return {
        "info": info,
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def numbered(items: list[dict], image_id: int, id_of) -> Iterable[dict]:
    """Annotations with ``image_id`` and ``category_id`` in place of the kind."""
    for item in items:
        rest = {key: value for key, value in item.items() if key != "kind"}
        yield {"image_id": image_id, "category_id": id_of(item["kind"]), **rest}
