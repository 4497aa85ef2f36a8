"""The result of a prediction, and what to do with it."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.classes import Classes
from ..errors import InputError
from ..structures.outlines import Polygon, outline_polygons
from .outputs import save_image, to_cpu
from .shapes import Shape, class_shapes, label_image, object_shapes, segment_shapes

PICTURE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


class Prediction(dict[str, Any]):
    """What a model predicted for an image: the dict of `DefaultPredictor`, and what to do with it.

    ``prediction["instances"]`` or ``prediction["sem_seg"]`` is what the model returned; of a
    panoptic one both and ``prediction["panoptic_seg"]``, ids of segments (H, W) and a dict for
    each. Lists have an entry for each object, in the model's order; of a semantic model, for each
    class that occurs; of a panoptic one, for each segment.

    Attributes:
        image: the image, RGB, (H, W, 3), uint8.
        classes: names, colours and ids of the classes (`Classes`).
        name: of the results, as on the command line: the path without its extension,
            ``clip/000007`` for the frame of a video; "" for an array.
        path: of the image or video; "" for an array.

    Example:
        >>> prediction = predictor("street.jpg")  # doctest: +SKIP
        >>> prediction.save("street_found.jpg")  # doctest: +SKIP
        >>> [(s.category, round(s.score, 2)) for s in prediction.shapes]  # doctest: +SKIP
        [('car', 0.98), ('tree', 0.71)]
    """

    def __init__(
        self, output: dict, *, image: np.ndarray, classes: Classes, name: str = "", path: str = ""
    ):
        super().__init__(output)
        self.image, self.classes, self.name, self.path = image, classes, name, path
        self._found: dict | None = None
        self._shapes: list[Shape] | None = None

    def __repr__(self) -> str:
        where = f" of {self.name}" if self.name else ""
        return f"<Prediction{where}: {', '.join(self.class_names) or 'nothing'}>"

    @property
    def is_semantic(self) -> bool:
        """True for a class of each pixel, False for objects or segments."""
        return "sem_seg" in self and not self.is_panoptic

    @property
    def is_panoptic(self) -> bool:
        """True for segments of things and stuff."""
        return "panoptic_seg" in self and self.classes.num_things is not None

    @property
    def shapes(self) -> list[Shape]:
        """Return the objects, classes or segments: name, id, score, box and mask (`Shape`)."""
        if self._shapes is None:
            if self.is_semantic:
                found = class_shapes(self.class_map, dict(enumerate(self.classes.names)))
                ids = self.classes.ids
                self._shapes = [replace(each, category_id=ids[each.category_id]) for each in found]
            elif self.is_panoptic:
                on_cpu, ids = self._on_cpu(), self.classes.ids
                info = [
                    {**each, "category_id": ids[self.classes.number_of(each)]}
                    for each in on_cpu["segments_info"]
                ]
                names = dict(zip(ids, self.classes.names, strict=True))
                self._shapes = segment_shapes(on_cpu["segments"], info, names)
            else:
                self._shapes = object_shapes(self._on_cpu()["instances"], self.classes)
        return self._shapes

    @property
    def class_names(self) -> list[str]:
        """Return the name of the class of each object, or of each class that occurs."""
        return [shape.category for shape in self.shapes]

    @property
    def class_map(self) -> np.ndarray:
        """Return the class of each pixel of a semantic model, (H, W), integers from 0.

        Raises:
            InputError: the model finds objects.
        """
        if not self.is_semantic:
            raise InputError(
                "Only semantic models predict a class map; for objects use label_image()."
            )
        return self._on_cpu()["classes"]

    def label_image(self) -> np.ndarray:
        """Return an image in which object k (from 0) has the value k + 1, and 0 is background.

        A segment of a panoptic model is an object, too.

        Where objects overlap, a pixel belongs to the one with the highest score. Of a semantic
        model, it is the label image of the data set, with its values.

        Returns:
            (H, W), uint16, or uint32 for more than 65535 objects; int64 of a semantic model.
        """
        if self.is_semantic:
            return np.array(self.classes.ids)[self.class_map]
        return label_image(self.shapes, *self.image.shape[:2])

    def plot(self, **options: Any) -> np.ndarray:
        """Return the image with the prediction drawn over it, RGB, (H, W, 3), uint8.

        Images of more than 4096 pixels a side are scaled down.

        Args:
            options: as `draw_overlay` takes them.
        """
        from .visualizations import draw_overlay  # it imports the predictor, which imports this

        return draw_overlay(self.image, self._on_cpu(), self.classes, **options)

    def save(self, path: str | os.PathLike, **options: Any) -> None:
        """Write the picture of `plot` in the format of the extension: PNG, JPEG, WebP, TIFF, BMP.

        Raises:
            InputError: another extension.
        """
        path = os.fspath(path)
        extension = os.path.splitext(path)[1].lower()
        if extension not in PICTURE_EXTENSIONS:
            raise InputError(
                f"{path} has no extension of a picture; use one of {', '.join(PICTURE_EXTENSIONS)}."
            )
        save_image(Path(path), self.plot(**options))

    def polygons(self, tolerance: float = 0.0) -> list[list[Polygon]]:
        """Return the outlines of each object, or of each class that occurs, with their holes.

        Args:
            tolerance: the farthest, in pixels, that a simplified outline may be from the exact
                one, which goes along the edges of pixels; 0 keeps it exact.

        Returns:
            for each a list of parts, (``outline``, ``holes``): arrays (P, 2) of x and y.
        """
        return [outline_polygons(shape.region, tolerance) for shape in self.shapes]

    def to_coco(self, image_id: int | str = 1) -> list[dict]:
        """Return annotations in COCO's format, ready for JSON: run lengths, boxes, scores, names.

        Args:
            image_id: written to each; their ``id`` is 1, 2, ….
        """
        height, width = self.image.shape[:2]
        return [
            {"id": number, "image_id": image_id, **shape.coco(height, width)}
            for number, shape in enumerate(self.shapes, start=1)
        ]

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections`` with masks, scores, class ids and ``class_name``.

        Masks are N x H x W, as supervision has them: for images of thousands of objects that takes
        much memory.

        Raises:
            InputError: the package supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise InputError(
                "to_supervision() needs the package supervision: pip install supervision."
            ) from error
        height, width = self.image.shape[:2]
        masks = np.zeros((len(self.shapes), height, width), bool)
        for mask, shape in zip(masks, self.shapes, strict=True):
            pixels, region = shape.region.pixels > 0, shape.region
            part = mask[region.y0 :, region.x0 :][: pixels.shape[0], : pixels.shape[1]]
            part[:] = pixels[: part.shape[0], : part.shape[1]]
        return supervision.Detections(
            xyxy=np.array([shape.box for shape in self.shapes], np.float32).reshape(-1, 4),
            mask=masks,
            confidence=None
            if self.is_semantic
            else np.array([shape.score for shape in self.shapes], np.float32),
            class_id=np.array([shape.category_id for shape in self.shapes], int),
            data={"class_name": np.array(self.class_names, dtype=str)},
        )

    def _on_cpu(self) -> dict:
        if self._found is None:
            self._found = to_cpu(self, panoptic=self.is_panoptic)
        return self._found
