"""The trainer, and evaluation of trained models."""

import contextlib
import logging
import os
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, HookBase, defaults, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
)
from detectron2.projects.deeplab import build_lr_scheduler
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    EventWriter,
    TensorboardXWriter,
)

from ..checkpoint.loading import Checkpointer, load_weights
from ..checkpoint.saving import FINAL
from ..config.tree import all_keys, value_of
from ..data.input_size import TestResize, at_own_size, training_scales, with_training_scales
from ..data.random_numbers import kept_random_state
from ..data.training_loader import build_training_loader
from ..data.workers import affordable_workers, largest_input, set_up_worker
from ..errors import InputError, did_you_mean
from ..evaluation.build import build_evaluator, results_folder
from ..modeling.registry import REFUSALS, explain_refusal, look_up
from ..modeling.roi_mask_model import RoiMaskModel
from ..report import write_report
from ..test_time.model import AugmentedModel
from ..test_time.views import check_augmentable
from ..tiling.model import PlannedModel
from .metrics_file import MetricsWriter
from .resuming import RunState, add_run_state, load_training_state, log_start
from .stopping import AgreedStop, StoppableLoader, Stopped, iterations, raise_if_stopped
from .summary import TrainingBar, log_summary
from .tasks import find_task

logger = logging.getLogger(__name__)

_SCHEDULES = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR", "WarmupPolyLR")


