"""COCO's format with polygons, for programs that read no run lengths.

``predictions_polygons.json`` has one list of points for each part of an object; seams of no width
join holes to the outline. pycocotools makes the predicted mask of it, to the pixel, if outlines are
not simplified.
"""

import json
from pathlib import Path

from ...files.atomic import write_text
from ...structures.outlines import joined_ring, outline_polygons
from ..shapes import ImageShapes


class CocoPolygons:
    """Collect images in a JSON file."""

    def __init__(self, folder: Path, categories: list[tuple[int, str]], tolerance: float):
        self._path, self._tolerance = folder / "predictions_polygons.json", tolerance
        self._categories = [{"id": number, "name": name} for number, name in categories]
        self._images: list[dict] = []
        self._annotations: list[dict] = []

    def add(self, image: ImageShapes) -> None:
        """Add an image."""
        image_id = len(self._images) + 1
        size = {"height": image.height, "width": image.width}
        self._images.append({"id": image_id, "file_name": image.file_name, **size})
        for shape in image.shapes:
            rings = map(joined_ring, outline_polygons(shape.region, self._tolerance))
            item = shape.coco(image.height, image.width)
            item["segmentation"] = [ring.ravel().tolist() for ring in rings]
            number = len(self._annotations) + 1
            self._annotations.append({"id": number, "image_id": image_id, **item})

    def finish(self) -> Path:
        """Write the file."""
        content = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": self._categories,
        }
        write_text(self._path, json.dumps(content))
        return self._path
