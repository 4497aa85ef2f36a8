"""Write labelled images as a data set in COCO's format.

DIR/images/…     the images, or their tiles
DIR/train.json   the objects of the images that are trained on
DIR/val.json     those of the others
"""

import json
import os
import random
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from ...config.keys import KEYS
from ...errors import InputError
from ...files.atomic import write_text
from ...files.names import path_inside
from ...files.progress import progress_bar
from ...structures.regions import Region
from ..annotations import Size
from ..images.reader import ImageReader
from ..problems import KINDS
from ..survey.images import ImageSurvey, survey_image
from .objects import ImportedObject, LabelledImage, Source
from .tiling import Window, cut_objects, split_area, tile_name, windows

SPLITS = ("train", "val")
Entry = tuple[str, int, int, list[tuple[ImportedObject, Region]]]  # name, height, width, objects


@dataclass
class Written:
    """What was written.

    Attributes:
        images, objects: their number by split.
        empty: number of objects that cover no pixel and were left out.
        in_parts: images of one object that consists of several parts.
        sides: the longer side of each object's box, in pixels.
    """

    images: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    empty: int = 0
    in_parts: list[str] = field(default_factory=list)
    sides: list[float] = field(default_factory=list)

    def median_side(self) -> float:
        """Return the median of ``sides``."""
        return median(self.sides)


def write_dataset(
    source: Source,
    output: str | os.PathLike,
    *,
    val_share: float = 0.2,
    seed: int = 0,
    tile: int | None = None,
    overlap: int = 0,
    pixel_range: str = "percentile",
    link: bool = False,
    progress: bool = False,
) -> Written:
    """Write a data set, completely or not at all.

    Polygons of the source stay polygons; in tiles, and where the source has pixels, masks are run
    lengths, exact to the pixel. Boxes are those of the masks.

    Args:
        source: what is written.
        output: the folder; it does not exist, or it is empty.
        val_share: share of the images, drawn by ``seed``, for validation, where the source has no
            splits of its own. Of a single image with ``tile``, it is a part at one side.
        tile: cut images into tiles of this height and width.
        overlap: number of pixels that neighbouring tiles share.
        pixel_range: as ``INPUT.PIXEL_RANGE``: how images of more than 8 bits are scaled before
            they are cut into tiles, which have 8 bits. Tiles that kept their values would be
            scaled in training each by itself, unlike the whole image in prediction.
        link: make symbolic links to the images instead of copies.
        progress: show a progress bar.

    Raises:
        InputError: the folder is not empty, an image or its labels cannot be read, there is no
            object, or one image cannot be split.
    """
    output = Path(output)
    if output.is_dir() and any(output.iterdir()):
        raise InputError(f"The folder {output} is not empty. Choose another --output.")
    if tile is not None and overlap >= tile:
        raise InputError(f"The overlap ({overlap}) must be smaller than the tile ({tile}).")
    KEYS["INPUT.PIXEL_RANGE"].check(pixel_range)
    splits = _split(source.images, val_share, seed, tile)
    reader = ImageReader(pixel_range)
    unfinished = output.with_name(f"{output.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    written, contents = Written(), {}
    total = sum(map(len, splits.values()))
    try:
        with progress_bar(total=total, unit="image", shown=progress) as bar:
            for split, images in splits.items():
                content = _Content(written)
                for image, share in images:
                    for entry in _entries(
                        image, share, unfinished, tile, overlap, reader, link, written
                    ):
                        content.add(*entry)
                    bar.update()
                contents[split] = content
        names = source.categories or sorted(
            {name for content in contents.values() for name in content.names}
        )
        if not any(content.annotations for content in contents.values()):
            raise InputError(f"There is no object in {total} images. Are these the right labels?")
        for split, content in contents.items():
            write_text(unfinished / f"{split}.json", json.dumps(content.coco(names)))
            written.images[split] = len(content.images)
            written.objects[split] = len(content.annotations)
        if output.exists():
            output.rmdir()
        unfinished.rename(output)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return written


class _Content:
    """Images and annotations of a JSON file."""

    def __init__(self, written: Written):
        self.images: list[dict] = []
        self.annotations: list[dict] = []
        self.names: list[str] = []
        self._written = written

    def add(
        self, name: str, height: int, width: int, objects: Iterable[tuple[ImportedObject, Region]]
    ) -> None:
        image = {"id": len(self.images) + 1, "file_name": name, "height": height, "width": width}
        self.images.append(image)
        for item, region in objects:
            area = region.area
            if not area:
                self._written.empty += 1
                continue
            self.names.append(item.category)
            exact = region is item.mask or isinstance(item.mask, Region)
            mask = region.run_lengths(height, width) if exact else item.mask
            box = _box(region)
            self._written.sides.append(max(box[2:]))
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": image["id"],
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(item.is_crowd),
                    "segmentation": mask,
                }
            )

    def coco(self, names: list[str]) -> dict:
        numbers = {name: number for number, name in enumerate(names, start=1)}
        for annotation, name in zip(self.annotations, self.names, strict=True):
            annotation["category_id"] = numbers[name]
        categories = [{"id": number, "name": name} for name, number in numbers.items()]
        return {
            "images": self.images,
            "annotations": self.annotations,
            "categories": categories,
        }


