"""The trainer of runs whose parts come from a LazyConfig."""

import logging
import traceback
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.engine import HookBase, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.solver import LRMultiplier
from omegaconf import DictConfig, OmegaConf

from ..config.lazy import arguments_of
from ..data.workers import set_up_worker
from ..errors import InputError, first_line
from ..evaluation.build import MergedEvaluators, build_evaluator, results_folder
from ..modeling.model_checks import check_model
from ..modeling.registry import REFUSALS
from .lazy_settings import LazySettings
from .stopping import StoppableLoader
from .tasks import find_task
from .trainer import Trainer

logger = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parents[1]


class LazyTrainer(Trainer):
    """A `Trainer` whose model, optimizer, schedule, loaders and evaluator a lazy config describes.

    All else is as in `Trainer`. Images are resized in evaluation as the config's mapper says, at
    no scale of the training.
    """

    cfg: LazySettings

    @classmethod
    def check_data(cls, cfg: Any) -> None:
        """Check the data sets that the config names; what it does not name is not checked."""
        train = cfg.lazy.dataloader.get("train")
        names = OmegaConf.select(cfg.lazy, "dataloader.train.dataset.names")
        if train is None or (names is not None and not cfg.DATASETS.TRAIN):
            raise InputError(
                "There is nothing to train on: dataloader.train of the config is missing, or its "
                "dataset.names are empty."
            )
        if names is None:
            logger.warning(
                "dataloader.train.dataset names no registered data set, so the data are not "
                "checked before training."
            )
        for name in cfg.DATASETS.TRAIN:
            find_task(cfg).check_dataset(cfg, name, is_train=True)
        for name in cfg.DATASETS.TEST:
            find_task(cfg).check_dataset(cfg, name)

    def training_scales(self) -> tuple[list[float], float]:
        """Return no scales: the augmentations of the config are what it says."""
        return [], 0.0

    @classmethod
    def ddp_options(cls, cfg: Any) -> dict:
        """Return ``train.ddp`` of the config."""
        return dict(cfg.lazy.train.get("ddp") or {})

    @classmethod
    def build_model(cls, cfg: Any) -> torch.nn.Module:
        """Build the model, and check that its heads fit its backbone."""
        model = _build(cfg.lazy.model, "model").to(cfg.MODEL.DEVICE)
        check_model(model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: Any, model: torch.nn.Module) -> torch.optim.Optimizer:
        """Build the optimizer; ``optimizer.params.model`` is the model."""
        node = OmegaConf.create({"optimizer": cfg.lazy.optimizer}, flags={"allow_objects": True})
        node.optimizer.params.model = model
        return _build(node.optimizer, "optimizer")

    @classmethod
    def build_lr_scheduler(cls, cfg: Any, optimizer: torch.optim.Optimizer) -> Any:
        """Build the schedule, which multiplies the optimizer's learning rate."""
        multiplier = _build(cfg.lazy.lr_multiplier, "lr_multiplier")
        return LRMultiplier(optimizer, multiplier=multiplier, max_iter=cfg.SOLVER.MAX_ITER)

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Any:
        """Build ``dataloader.train``."""
        loader = _build(cfg.lazy.dataloader.train, "dataloader.train")
        if hasattr(loader, "records"):
            names = ", ".join(cfg.DATASETS.TRAIN)
            logger.info("Training data: %s, %d images", names, len(loader.records))
        return loader

    @classmethod
    def build_test_loader(cls, cfg: Any, dataset_name: str) -> Any:
        """Build ``dataloader.test``."""
        loader = _build(cfg.lazy.dataloader.test, "dataloader.test")
        logger.info("Evaluation on %s: %d images", dataset_name, len(loader.dataset))
        loader.worker_init_fn = set_up_worker
        return StoppableLoader(loader)

    @classmethod
    def build_evaluator(
        cls, cfg: Any, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """Build ``dataloader.evaluator``; without it, the evaluator for the data set's type.

        Where the config leaves them out, ``output_dir`` and ``detections_per_image`` are given.
        """
        node = cfg.lazy.dataloader.get("evaluator")
        if node is None:
            return build_evaluator(cfg, dataset_name, output_folder)
        folder = output_folder or str(results_folder(cfg, dataset_name))
        given = {"output_dir": folder, "detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE}
        several = OmegaConf.is_list(node)
        evaluators = []
        for number in range(len(node)) if several else [None]:
            place = "dataloader.evaluator" + (f".{number}" if several else "")
            call = OmegaConf.select(cfg.lazy, place)
            if isinstance(call, DictConfig):
                for name in set(given).intersection(arguments_of(call)) - set(call):
                    call[name] = given[name]
            evaluators.append(_build(call, place))
        return MergedEvaluators(evaluators) if several else evaluators[0]

    def build_hooks(self) -> list[HookBase | None]:
        """Build the hooks of `Trainer` with the periods of ``train``."""
        train, found = self.cfg.lazy.train, super().build_hooks()
        for hook in found:
            if isinstance(hook, hooks.PeriodicWriter):
                hook._period = train.get("log_period", hook._period)
            if isinstance(hook, hooks.PeriodicCheckpointer):
                kept = (train.get("checkpointer") or {}).get("max_to_keep")
                hook.max_to_keep = kept
        return found


def _build(node: Any, where: str) -> Any:
    """Instantiate a part of a lazy config.

    Raises:
        InputError: a constructor refuses its values; errors in this package's own code are raised
            as they are.
    """
    try:
        return instantiate(node)
    except InputError:
        raise
    except REFUSALS as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        if _PACKAGE in Path(place.filename).resolve().parents or "alloc" in str(error):
            raise
        raise InputError(
            f"{where} of the config cannot be built: {first_line(error)} (in {place.name}, "
            f"{Path(place.filename).name}, line {place.lineno}). Compare it with a config that "
            "works, such as those in configs/lazy/."
        ) from error
