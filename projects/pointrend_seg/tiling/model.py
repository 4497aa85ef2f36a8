"""A model that sees each image as its `InputPlan` says."""

import logging
import os
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from ..data.input_size import PLAN, InputPlan, model_image
from ..errors import InputError
from ..files.progress import progress_bar
from ..modeling.roi_mask_model import RoiMaskModel
from ..structures.class_map import ClassMap
from .instances import InstanceMerger
from .layout import TileGrid
from .limits import has_proposals, raised_limits, reached_limit
from .semantic import ClassBlender

logger = logging.getLogger(__name__)


class PlannedInference:
    """Show images to a model as planned, and say once what is unusual.

    Inputs without a plan (key `PLAN`) go to the model as they are, in one batch.
    """

    def __init__(self, cfg: CfgNode, *, watch_limits: bool, batch_size: int = 1):
        """
        Args:
            cfg: of the model.
            batch_size: number of tiles per forward pass.
            watch_limits: whether to say that detections reach a limit. Evaluation, which keeps
                detections of any score, compares with the objects instead.
        """
        self.cfg = cfg
        self._watch_limits = watch_limits
        self._batch_size = batch_size
        self._said: set[str] = set()

    def __call__(self, model: Any, inputs: list[dict]) -> list[dict]:
        """Run a model in evaluation.

        Args:
            model: one of Detectron2's, or a wrapper that takes the same inputs.
            inputs: of the model. Images that are seen in tiles (``PLAN``) have their own size.

        Returns:
            the outputs in the order of the inputs. For images in tiles, ``sem_seg`` is a
            `ClassMap`, and ``instances`` are on the CPU with `RleMasks`.
        """
        plans = [record.get(PLAN) for record in inputs]
        for record, plan in zip(inputs, plans, strict=True):
            if plan is not None:
                self._tell(_name(record), plan)
        whole = [
            record
            for record, plan in zip(inputs, plans, strict=True)
            if plan is None or not plan.tile
        ]
        factor = max([1.0, *(record[PLAN].limits for record in whole if PLAN in record)])
        found = iter(self._forward(model, whole, factor) if whole else ())
        return [
            self._in_tiles(model, record, plan) if plan and plan.tile else next(found)
            for record, plan in zip(inputs, plans, strict=True)
        ]

    def _forward(self, model: Any, inputs: list[dict], factor: float) -> list[dict]:
        with raised_limits(model, factor):
            outputs = model(inputs)
        if self._watch_limits:
            for record, output in zip(inputs, outputs, strict=True):
                self._watch(model, record, output, factor)
        return outputs

    def _in_tiles(self, model: Any, record: dict, plan: InputPlan) -> dict:
        """Return the output for an image that is seen in tiles."""
        image = record["image"]
        height, width = image.shape[1:]
        side, overlap = (max(1, round(n / plan.scale)) for n in (plan.tile, plan.overlap))
        grid = TileGrid.cover(height, width, side, min(overlap, side // 2))
        name = _name(record)
        if RoiMaskModel.suits(model, []):
            model = RoiMaskModel(model)
        merger: ClassBlender | InstanceMerger | None = None
        boxes = grid.boxes()
        with progress_bar(total=len(boxes), unit="tile", desc=name, leave=False) as bar:
            for first in range(0, len(boxes), self._batch_size):
                tiles = [_tile(record, box) for box in boxes[first : first + self._batch_size]]
                for output in self._forward(model, tiles, plan.limits):
                    if "panoptic_seg" in output:
                        raise InputError(
                            f"{name} is {width} x {height} pixels (width x height), too large to "
                            "be seen whole, but panoptic models do not see tiles. Choose a "
                            "smaller --scale (INPUT.SCALE_TEST), or --max-size."
                        )
                    if "instances" in output:
                        merger = merger or InstanceMerger(grid)
                        merger.add(output["instances"])
                    else:
                        merger = merger or ClassBlender(grid, len(output["sem_seg"]))
                        merger.add(output["sem_seg"])
                bar.update(len(tiles))
        if isinstance(merger, ClassBlender):
            return {"sem_seg": ClassMap(merger.classes, max(2, merger.channels))}
        assert merger is not None
        return {"instances": merger.merge()}

    def _watch(self, model: Any, record: dict, output: dict, factor: float) -> None:
        if "instances" in output and "limit" not in self._said:
            found, proposals = len(output["instances"]), has_proposals(model)
            message = reached_limit(self.cfg, found, factor, proposals=proposals)
            if message:
                self._say("limit", f"{_name(record)} {message}")

    def _tell(self, name: str, plan: InputPlan) -> None:
        trained = self.cfg.INPUT.get("TRAINED_SCALES") or [plan.scale] * 3
        if plan.too_small:
            self._say(
                "small",
                f"{name} is shown to the model at scale {plan.scale:.3g}, the training images were "
                f"at {trained[1]:.3g}: objects look {trained[1] / plan.scale:.2g} times smaller "
                f"than in training and may not be found. Use --scale {trained[1]:.3g} "
                f"(INPUT.SCALE_TEST {trained[1]:.3g}).",
            )
        if plan.tile and not self.cfg.TEST.TILES.SIZE:
            self._say(
                "tiles",
                f"{name} is {plan.width} x {plan.height} (width x height) at scale "
                f"{plan.scale:.3g}: it is seen in tiles of {plan.tile} pixels. To choose them: "
                "--tile (TEST.TILES.SIZE).",
            )
        if plan.is_kept and not plan.too_small and self.cfg.INPUT.SCALE_TEST == 0:
            self._say(
                "scale",
                f"{name} is shown to the model at scale {plan.scale:.3g}, that of the training "
                f"images, not {plan.usual_scale:.3g}, which INPUT.MIN_SIZE_TEST and "
                "INPUT.MAX_SIZE_TEST would give. To resize by these keys: INPUT.SCALE_TEST -1.",
            )

    def _say(self, kind: str, message: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            logger.warning("%s", message)


class PlannedModel(nn.Module):
    """A model in evaluation that sees images as planned, see `PlannedInference`."""

    def __init__(self, model: nn.Module, cfg: CfgNode):
        """
        Args:
            model: as Detectron2 builds it, or a wrapper that takes the same inputs.
            cfg: of the model.
        """
        super().__init__()
        self.model = model
        self.training = model.training  # which the evaluation loop restores at its end
        self._run = PlannedInference(cfg, watch_limits=False)

    def forward(self, inputs: list[dict]) -> list[dict]:
        """Run the model; the outputs are in the order of the inputs."""
        return self._run(self.model, inputs)


def _tile(record: dict, box: tuple[int, int, int, int]) -> dict:
    """Return a part of an image as the model's input, with its size in the image.

    For test-time augmentation, which resizes it itself, the part is as the image is.
    """
    x0, y0, x1, y1 = box
    height, width, plan = y1 - y0, x1 - x0, record[PLAN]
    part = {**record, "image": record["image"][:, y0:y1, x0:x1]}
    if not plan.view_scales:
        size = (max(1, int(side * plan.scale + 0.5)) for side in (height, width))
        part = {"image": model_image(part, *size), "file_name": record.get("file_name")}
    return {**part, "height": height, "width": width}


def _name(record: dict) -> str:
    return os.path.basename(str(record.get("file_name") or "")) or "An image"