class Trainer(DefaultTrainer):
    """Detectron2's `DefaultTrainer` with the mapper, schedules and evaluators of this package.

    The data sets are checked before anything is built; what is wrong with them, or with the
    weights, is raised as `InputError`.

    Attributes:
        trained_at: scales and side of the training images, as `training_scales` returns them; in
            ``cfg`` they are ``INPUT.TRAINED_SCALES`` and ``INPUT.TRAINED_SIDE``.
    """

    cfg: CfgNode
    start_iter: int
    checkpointer: Checkpointer
    _last_eval_results: dict

    def __init__(self, cfg: CfgNode):
        if cfg.TEST.AUG.ENABLED:
            check_augmentable(cfg)
        self.check_data(cfg)
        with _ddp_on_any_device(cfg, self.ddp_options(cfg)):
            super().__init__(cfg)
        self.resumed_from = ""
        self.trained_at = self.training_scales()
        self.cfg = with_training_scales(self.cfg, *self.trained_at)

    @classmethod
    def check_data(cls, cfg: CfgNode) -> None:
        """Raise `InputError` where there is nothing to train on, or data sets are wrong."""
        for name in cfg.DATASETS.TRAIN:
            find_task(cfg).check_dataset(cfg, name, is_train=True)
        for name in cfg.DATASETS.TEST:
            find_task(cfg).check_dataset(cfg, name)
        if not cfg.DATASETS.TRAIN:
            raise InputError(
                "There is nothing to train on: DATASETS.TRAIN is empty. Give a config of a model "
                "with --config-file FILE, and your own data with --train-data IMAGES LABELS."
            )

    def training_scales(self) -> tuple[list[float], float]:
        """Return what evaluation and prediction keep of the training, see data/input_size.py."""
        records = getattr(self._trainer.data_loader, "records", [])
        return training_scales(self.cfg, records)

    @classmethod
    def ddp_options(cls, cfg: CfgNode) -> dict:
        """Return options of `create_ddp_model` besides those of `DefaultTrainer`."""
        return {}

    def train(self) -> dict | None:
        """Train as `DefaultTrainer` does, then write the report of the last evaluation.

        Where nothing is left to train, ``model_final.pth`` is the checkpoint resumed from.

        Raises:
            Stopped: a signal came; there is a checkpoint of the last iteration (see `stopping`).
        """
        is_final = os.path.basename(self.resumed_from) == f"{FINAL}.pth"
        if self.start_iter >= self.max_iter and not is_final:
            self.checkpointer.save(FINAL, iteration=self.iter)
        log_summary(self)
        try:
            with iterations():
                results = super().train()
        except AgreedStop as stop:
            name = FINAL if self.iter >= self.max_iter - 1 else f"model_{self.iter:07d}"
            for hook in self._hooks:
                if isinstance(hook, RunState):
                    hook.collect()
            # the hooks saved the final one, and perhaps this one
            if name != FINAL and self.checkpointer.saved_iteration != self.iter:
                self.checkpointer.save(name, iteration=self.iter)
            comm.synchronize()  # where one process ends, others may be ended, too
            raise Stopped(
                f"Training was stopped by a signal after iteration {self.iter}. --resume goes on "
                f"from {os.path.join(self.cfg.OUTPUT_DIR, name)}.pth.",
                stop.status,
            ) from None
        write_reports(self.cfg)
        return results

    def after_step(self) -> None:
        """Finish an iteration as `DefaultTrainer` does; stop if a signal came."""
        super().after_step()
        raise_if_stopped()

    def resume_or_load(self, resume: bool = True) -> None:
        """Load weights as `DefaultTrainer` does, or go on with the training of the output folder.

        Weights that do not fit at all are an error. What is promised of a resumed training is in
        docs/training.md.
        """
        self.iter = -1  # unless the checkpoint has an iteration
        path = self.cfg.MODEL.WEIGHTS
        self.resumed_from = load_weights(self.checkpointer, path, resume=resume, complete=False)
        self.start_iter = self.iter + 1
        if resume:
            log_start(self, self.resumed_from)

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what a checkpoint has besides weights, see `load_training_state`."""
        load_training_state(self, state_dict)

    def build_hooks(self) -> list[HookBase | None]:
        """Build the hooks of `DefaultTrainer`, and one that makes resuming exact."""
        self.checkpointer = Checkpointer(  # which the hooks save with
            self._trainer.model, self.cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        built = super().build_hooks()
        add_run_state(self, built)
        if self.cfg.TEST.AUG.ENABLED:
            evaluation = next(k for k, hook in enumerate(built) if isinstance(hook, hooks.EvalHook))
            built.insert(evaluation + 1, hooks.EvalHook(0, self._test_with_TTA))  # at the end
        return [*built, TrainingBar()]

    def _test_with_TTA(self) -> dict:
        results = self.test_with_TTA(self.cfg, self.model)
        self._last_eval_results.update(results)  # which TEST.EXPECTED_RESULTS is compared with
        return results

    @classmethod
    def build_model(cls, cfg: CfgNode) -> torch.nn.Module:
        """Build the model; a name that is not registered is an `InputError`."""
        look_up(META_ARCH_REGISTRY, cfg.MODEL.META_ARCHITECTURE, "MODEL.META_ARCHITECTURE")
        look_up(BACKBONE_REGISTRY, cfg.MODEL.BACKBONE.NAME, "MODEL.BACKBONE.NAME")
        find_task(cfg).check_names(cfg)
        try:
            return super().build_model(cfg)
        except InputError:
            raise
        except REFUSALS as error:
            raise explain_refusal(error, cfg) or error from error

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Build the loader of the training sets, with the mapper of the task."""
        _refuse_proposal_files(cfg)
        check_batch_size(cfg, comm.get_world_size())
        return build_training_loader(cfg, find_task(cfg).build_mapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """Build the loader of a test set, with the mapper of the task."""
        _refuse_proposal_files(cfg)
        mapper = find_task(cfg).build_mapper(cfg, is_train=False)
        parts = build_detection_test_loader.from_config(cfg, dataset_name, mapper=mapper)
        image_bytes = largest_input(cfg, parts["dataset"], is_train=False)
        parts["num_workers"] = affordable_workers(
            parts["num_workers"], image_bytes=image_bytes, ahead=2, held=2
        )
        logger.info("Evaluation on %s: %d images", dataset_name, len(parts["dataset"]))
        loader = build_detection_test_loader(**parts)
        loader.worker_init_fn = set_up_worker
        return StoppableLoader(loader)

    def build_writers(self) -> list[EventWriter]:
        """Build Detectron2's writers; none makes a file before it has something to write."""
        folder = self.cfg.OUTPUT_DIR
        return [
            CommonMetricPrinter(self.max_iter),
            MetricsWriter(os.path.join(folder, "metrics.json")),
            TensorboardXWriter(folder),
        ]

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """Build the schedule of the learning rate; DeepLab's \"WarmupPolyLR\" is one, too."""
        name = cfg.SOLVER.LR_SCHEDULER_NAME
        if name not in _SCHEDULES:
            raise InputError(
                f"SOLVER.LR_SCHEDULER_NAME is {name!r}.{did_you_mean(name, _SCHEDULES)} Known "
                f"names: {', '.join(_SCHEDULES)}. One of your own needs a Trainer whose "
                "build_lr_scheduler knows it."
            )
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_evaluator(
        cls, cfg: CfgNode, dataset_name: str, output_folder: str | None = None
    ) -> DatasetEvaluator:
        """Build the evaluator of a data set, see `evaluation.build`."""
        return build_evaluator(cfg, dataset_name, output_folder)

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: torch.nn.Module,
        evaluators: DatasetEvaluator | list[DatasetEvaluator] | None = None,
    ) -> dict:
        """Evaluate as `DefaultTrainer` does; masks are pasted only where evaluators need it.

        Random numbers that training draws afterwards are not disturbed.
        """
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is None:
            with contextlib.suppress(NotImplementedError):  # `DefaultTrainer` then warns of it
                evaluators = [cls.build_evaluator(cfg, name) for name in cfg.DATASETS.TEST]
        if evaluators and RoiMaskModel.suits(model, evaluators):
            model = RoiMaskModel(model)
        if not TestResize.from_config(cfg).is_plain:
            model = PlannedModel(model, cfg)
        with kept_random_state():
            return super().test(cfg, model, evaluators)

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: torch.nn.Module) -> dict:
        """Evaluate with test-time augmentation by ``TEST.AUG``, as Detectron2's train_net.py does.

        Returns:
            the results of `test`, with the suffix "_TTA" at each task (at each data set, of
            several), only on the main process. Files are in ``OUTPUT_DIR/inference_TTA``.

        Raises:
            InputError: augmentation does not know the model, or a value in ``TEST.AUG`` is invalid.
        """
        check_augmentable(cfg)
        evaluators = [
            cls.build_evaluator(cfg, name, str(results_folder(cfg, name, augmented=True)))
            for name in cfg.DATASETS.TEST
        ]
        paste = not all(getattr(each, "takes_roi_masks", False) for each in evaluators)
        model = AugmentedModel(model, cfg, paste=paste)
        logger.info("Evaluation with test-time augmentation, whose results end in _TTA")
        with kept_random_state():
            results = super().test(at_own_size(cfg), model, evaluators)
        return {f"{name}_TTA": value for name, value in results.items()}


