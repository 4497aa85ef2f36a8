"""A model that sees each image several times, whole or in tiles, and averages what it finds."""

import logging
import os
from dataclasses import replace
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import ROIMasks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data.input_size import PLAN, TestResize
from ..tiling.model import PlannedInference
from .instances import InstanceViews
from .semantic import SemanticViews
from .views import ViewChoice, check_augmentable

logger = logging.getLogger(__name__)


class AugmentedModel(nn.Module):
    """A model in evaluation with test-time augmentation by ``TEST.AUG``.

    It takes images of their own size, as `at_own_size` makes mappers give them, and returns what
    the model returns.
    """

    def __init__(
        self, model: nn.Module, cfg: CfgNode, *, paste: bool = True, watch_limits: bool = False
    ):
        """
        Args:
            model: a `GeneralizedRCNN` or `SemanticSegmentor`.
            cfg: of the model.
            paste: whether ``pred_masks`` are pasted into the image, (N, H, W) bool; else they are
                `ROIMasks`.
            watch_limits: whether to say that detections reach a limit.

        Raises:
            InputError: a model of another kind, or a value in ``TEST.AUG`` is invalid.
        """
        super().__init__()
        check_augmentable(cfg)
        model = model.module if isinstance(model, DistributedDataParallel) else model
        self._choice = ViewChoice.from_config(cfg)
        flip = self._choice.flip
        self.views: nn.Module = (
            InstanceViews(model, cfg, flip=flip)
            if isinstance(model, GeneralizedRCNN)
            else SemanticViews(model, flip=flip)
        )
        self._paste = paste
        self._resize = TestResize.from_config(cfg)
        self._run = PlannedInference(cfg, watch_limits=watch_limits)
        self._has_told = False
        self.training = model.training  # which the evaluation loop restores at its end

    def forward(self, inputs: list[dict]) -> list[dict]:
        """Run the model on all views of each image, one at a time.

        Args:
            inputs: of the model, each with an image of its own size.
        """
        return [self._output(record) for record in inputs]

    def _output(self, record: dict) -> dict:
        height, width = record["image"].shape[1:]
        height, width = record.get("height", height), record.get("width", width)
        plan = self._resize.plan(height, width)
        scales = self._choice.view_scales(height, width, plan)
        if not self._has_told:
            self._has_told = True
            name = os.path.basename(str(record.get("file_name") or "")) or "An image"
            told = self._choice.describe(scales, plan)
            logger.warning("Test-time augmentation: %s is seen %s", name, told)
        plan = replace(plan, view_scales=scales)
        record = {**record, "height": height, "width": width, PLAN: plan}
        (output,) = self._run(self.views, [record])
        found: Any = output.get("instances")
        masks = found.get_fields().get("pred_masks") if found is not None else None
        if self._paste and isinstance(masks, ROIMasks):
            output = {"instances": detector_postprocess(found, height, width)}
        return output
