"""Join config, data, model and evaluation: load configs, train, evaluate, try a run."""

from .config_loading import load_config, use_available_device
from .trainer import Trainer, build_mapper, check_dataset, evaluate, load_model, write_reports

__all__ = [
    "Trainer",
    "build_mapper",
    "check_dataset",
    "evaluate",
    "load_config",
    "load_model",
    "use_available_device",
    "write_reports",
]