def _split(
    images: list[LabelledImage], share: float, seed: int, tile: int | None
) -> dict[str, list[tuple[LabelledImage, tuple[str, float]]]]:
    """Return images by split, each with the part of it that is taken: ("", 0) for all of it."""
    whole = ("", 0.0)
    if any(image.split for image in images):
        return {
            split: [(image, whole) for image in images if image.split == split]
            for split in SPLITS
            if any(image.split == split for image in images)
        }
    if not share:
        return {"train": [(image, whole) for image in images]}
    if len(images) == 1:
        if tile is None:
            raise InputError(
                "One image cannot be split into training and validation. Cut it with --tile, or "
                "use --val 0 to train on all of it."
            )
        return {split: [(images[0], (split, share))] for split in SPLITS}
    order = list(range(len(images)))
    random.Random(seed).shuffle(order)
    count = min(max(round(share * len(images)), 1), len(images) - 1)
    chosen = set(order[:count])
    return {
        "train": [(image, whole) for k, image in enumerate(images) if k not in chosen],
        "val": [(image, whole) for k, image in enumerate(images) if k in chosen],
    }


def _entries(
    image: LabelledImage,
    part: tuple[str, float],
    folder: Path,
    tile: int | None,
    overlap: int,
    reader: ImageReader,
    link: bool,
    written: Written,
) -> Iterator[Entry]:
    """Write an image, or the tiles of a part of it, and yield what was written."""
    height, width = _size(image.path)
    objects = [(item, item.region(height, width)) for item in image.read(height, width)]
    if len(objects) == 1 and part[0] != "val" and _parts(objects[0][1]) > 1:
        written.in_parts.append(image.path)
    if tile is None:
        target = path_inside(folder, f"images/{image.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if link:
            target.symlink_to(os.path.abspath(image.path))
        else:
            shutil.copyfile(image.path, target)
        yield image.name, height, width, objects
        return
    area = Window(0, 0, width, height)
    if part[0]:
        area = split_area(height, width, tile, part[1])[SPLITS.index(part[0])]
    pixels = reader.read(image.path, "BGR")
    if (pixels == pixels[:, :, :1]).all():  # grey
        pixels = pixels[:, :, 0]
    for window in windows(area, tile, overlap):
        name = tile_name(image.name, window)
        target = path_inside(folder, f"images/{name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        _save(folder, name, pixels[window.y0 : window.y1, window.x0 : window.x1])
        parts = [
            (ImportedObject(item.category, region, item.is_crowd), region)
            for item, region in cut_objects(objects, window)
        ]
        yield name, *window.size, parts


def _size(path: str) -> Size:
    """Return the size of an image in which `survey_image`, so tools/check_data.py, finds no error.

    Raises:
        InputError: it is missing or cannot be read.
    """
    found = ImageSurvey()
    size = survey_image(path, None, found, ImageReader())
    if size is None:
        kind, place = found.problems[0]
        raise InputError(f"{place}. {KINDS[kind].fix}")
    return size


def _save(folder: Path, name: str, pixels: np.ndarray) -> None:
    """Write a tile, (H, W) or (H, W, 3) BGR uint8, as PNG."""
    encoded, content = cv2.imencode(".png", pixels)
    assert encoded
    (folder / "images" / name).write_bytes(content.tobytes())


def _parts(region: Region) -> int:
    return cv2.connectedComponents(np.ascontiguousarray(region.columns, np.uint8))[0] - 1


def _box(region: Region) -> list[float]:
    filled_x, filled_y = region.columns.any(axis=1), region.columns.any(axis=0)
    xs, ys = np.flatnonzero(filled_x), np.flatnonzero(filled_y)
    x0, y0 = region.x0 + int(xs[0]), region.y0 + int(ys[0])
    return [x0, y0, int(xs[-1] - xs[0]) + 1, int(ys[-1] - ys[0]) + 1]
