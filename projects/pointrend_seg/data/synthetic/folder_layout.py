"""Synthetic scenes as a folder of images and labels, such as one makes for a project of one's own.

    ROOT/images/{train,val}/NNNN.jpg
    ROOT/labels/{train,val}/NNNN.png        a class number for each pixel, 255 for none
    ROOT/classes.txt                        names and colours of these classes, in their order
    ROOT/objects_{train,val}.json           things one by one, in COCO's format
    ROOT/synthetic.json                     what it was made from

Nothing registers it: docs/custom-dataset.md goes through it as a user would.
"""

import json
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from .coco_layout import KINDS, SPLITS, numbered, scene_annotations
from .rendering import render_image, render_labels
from .scenes import Scene, generate_scene
from .trees import save_picture, write_tree

# Name, colour and kinds of the classes of pixels. What has none of these kinds has no class.
CLASSES = (
    ("sky", (70, 130, 180), ("sky",)),
    ("ground", (128, 64, 128), ("ground", "path")),
    ("building", (120, 100, 90), ("skyline",)),
    ("plant", (60, 160, 60), ("bush",)),
    ("post", (230, 190, 60), ("pole", "comb")),
    ("sign", (220, 40, 60), ("ring", "letter", "star")),
    ("vehicle", (40, 60, 200), ("car", "gear", "bicycle")),
)
NO_CLASS = 255


@dataclass(frozen=True)
class FolderParameters:
    """What a folder is made from; the same parameters give the same bytes.

    Attributes:
        object_scale: see `generate_scene`.
    """

    num_train: int
    num_val: int
    height: int = 256
    width: int = 384
    seed: int = 0
    object_scale: float = 2.0


def write_folder(
    root: str | os.PathLike,
    parameters: FolderParameters,
    *,
    workers: int = 1,
    progress: bool = False,
) -> bool:
    """Write synthetic scenes to ``root``, which must not be there.

    Arguments, result and errors are those of `write_cityscapes`.
    """
    return write_tree(
        Path(root),
        asdict(parameters),
        partial(_write_image, parameters),
        _jobs(parameters),
        finish=partial(_write_files, parameters),
        workers=workers,
        progress=progress,
    )


def _jobs(parameters: FolderParameters) -> list[tuple[str, int]]:
    counts = (parameters.num_train, parameters.num_val)
    return [(split, k) for split, n in zip(SPLITS, counts, strict=True) for k in range(n)]


def _write_image(parameters: FolderParameters, root: Path, job: tuple[str, int]) -> list[dict]:
    split, number = job
    seed = (parameters.seed, 4 + SPLITS.index(split), number)
    scale = parameters.object_scale
    scene = generate_scene(seed, parameters.height, parameters.width, object_scale=scale)
    images, labels = (root / folder / split for folder in ("images", "labels"))
    for folder in (images, labels):
        folder.mkdir(parents=True, exist_ok=True)
    quality = (cv2.IMWRITE_JPEG_QUALITY, 95)
    save_picture(images / f"{number:04d}.jpg", render_image(scene), quality)
    save_picture(labels / f"{number:04d}.png", label_image(scene))
    return scene_annotations(scene)


def label_image(scene: Scene) -> np.ndarray:
    """The class of each pixel: (H, W) uint8, a place in `CLASSES` or `NO_CLASS`."""
    class_of = {kind: k for k, (_, _, kinds) in enumerate(CLASSES) for kind in kinds}
    table = [class_of.get(kind, NO_CLASS) for kind in scene.kinds]
    return np.array(table, dtype=np.uint8)[render_labels(scene)[0]]


def _write_files(parameters: FolderParameters, root: Path, found: list[list[dict]]) -> None:
    lines = [f"{name} #{bytes(color).hex()}\n" for name, color, _ in CLASSES]
    (root / "classes.txt").write_text("".join(lines))
    for split in SPLITS:
        content = _objects(parameters, split, found)
        (root / f"objects_{split}.json").write_text(json.dumps(content))


def _objects(parameters: FolderParameters, split: str, found: list[list[dict]]) -> dict:
    images, annotations = [], []
    for (of_split, number), items in zip(_jobs(parameters), found, strict=True):
        if of_split != split:
            continue
        size = {"height": parameters.height, "width": parameters.width}
        images.append({"id": number, "file_name": f"{number:04d}.jpg", **size})
        for item in numbered(items, number, lambda kind: 1 + KINDS.index(kind)):
            annotations.append({"id": len(annotations) + 1, **item})
    categories = [{"id": k, "name": kind} for k, kind in enumerate(KINDS, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}
