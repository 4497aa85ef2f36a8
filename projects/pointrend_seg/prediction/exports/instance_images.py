"""Images in which each object has a value: 1, 2, … in the order of ``objects/NAME.json``.

``instances/NAME.png`` is 16-bit; ``NAME.tif`` is 32-bit where there are more than 65535 objects.
Where objects overlap, a pixel belongs to the one with the highest score. A TIFF has the
georeference of the image.
"""

from pathlib import Path

import numpy as np

from ...data.images.tiff import read_georeference
from ...errors import InputError
from ...files.names import path_inside
from ..outputs import save_image
from ..shapes import ImageShapes, label_image


class InstanceImages:
    """Write an image of objects for each image."""

    def __init__(
        self,
        folder: Path,
        categories: list[tuple[int, str]],
        tolerance: float,
        *,
        extension: str,
    ):
        self._folder, self._extension = folder, extension

    def add(self, image: ImageShapes) -> None:
        """Write the objects of an image."""
        labels = label_image(image.shapes, image.height, image.width)
        if labels.dtype == np.uint32 and self._extension == ".png":
            raise InputError(
                f"{image.file_name} has {len(image.shapes)} objects, more than a PNG holds. Use "
                "--export instance-tiff."
            )
        path = path_inside(self._folder, f"instances/{image.name}{self._extension}")
        save_image(path, labels, read_georeference(image.path) if image.path else ())

    def finish(self) -> Path:
        """Return the folder."""
        return self._folder / "instances"
