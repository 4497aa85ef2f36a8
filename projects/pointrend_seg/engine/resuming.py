"""Go on with a training as if it had never stopped.

A checkpoint of `Trainer` has, besides weights and optimizer, the states of all random number
generators and the place in the order of images (`RunState`). What follows from the config, such as
the learning rate at an iteration, is taken from the present config.
"""

import logging
from collections.abc import Iterator
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.projects.deeplab.lr_scheduler import WarmupPolyLR
from detectron2.solver.lr_scheduler import LRMultiplier
from detectron2.utils import comm
from torch.optim import Optimizer

from ..config.reading import parse_config
from ..data.random_numbers import random_state, set_random_state
from ..data.training_loader import TrainingLoader
from ..errors import InputError

logger = logging.getLogger(__name__)

_ANEW = "The order of images starts anew: %s."
# Hyperparameters of an optimizer, and the keys that they come from.
_GROUP_KEYS = {
    "initial_lr": "SOLVER.BASE_LR",
    "momentum": "SOLVER.MOMENTUM",
    "nesterov": "SOLVER.NESTEROV",
    "weight_decay": "SOLVER.WEIGHT_DECAY",
}
_SEEDS = ("SEED", "train.seed")  # of a YAML config, of a lazy one
_NO_SETTINGS = (*_SEEDS, "OUTPUT_DIR", "MODEL.WEIGHTS", "train.output_dir", "train.init_checkpoint")


class RunState(HookBase):
    """Collect what a run needs besides weights and optimizer to go on.

    It stands behind the hooks that draw random numbers and before those that save and evaluate.
    Random states and places are those of each process, gathered on the main process. Because all
    processes wait for that, several do it only where the config has a checkpoint or an evaluation.
    A checkpoint that is saved at another iteration needs `collect`, or it has none of this.

    Args:
        cfg: the config of the run.
        loaders: the data loaders of the run, by name.
    """

    def __init__(self, cfg: CfgNode, loaders: dict[str, TrainingLoader]):
        self._cfg = cfg
        self._loaders = loaders
        self._processes: list[dict] = []
        self._random: dict | None = None

    def before_train(self) -> None:
        if self._random is not None:
            set_random_state(self._random)
        self.collect()

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        periods = (self._cfg.SOLVER.CHECKPOINT_PERIOD, self._cfg.TEST.EVAL_PERIOD)
        if (
            comm.get_world_size() == 1
            or done == self.trainer.max_iter
            or any(period > 0 and done % period == 0 for period in periods)
        ):
            self.collect()
        else:
            self._processes = []

    def collect(self) -> None:
        """Collect the state of this moment; all processes call it."""
        places = {name: loader.place() for name, loader in self._loaders.items()}
        self._processes = comm.gather({"random": random_state(), "places": places})

    def state_dict(self) -> dict:
        if not self._processes:
            return {}
        return {
            "config": self._cfg.dump(),
            "orders": {name: loader.order() for name, loader in self._loaders.items()},
            "processes": self._processes,
        }

    def load_state_dict(self, state: dict) -> None:
        """Take over random states and places; they hold from the beginning of the training on."""
        processes, rank = state["processes"], comm.get_rank()
        if rank < len(processes):
            self._random = processes[rank]["random"]
        if len(processes) == comm.get_world_size():
            self._processes = processes  # in case that a checkpoint is saved before the training
        for name, loader in self._loaders.items():
            if name in state["orders"]:
                places = [process["places"][name] for process in processes]
                problem = loader.go_on(state["orders"][name], places)
                if problem and name == "training":
                    logger.warning("This run will differ from an undisturbed one: %s.", problem)
        if "training" not in self._loaders.keys() & state["orders"].keys():
            logger.warning(_ANEW, "the data loader is none of this package")
        _log_changes(
            parse_config(state["config"].encode(), "the checkpoint"),
            yaml.safe_load(self._cfg.dump()),
        )


def add_run_state(trainer: DefaultTrainer, all_hooks: list[HookBase | None]) -> None:
    """Put a `RunState` before the hooks that save and evaluate."""
    loaders = {"training": trainer.data_loader}
    for hook in all_hooks:
        if isinstance(hook, hooks.PreciseBN):
            loaders["precise_bn"] = hook._data_loader
    loaders = {name: each for name, each in loaders.items() if isinstance(each, TrainingLoader)}
    last = (hooks.PeriodicCheckpointer, hooks.EvalHook)
    place = next(i for i, hook in enumerate(all_hooks) if isinstance(hook, last))
    all_hooks.insert(place, RunState(trainer.cfg, loaders))


