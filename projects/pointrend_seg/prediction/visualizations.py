"""Draw predictions: over the image, and how PointRend makes them (points, steps, comparison)."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..data.classes import Classes
from ..data.input_size import PLAN
from ..drawing.predictions import draw_classes, draw_instances, draw_segments
from ..drawing.primitives import draw_points, tile
from ..errors import InputError
from ..modeling.recording import InstanceTrace, SemanticTrace
from .large_pictures import at_picture_size
from .outputs import OutputFolder
from .predictor import Predictor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Visualizations:
    """Which pictures to draw of each image. All but the overlay have the size of the model's input.

    Attributes:
        overlay: NAME.png, the prediction over the image.
        points: NAME.points-1.png, …, the points of each subdivision step.
        steps: NAME.step-0.png (coarse), NAME.step-1.png, …, the masks after each step.
        compare: NAME.compare.png, image, coarse prediction and final prediction side by side.
        names: whether names and scores are written, where there is room.
    """

    overlay: bool = True
    points: bool = False
    steps: bool = False
    compare: bool = False
    names: bool = True

    def check(self, predictor: Predictor) -> None:
        """Raise `InputError` where pictures of the steps are wanted, and several runs are averaged.

        Each view of test-time augmentation has steps and points of its own.
        """
        if predictor.tta and (self.points or self.steps or self.compare):
            raise InputError(
                "--points, --steps and --compare show one run of the model, but test-time "
                "augmentation averages several. Leave them out, or leave out --tta "
                "(TEST.AUG.ENABLED False)."
            )

    def files(self, output: OutputFolder, name: str) -> list[Path]:
        """Return the pictures that every model writes for an image, with any number of steps."""
        suffixes = {
            "": self.overlay,
            ".points-1": self.points,
            ".step-0": self.steps,
            ".compare": self.compare,
        }
        return [output.picture_path(name, suffix) for suffix, drawn in suffixes.items() if drawn]

    def prepare(self, predictor: Predictor, inputs: dict) -> dict[str, Callable[[], np.ndarray]]:
        """Run the model a second time if needed, and return functions that draw the pictures.

        Args:
            inputs: an image as `Predictor.prepare` returns it.

        Returns:
            drawing functions without arguments by the file's suffix, without the overlay. They
            return RGB, (H, W, 3), uint8, and may run in another thread.
        """
        if not (self.points or self.steps or self.compare):
            return {}
        if PLAN in inputs and inputs[PLAN].tile:
            logger.warning("Of images that are seen in tiles, only the prediction is drawn.")
            return {}
        image = inputs["image"].permute(1, 2, 0).numpy().clip(0, 255).astype(np.uint8)
        image = image[:, :, ::-1] if predictor.input_format == "BGR" else image
        image = np.ascontiguousarray(image)
        trace = predictor.task.trace(predictor.model, inputs["image"])
        draw_masks = _mask_drawer(image, trace, predictor.classes, names=self.names)
        drawings: dict[str, Callable[[], np.ndarray]] = {}
        if self.points:
            for step, points in enumerate(trace.points, start=1):
                drawings[f".points-{step}"] = partial(draw_points, image, points)
        if self.steps:
            for step, masks in enumerate([trace.coarse, *trace.steps]):
                drawings[f".step-{step}"] = partial(draw_masks, masks)
        if self.compare:
            drawings[".compare"] = lambda: tile(
                [[image, draw_masks(trace.coarse), draw_masks(_final_masks(trace))]],
                ["image", "coarse prediction", "PointRend"],
            )
        return drawings


def draw_overlay(
    image: np.ndarray, prediction: dict, classes: Classes, *, names: bool = True
) -> np.ndarray:
    """Draw a prediction over its image; without masks, fill the boxes.

    Args:
        image: RGB, (H, W, 3), uint8.
        prediction: as `to_cpu` returns it.
        names: write names and scores, where there is room.

    Returns:
        RGB, (H, W, 3), uint8; of images of more than 4096 pixels a side smaller.
    """
    image, prediction = at_picture_size(image, prediction)
    if "classes" in prediction:
        return draw_classes(image, prediction["classes"], classes, names=names)
    if "segments" in prediction:
        info = prediction["segments_info"]
        return draw_segments(
            image,
            prediction["segments"],
            [segment["id"] for segment in info],
            [classes.number_of(segment) for segment in info],
            classes,
            scores=[segment.get("score") for segment in info],
            names=names,
        )
    instances = prediction["instances"]
    if instances.has("pred_masks"):
        masks = instances.pred_masks
        masks = masks if hasattr(masks, "crops") else masks.numpy()
    else:
        masks = _box_masks(instances.pred_boxes.tensor.numpy(), image.shape[:2])
    return draw_instances(
        *(image, masks, instances.pred_classes.numpy(), instances.scores.numpy(), classes),
        names=names,
    )


def _box_masks(boxes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.round().astype(int), strict=True):
        mask[max(y0, 0) : y1, max(x0, 0) : x1] = True
    return masks


def _mask_drawer(
    image: np.ndarray, trace: SemanticTrace | InstanceTrace, classes: Classes, *, names: bool
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that draws masks (semantic: a class map) over the image."""
    if isinstance(trace, SemanticTrace):
        return lambda class_map: draw_classes(image, class_map, classes, names=names)
    indices, scores = trace.instances.pred_classes.numpy(), trace.instances.scores.numpy()
    return lambda masks: draw_instances(image, masks, indices, scores, classes, names=names)


def _final_masks(trace: SemanticTrace | InstanceTrace) -> np.ndarray:
    if isinstance(trace, SemanticTrace):
        return trace.refined
    return trace.instances.pred_masks.numpy()
