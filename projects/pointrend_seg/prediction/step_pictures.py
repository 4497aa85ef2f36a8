"""Which pictures are drawn of each prediction: points, steps, coarse beside refined."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..drawing.predictions import draw_classes, draw_instances
from ..drawing.primitives import draw_points, tile
from ..modeling.recording import InstanceTrace, SemanticTrace, trace_instances, trace_semantic
from .outputs import Output
from .predictor import Predictor


@dataclass(frozen=True)
class Pictures:
    """What to draw besides the prediction over its image; all at the size that the model sees.

    Attributes:
        overlay: the prediction over the image.
        points: the points that each subdivision step chose: NAME.points-K.png.
        steps: the masks after each step: NAME.step-0.png (coarse), NAME.step-1.png, …
        compare: the image, coarse and refined side by side: NAME.compare.png.
    """

    overlay: bool = True
    points: bool = False
    steps: bool = False
    compare: bool = False

    @property
    def needs_trace(self) -> bool:
        return self.points or self.steps or self.compare

    def files(self, output: Output, name: str) -> list[Path]:
        """What is always written for an image, as far as it is known before the model has run."""
        files = [output.picture(name)] if self.overlay else []
        files += [output.picture(name, ".points-1")] if self.points else []
        files += [output.picture(name, ".step-0")] if self.steps else []
        return files + ([output.picture(name, ".compare")] if self.compare else [])

    def of(
        self, predictor: Predictor, image: np.ndarray, inputs: dict, found: dict
    ) -> dict[str, Callable[[], np.ndarray]]:
        """Runs the model once more and keeps what happens; drawing is left to the caller.

        Args:
            image: (H, W, 3) RGB, of the file.
            inputs: what `Predictor.prepare` made of it.

        Returns:
            what to draw, by what follows the name of the image in the file's name.
        """
        if not self.needs_trace:
            return {}
        seen = inputs["image"].permute(1, 2, 0).numpy().clip(0, 255).astype(np.uint8)
        seen = seen[:, :, ::-1] if predictor.input_format == "BGR" else seen
        seen = np.ascontiguousarray(seen)
        trace_of = trace_semantic if predictor.is_semantic else trace_instances
        trace = trace_of(predictor.model, inputs["image"])
        paint = _painter(predictor, seen, trace)
        drawn = {}
        if self.points:
            for k, points in enumerate(trace.points, start=1):
                drawn[f".points-{k}"] = lambda points=points: draw_points(seen, points)
        if self.steps:
            for k, masks in enumerate([trace.coarse, *trace.steps]):
                drawn[f".step-{k}"] = lambda masks=masks: paint(masks)
        if self.compare:
            drawn[".compare"] = lambda: tile(
                [[seen, paint(trace.coarse), paint(_final(trace))]],
                ["image", "coarse prediction", "PointRend"],
            )
        return drawn


def _painter(predictor: Predictor, seen: np.ndarray, trace) -> Callable[[np.ndarray], np.ndarray]:
    if isinstance(trace, SemanticTrace):
        return lambda classes: draw_classes(seen, classes, predictor.classes)
    found = trace.instances
    known = found.pred_classes.numpy(), found.scores.numpy(), predictor.classes
    return lambda masks: draw_instances(seen, masks, *known)


def _final(trace: SemanticTrace | InstanceTrace) -> np.ndarray:
    if isinstance(trace, SemanticTrace):
        return trace.refined
    return trace.instances.pred_masks.numpy()
