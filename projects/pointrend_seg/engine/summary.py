"""What a training says about itself before it begins."""

import logging
from collections.abc import Iterable

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.utils import comm

from ..errors import printable
from ..files.progress import has_terminal, progress_bar
from .tasks import find_task

logger = logging.getLogger(__name__)

_MOST_NAMES = 12


def log_summary(trainer: DefaultTrainer) -> None:
    """Log model, classes, iterations and output folder, a line for each."""
    cfg = trainer.cfg
    parameters = list(trainer.model.parameters())
    count = sum(parameter.numel() for parameter in parameters)
    device = parameters[0].device
    name = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device
    logger.info("Model: %s, %.1f million parameters, on %s", _parts(cfg), count / 1e6, name)
    names = find_task(cfg).classes(cfg).names
    logger.info("Classes (%d): %s", len(names), _listed(names))
    logger.info(
        "Iterations: %d to %d with %d image(s) each, learning rate %g; a checkpoint every %d, %s",
        trainer.start_iter,
        trainer.max_iter,
        cfg.SOLVER.IMS_PER_BATCH,
        cfg.SOLVER.BASE_LR,
        cfg.SOLVER.CHECKPOINT_PERIOD,
        _evaluations(cfg),
    )
    logger.info("Output: %s; its log.txt has all details", cfg.OUTPUT_DIR)


def _parts(cfg: CfgNode) -> str:
    """Return the names of what a model is made of."""
    parts = [cfg.MODEL.META_ARCHITECTURE, *find_task(cfg).head_names(cfg)]
    backbone = cfg.MODEL.BACKBONE.NAME
    depth = f" (depth {cfg.MODEL.RESNETS.DEPTH})" if "resnet" in backbone else ""
    return ", ".join([*parts, backbone + depth])


def _evaluations(cfg: CfgNode) -> str:
    if not cfg.DATASETS.TEST:
        return "no evaluation"
    period = f"every {cfg.TEST.EVAL_PERIOD} and " if cfg.TEST.EVAL_PERIOD > 0 else ""
    return f"evaluation {period}at the end"


def _listed(names: Iterable[str]) -> str:
    names = [printable(name) for name in names]
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


class TrainingBar(HookBase):
    """Show the progress of a training, its loss and its learning rate in a bar on a terminal."""

    def before_train(self) -> None:
        start, end = self.trainer.start_iter, self.trainer.max_iter
        is_shown = has_terminal() and comm.is_main_process()
        self._bar = progress_bar(shown=is_shown, total=end, initial=start, unit="it")

    def after_step(self) -> None:
        if not self._bar.disable:
            latest = self.trainer.storage.latest()
            values = {
                name: f"{latest[key][0]:.4g}"
                for name, key in (("loss", "total_loss"), ("lr", "lr"))
                if key in latest
            }
            self._bar.set_postfix(values, refresh=False)
        self._bar.update()

    def after_train(self) -> None:
        self._bar.close()
