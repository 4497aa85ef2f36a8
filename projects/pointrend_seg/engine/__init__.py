"""Join config, data, model and evaluation: load configs, train, evaluate, try a run."""

from .config_loading import load_config, use_available_device
from .tasks import Task, find_task
from .trainer import Trainer, evaluate, load_model, write_reports

__all__ = [
    "Task",
    "Trainer",
    "evaluate",
    "find_task",
    "load_config",
    "load_model",
    "use_available_device",
    "write_reports",
]
