"""A model that sees each image as its `InputPlan` says."""

import logging
import os
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from ..data.input_size import PLAN, InputPlan
from .limits import raised_limits, reached_limit

logger = logging.getLogger(__name__)


class PlannedInference:
    """Show images to a model as planned, and say once what is unusual.

    Inputs without a plan (key `PLAN`) go to the model as they are, in one batch.
    """

    def __init__(self, cfg: CfgNode, *, watch_limits: bool):
        """
        Args:
            cfg: of the model.
            watch_limits: whether to say that detections reach a limit. Evaluation, which keeps
                detections of any score, compares with the objects instead.
        """
        self.cfg = cfg
        self._watch_limits = watch_limits
        self._said: set[str] = set()

    def __call__(self, model: Any, inputs: list[dict]) -> list[dict]:
        """Run a model in evaluation; the outputs are in the order of the inputs."""
        plans = [record.get(PLAN) for record in inputs]
        for record, plan in zip(inputs, plans, strict=True):
            if plan is not None:
                self._tell(_name(record), plan)
        factor = max([1.0, *(plan.limits for plan in plans if plan is not None)])
        with raised_limits(model, factor):
            outputs = model(inputs)
        if self._watch_limits:
            for record, output in zip(inputs, outputs, strict=True):
                self._watch(record, output, factor)
        return outputs

    def _watch(self, record: dict, output: dict, factor: float) -> None:
        if "instances" in output and "limit" not in self._said:
            message = reached_limit(self.cfg, len(output["instances"]), factor)
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
        elif plan.is_kept and self.cfg.INPUT.SCALE_TEST == 0:
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


def _name(record: dict) -> str:
    return os.path.basename(str(record.get("file_name") or "")) or "An image"