@contextlib.contextmanager
def _ddp_on_any_device(cfg: CfgNode, more: dict) -> Iterator[None]:
    """Make `DefaultTrainer` wrap a model where its parameters are; Detectron2 wants a GPU.

    Args:
        more: other options of `create_ddp_model`.

    Raises:
        InputError: several processes on the CPU, and layers that PyTorch has for GPUs only.
    """
    original = defaults.create_ddp_model

    def create_ddp_model(model: torch.nn.Module, **options: Any) -> torch.nn.Module:
        device = next(model.parameters()).device
        layers = (isinstance(layer, torch.nn.SyncBatchNorm) for layer in model.modules())
        if device.type != "cuda" and comm.get_world_size() > 1 and any(layers):
            keys = [key for key in all_keys(cfg) if value_of(cfg, key) == "SyncBN"]
            raise InputError(
                "SyncBN in several processes needs GPUs. On the CPU set "
                f"{' and '.join(keys)} to naiveSyncBN, which computes the same, or to BN."
            )
        devices = [device] if device.type == "cuda" else None
        with warnings.catch_warnings():  # of an option that Detectron2 sets, from each process
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            return original(model, device_ids=devices, **options | more)

    defaults.create_ddp_model = create_ddp_model
    try:
        yield
    finally:
        defaults.create_ddp_model = original