def load_training_state(trainer: DefaultTrainer, state: dict) -> None:
    """Load what a checkpoint has besides weights; the config decides what it can decide.

    Learning rate, weight decay, momentum and the schedule are those of the present config. What the
    checkpoint lacks starts anew, and the log says so.

    Args:
        state: what `DefaultTrainer.state_dict` returns; all but ``iteration`` may be missing.

    Raises:
        InputError: the optimizer's parameters are not those of the checkpoint.
    """
    iteration, all_hooks = state["iteration"], dict(state.get("hooks", {}))
    follows_config = isinstance(trainer.scheduler, (LRMultiplier, WarmupPolyLR))
    if follows_config:
        all_hooks.pop("LRScheduler", None)
    TrainerBase.load_state_dict(trainer, {"iteration": iteration, "hooks": all_hooks})
    if "RunState" not in all_hooks:
        logger.warning(_ANEW, "the checkpoint has neither it nor the states of random numbers")

    fresh, saved = trainer._trainer.state_dict(), dict(state.get("_trainer", {}))
    if saved.get("optimizer"):
        if "RunState" not in all_hooks:
            _log_changes(_settings(saved["optimizer"]), _settings(fresh["optimizer"]))
        saved["optimizer"] = _present_settings(trainer.optimizer, saved["optimizer"])
    missing = [
        name for name in ("optimizer", "grad_scaler") if fresh.get(name) and not saved.get(name)
    ]
    if missing:
        logger.warning(
            "The checkpoint has no state of %s, which starts anew.", " and ".join(missing)
        )
    known = {name: value for name, value in saved.items() if value and name in fresh}
    trainer._trainer.load_state_dict(fresh | known)
    if follows_config:
        _set_schedule(trainer.scheduler, min(iteration + 1, trainer.max_iter))


def _present_settings(optimizer: Optimizer, saved: dict) -> dict:
    """Return a saved state of an optimizer with the hyperparameters that it has now."""
    groups = optimizer.state_dict()["param_groups"]
    sizes, saved_sizes = ([len(g["params"]) for g in gs] for gs in (groups, saved["param_groups"]))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shapes_fit = all(
        value.shape in ((), parameters[number].shape)
        for number, values in saved["state"].items()
        for value in values.values()
        if number < len(parameters) and hasattr(value, "shape")
    )
    if sizes != saved_sizes or not shapes_fit:
        raise InputError(
            "The optimizer of the checkpoint has other parameters than this config makes "
            f"({saved_sizes} in its groups, now {sizes}). SOLVER.BIAS_LR_FACTOR, "
            "SOLVER.WEIGHT_DECAY_BIAS and MODEL.BACKBONE.FREEZE_AT decide about them: set them as "
            "they were, or start a new training in another OUTPUT_DIR, with MODEL.WEIGHTS and "
            "without --resume."
        )
    return {"state": saved["state"], "param_groups": groups}


def _set_schedule(scheduler: Any, iteration: int) -> None:
    """Set a schedule, and the learning rates, to those of an iteration."""
    scheduler.last_epoch = iteration
    rates = scheduler.get_lr()
    for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler.load_state_dict({"_last_lr": rates})


def _settings(optimizer: dict) -> dict:
    """Return the hyperparameters in an optimizer's state, by config key."""
    groups = optimizer["param_groups"]
    return {
        key: sorted({group[name] for group in groups if name in group})
        for name, key in _GROUP_KEYS.items()
    }


def _log_changes(before: dict, after: dict) -> None:
    """Log which settings changed; those that only one side has are of another version."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    changes = [
        f"{key} from {old[key]} to {new[key]}"
        for key in sorted(old.keys() & new.keys())
        if old[key] != new[key] and key not in _NO_SETTINGS
    ]
    if changes:
        logger.warning(
            "The config is not that of the checkpoint. Training goes on with the new values: %s.",
            "; ".join(changes),
        )
    for name in _SEEDS:
        if name in old and old[name] != new[name]:
            logger.warning(
                f"{name} %s has no effect: the random numbers of the checkpoint's run ({name} %s) "
                "go on.",
                new[name],
                old[name],
            )


def _leaves(tree: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def log_start(trainer: DefaultTrainer, file: str) -> None:
    """Log where a resumed training goes on.

    Args:
        file: the checkpoint; "" if there is none.
    """
    start, end = trainer.start_iter, trainer.max_iter
    if not file:
        logger.warning(
            "%s has no checkpoint to resume from: training begins at iteration 0 from %s.",
            trainer.cfg.OUTPUT_DIR,
            trainer.cfg.MODEL.WEIGHTS or "random weights",
        )
    elif start == 0:
        logger.warning(
            "%s has weights but no state of a training: training begins with them at iteration 0.",
            file,
        )
    elif start >= end:
        logger.warning(
            "%s has all of its %d iterations behind it, and SOLVER.MAX_ITER is %d: nothing is left "
            "to train, and the model is evaluated. Set a higher SOLVER.MAX_ITER to train on.",
            file,
            start,
            end,
        )
    else:
        logger.info("Going on from %s with iteration %d of %d.", file, start, end)
