"""Write predictions in the formats of other programs, one module a format.

A format is a class with ``add(image)``, called for each image in the order of the inputs, and
``finish()``, which returns the path of what was written. The exact formats give the predicted masks
again, to the pixel.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from ...errors import InputError
from ..shapes import ImageShapes
from .coco_polygons import CocoPolygons
from .geojson import GeoJson
from .instance_images import InstanceImages
from .label_studio import LabelStudio


class Export(Protocol):
    """A format."""

    def add(self, image: ImageShapes) -> None:
        """Write, or collect, what was found in an image."""

    def finish(self) -> Path:
        """Write what was collected; return the file or the folder."""


# Each takes the output folder, (id, name) of the classes, and the tolerance of outlines in pixels.
EXPORTS: dict[str, Callable[[Path, list[tuple[int, str]], float], Export]] = {
    "coco-polygons": CocoPolygons,
    "geojson": GeoJson,
    "label-studio": LabelStudio,
    "label-studio-brush": lambda *args: LabelStudio(*args, brush=True),
    "instance-png": lambda *args: InstanceImages(*args, extension=".png"),
    "instance-tiff": lambda *args: InstanceImages(*args, extension=".tif"),
}


def check_exports(formats: Iterable[str], *, semantic: bool) -> None:
    """Raise `InputError` for a format that a semantic model has no results for."""
    refused = [name for name in formats if semantic and name.startswith("instance-")]
    if refused:
        raise InputError(
            f"--export {refused[0]} is of objects, but the model is semantic: its label images "
            "are in labels/."
        )


def export(
    images: Iterable[ImageShapes],
    formats: Iterable[str],
    folder: Path,
    categories: list[tuple[int, str]],
    tolerance: float = 0.0,
) -> list[Path]:
    """Write images in several formats, reading each image once; return what was written."""
    exports = [EXPORTS[name](folder, categories, tolerance) for name in formats]
    for image in images:
        for each in exports:
            each.add(image)
    return [each.finish() for each in exports]