def check_batch_size(cfg: CfgNode, num_processes: int) -> None:
    """Raise `InputError` where the images of a batch cannot be shared evenly by the processes."""
    images = DefaultTrainer.auto_scale_workers(cfg, num_processes).SOLVER.IMS_PER_BATCH
    if images % num_processes:
        raise InputError(
            f"SOLVER.IMS_PER_BATCH is {images}, which {num_processes} processes cannot share "
            "evenly: it counts the images of all together. Choose a multiple of their number."
        )


def _refuse_proposal_files(cfg: CfgNode) -> None:
    """Raise `InputError` where Detectron2 would load pickles, whatever they run."""
    if cfg.MODEL.LOAD_PROPOSALS:
        raise InputError(
            "MODEL.LOAD_PROPOSALS is True, but files of proposals (DATASETS.PROPOSAL_FILES_TRAIN "
            "and DATASETS.PROPOSAL_FILES_TEST) are pickles, which could run code: they are not "
            "read. Set it to False and train a model that makes its own proposals."
        )


def load_model(
    cfg: CfgNode, *, resume: bool = False, trainer: type[Trainer] = Trainer
) -> torch.nn.Module:
    """Build the model of a config and load all of its weights; it is in evaluation mode.

    Args:
        resume: take the last checkpoint in the output folder instead of ``cfg.MODEL.WEIGHTS``.
        trainer: builds the model.

    Raises:
        InputError: the weights cannot be read or do not fit.
    """
    model = trainer.build_model(cfg)
    checkpointer = Checkpointer(model, save_dir=cfg.OUTPUT_DIR)
    load_weights(checkpointer, cfg.MODEL.WEIGHTS, resume=resume, complete=True)
    return model.eval()


def evaluate(
    cfg: CfgNode,
    *,
    resume: bool = False,
    begin: Callable[[], None] | None = None,
    trainer: type[Trainer] = Trainer,
) -> dict:
    """Evaluate ``cfg.MODEL.WEIGHTS`` on ``cfg.DATASETS.TEST`` and add a line to ``metrics.json``.

    With ``TEST.AUG.ENABLED`` it evaluates a second time, with test-time augmentation, see
    `Trainer.test_with_TTA`.

    Args:
        resume: evaluate the last checkpoint in the output folder instead.
        begin: called before the first file is written, when everything is checked.
        trainer: builds model, data loaders and evaluators.

    Returns:
        the results by task, of one test set, or by test set of several; only on the main process.
    """
    if not cfg.DATASETS.TEST:
        raise InputError(
            "There is nothing to evaluate on: DATASETS.TEST is empty. Name a data set in it, or "
            "give your own data with --val-data IMAGES LABELS."
        )
    if cfg.TEST.AUG.ENABLED:
        check_augmentable(cfg)
    for name in cfg.DATASETS.TEST:
        find_task(cfg).check_dataset(cfg, name)
    model = load_model(cfg, resume=resume, trainer=trainer)
    if begin is not None:
        begin()
    results = trainer.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        results.update(trainer.test_with_TTA(cfg, model))
    if comm.is_main_process():
        with EventStorage() as storage:
            storage.put_scalars(**flatten_results_dict(results), smoothing_hint=False)
            MetricsWriter(os.path.join(cfg.OUTPUT_DIR, "metrics.json")).write()
        write_reports(cfg)
    return results


def write_reports(cfg: CfgNode) -> None:
    """Write ``report.html`` for each test set that was evaluated, if ``TEST.REPORT`` says so.

    Only on the main process. A report that fails is logged: what it is about is done.
    """
    if not (cfg.TEST.get("REPORT", True) and comm.is_main_process()):
        return
    folders = [
        (name, results_folder(cfg, name, augmented=augmented))
        for name in cfg.DATASETS.TEST
        for augmented in (False, True)[: 1 + cfg.TEST.AUG.ENABLED]
    ]
    for name, folder in folders:
        if not os.path.isdir(folder):
            continue
        try:
            logger.info("Report: %s", write_report(cfg, name, folder=folder))
        except Exception:
            logger.exception("The report of %s could not be written.", name)
