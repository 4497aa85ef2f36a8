"""Write synthetic scenes as a folder of images and labels, like a user's own data.

    ROOT/images/{train,val}/NNNN.jpg
    ROOT/labels/{train,val}/NNNN.png        the class index of each pixel, 255 for unlabelled ones
    ROOT/classes.txt                        names and colours of these classes
    ROOT/objects_{train,val}.json           instances, in COCO format
    ROOT/synthetic.json                     the parameters

It is not registered: docs/custom-dataset.md uses it as a user would.
"""

import json
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from .coco_layout import (
    KIND_IDS,
    SPLITS,
    SplitSizes,
    append_annotations,
    items_in_split,
    list_images,
    scene_annotations,
)
from .rendering import render_image, render_labels
from .scenes import Scene, generate_scene
from .trees import save_picture, write_tree

# Name, colour and kinds of the semantic classes. Other kinds are unlabelled.
CLASSES = (
    ("sky", (70, 130, 180), ("sky",)),
    ("ground", (128, 64, 128), ("ground", "path")),
    ("building", (120, 100, 90), ("skyline",)),
    ("plant", (60, 160, 60), ("bush",)),
    ("post", (230, 190, 60), ("pole", "comb")),
    ("sign", (220, 40, 60), ("ring", "letter", "star")),
    ("vehicle", (40, 60, 200), ("car", "gear", "bicycle")),
)
UNLABELLED = 255


@dataclass(frozen=True)
class FolderParameters(SplitSizes):
    """Parameters of a data set; the same parameters give the same bytes.

    Attributes:
        object_scale: as in `generate_scene`.
    """

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
    """Write synthetic scenes to ``root``.

    Arguments, return value and errors are those of `write_cityscapes`.
    """
    return write_tree(
        Path(root),
        asdict(parameters),
        partial(_write_image, parameters),
        list_images(parameters),
        finish=partial(_write_files, parameters),
        workers=workers,
        progress=progress,
    )


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
    """Return the class of each pixel: (H, W) uint8, an index of `CLASSES`, or `UNLABELLED`."""
    classes = {kind: k for k, (_, _, kinds) in enumerate(CLASSES) for kind in kinds}
    table = [classes.get(kind, UNLABELLED) for kind in scene.kinds]
    return np.array(table, dtype=np.uint8)[render_labels(scene)[0]]


def _write_files(parameters: FolderParameters, root: Path, items: list[list[dict]]) -> None:
    lines = [f"{name} #{bytes(color).hex()}\n" for name, color, _ in CLASSES]
    (root / "classes.txt").write_text("".join(lines))
    for split in SPLITS:
        images: list[dict] = []
        annotations: list[dict] = []
        for number, image_items in items_in_split(parameters, split, items):
            size = {"height": parameters.height, "width": parameters.width}
            images.append({"id": number, "file_name": f"{number:04d}.jpg", **size})
            append_annotations(annotations, image_items, number, KIND_IDS)
        categories = [{"id": category_id, "name": kind} for kind, category_id in KIND_IDS.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"objects_{split}.json").write_text(json.dumps(content))
