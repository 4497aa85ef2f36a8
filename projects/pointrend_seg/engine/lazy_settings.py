"""What a LazyConfig says about a run, under the keys that the rest of the engine reads.

Trainer, checks, logs and reports read a `CfgNode`. `LazySettings` is one that is filled from a lazy
config, and that has it at hand for whoever builds model, data loaders and optimizer.
"""

import inspect
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.config.instantiate import dump_dataclass
from omegaconf import DictConfig, OmegaConf, SCMode
from omegaconf.errors import OmegaConfBaseException

from ..config import add_pointrend_config
from ..config.detectron2_keys import detectron2_keys
from ..config.keys import KEYS
from ..config.lazy import load_lazy_config, target_of
from ..config.tree import value_of
from ..data.coco_records import use_own_reader
from ..data.custom.registration import register_custom
from ..data.point_sets import register_point_set
from ..errors import InputError, did_you_mean, first_line
from .config_loading import use_available_device
from .tasks import find_task

logger = logging.getLogger(__name__)

# Keys of the engine, and where a lazy config states them.
PLACES = {
    "OUTPUT_DIR": "train.output_dir",
    "SEED": "train.seed",
    "CUDNN_BENCHMARK": "train.cudnn_benchmark",
    "SOLVER.MAX_ITER": "train.max_iter",
    "SOLVER.AMP.ENABLED": "train.amp.enabled",
    "SOLVER.CHECKPOINT_PERIOD": "train.checkpointer.period",
    "SOLVER.BASE_LR": "optimizer.lr",
    "SOLVER.IMS_PER_BATCH": "dataloader.train.total_batch_size",
    "DATALOADER.NUM_WORKERS": "dataloader.train.num_workers",
    "DATASETS.CUSTOM": "dataloader.custom",
    "INPUT.FORMAT": "dataloader.test.mapper.image_format",
    "INPUT.POINT_SUP": "dataloader.train.mapper.use_points",
    "INPUT.SAMPLE_POINTS": "dataloader.train.mapper.sample_points",
    "TEST.EVAL_PERIOD": "train.eval_period",
    "TEST.REPORT": "train.report",
    "TEST.DETECTIONS_PER_IMAGE": "model.roi_heads.box_predictor.test_topk_per_image",
    "MODEL.WEIGHTS": "train.init_checkpoint",
    "MODEL.DEVICE": "train.device",
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": "model.sem_seg_head.num_classes",
    "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": "model.sem_seg_head.ignore_value",
    "MODEL.ROI_HEADS.NUM_CLASSES": "model.roi_heads.num_classes",
}
_TOPK = ("PRE_NMS_TOPK", "POST_NMS_TOPK")  # two keys each, a pair in a lazy config
_NAMES = {"DATASETS.TRAIN": "dataloader.train", "DATASETS.TEST": "dataloader.test"}
# Classes of models, of which others may be derived.
_MODELS = ("PanopticFPN", "GeneralizedRCNN", "SemanticSegmentor")
# What `train` may have besides.
_TRAIN = ("log_period", "ddp", "checkpointer", "amp")


class LazySettings(CfgNode):
    """The settings of a run that a lazy config states.

    Attributes:
        lazy: the config; model, data loaders and optimizer are built from it.
    """

    lazy: DictConfig

    @classmethod
    def of(cls, lazy: DictConfig) -> "LazySettings":
        """Read what a lazy config says.

        Raises:
            InputError: a value that cannot be used, or data loaders that do not say their data.
        """
        defaults = get_cfg()
        add_pointrend_config(defaults)
        settings = cls(defaults)
        settings.__dict__["lazy"] = lazy
        known = {**detectron2_keys(), **KEYS}
        for key, place in PLACES.items():
            value = _select(lazy, place)
            if value is not None:
                replace(known[key], name=place).check(value)
                _set(settings, key, value)
        for key, place in _NAMES.items():
            _set(settings, key, _dataset_names(lazy, place))
        _read_model(settings, lazy)
        return settings

    def dump(self, **options: Any) -> str:
        """Return the lazy config as YAML of plain values; targets are names."""
        return yaml.safe_dump(_plain(self.lazy), sort_keys=False, **options)


def load_settings(
    path: str, overrides: Sequence[str] = (), data: Sequence[Any] = ()
) -> LazySettings:
    """Load a lazy config as `load_config` loads a YAML one: checked, data registered, a device.

    Args:
        path: of a ``.py`` file, which is run.
        overrides: "key=value" each.
        data: changes of ``DATASETS``, KEY VALUE KEY VALUE …, as the options of the tools give
            them: names, data sets of the user's own, and whether classes are taken from the data.

    Raises:
        InputError: as `load_lazy_config` and `LazySettings.of`; or a data set that is not what the
            config says.
    """
    lazy = load_lazy_config(path, overrides, PLACES.values())
    changes = dict(zip(data[::2], data[1::2], strict=True))
    for key, place in _NAMES.items():
        if key in changes:
            _take_names(lazy, place, changes[key])
    if "DATASETS.CUSTOM" in changes:
        OmegaConf.update(lazy, PLACES["DATASETS.CUSTOM"], changes["DATASETS.CUSTOM"])
    _warn_of_unread(lazy)
    settings = LazySettings.of(lazy)
    try:
        use_available_device(settings)
        register_custom(settings)
        for name in (*settings.DATASETS.TRAIN, *settings.DATASETS.TEST):
            register_point_set(name)
            use_own_reader(name)
        if changes.get("DATASETS.CLASSES_FROM_DATA"):
            _take_classes(settings)
    except InputError as error:
        raise in_lazy_names(error) from error
    return settings


def in_lazy_names(error: InputError) -> InputError:
    """Return an error whose message names the keys of lazy configs, not those of YAML ones."""
    message = str(error)
    places = PLACES | {key: f"{place}.dataset.names" for key, place in _NAMES.items()}
    for key in sorted(places, key=len, reverse=True):
        message = re.sub(rf"{re.escape(key)} (?=\S+/)", f"{places[key]}=", message)  # KEY VALUE
        message = message.replace(key, places[key])
    return InputError(message)


def _select(lazy: DictConfig, place: str) -> Any:
    """Return a plain value, None where the config has no such key."""
    try:
        value = OmegaConf.select(lazy, place)
    except OmegaConfBaseException as error:
        raise InputError(f"{place} of the config: {first_line(error)}") from error
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _set(cfg: CfgNode, key: str, value: Any) -> None:
    *nodes, name = key.split(".")
    for node in nodes:
        cfg = cfg[node]
    cfg[name] = float(value) if isinstance(cfg[name], float) else value


def _dataset_names(lazy: DictConfig, place: str) -> tuple[str, ...]:
    """Return the names of the registered data sets that a loader reads, () if it says none."""
    is_test = place == _NAMES["DATASETS.TEST"]
    names = _select(lazy, f"{place}.dataset.names")
    if names is None and is_test and lazy.dataloader.get("test") is not None:
        names = _select(lazy, "dataloader.evaluator.dataset_name")
        if names is None:
            raise InputError(
                f"{place}.dataset.names is missing, and dataloader.evaluator has no dataset_name: "
                "name the registered data set that is evaluated on."
            )
    names = [names] if isinstance(names, str) else names or []
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{place}.dataset.names is {names!r}; it must be names of data sets.")
    if is_test and len(names) > 1:
        raise InputError(
            f"{place}.dataset.names are {', '.join(names)}, but an evaluation is of one data set. "
            "Evaluate on one after the other (--eval-only)."
        )
    return tuple(names)


def _take_names(lazy: DictConfig, place: str, names: Sequence[str]) -> None:
    dataset = OmegaConf.select(lazy, f"{place}.dataset")
    if dataset is not None:
        dataset.names = names[0] if names else []  # with --train-data alone: nothing to evaluate
    elif names:
        raise InputError(
            f"The config has no {place}.dataset, which would take your data. Add it, as in "
            "configs/lazy/common/data/."
        )


def _read_model(settings: CfgNode, lazy: DictConfig) -> None:
    """Set the keys that name the parts of a model."""
    model = settings.MODEL
    model.META_ARCHITECTURE = _class_name(lazy.model, _MODELS)
    roi_heads = lazy.model.get("roi_heads")
    mask_head = None if roi_heads is None else roi_heads.get("mask_head")
    model.MASK_ON = mask_head is not None
    model.KEYPOINT_ON = roi_heads is not None and roi_heads.get("keypoint_head") is not None
    for node, part in (
        (model.BACKBONE, lazy.model.get("backbone")),
        (model.SEM_SEG_HEAD, lazy.model.get("sem_seg_head")),
        (model.ROI_HEADS, roi_heads),
        (model.ROI_MASK_HEAD, mask_head),
    ):
        if isinstance(part, DictConfig):
            node.NAME = _class_name(part)
    for name in _TOPK:
        pair = _select(lazy, f"model.proposal_generator.{name.lower()}")
        if pair is not None:
            model.RPN[f"{name}_TRAIN"], model.RPN[f"{name}_TEST"] = pair


def _class_name(node: DictConfig, known: Sequence[str] = ()) -> str:
    """Return the name of what a call names; of a class the first known name of its bases."""
    target = target_of(node)
    bases = [each.__name__ for each in inspect.getmro(target)] if inspect.isclass(target) else []
    named = [name for name in bases if name in known]
    return (named or bases or [getattr(target, "__qualname__", str(target))])[0]


def _take_classes(settings: LazySettings) -> None:
    """Set class counts of the lazy config, and its limits on objects, to those of the data."""
    task = find_task(settings)
    task.take_classes_from_data(settings)
    keys = (*task.count_keys, task.ignore_key, "TEST.DETECTIONS_PER_IMAGE")
    for key in keys:
        if key in PLACES and _select(settings.lazy, PLACES[key]) is not None:
            OmegaConf.update(settings.lazy, PLACES[key], value_of(settings, key))
    generator = settings.lazy.model.get("proposal_generator")
    for name in _TOPK if generator is not None else ():
        limits = [settings.MODEL.RPN[f"{name}_{split}"] for split in ("TRAIN", "TEST")]
        generator[name.lower()] = limits


def _warn_of_unread(lazy: DictConfig) -> None:
    """Warn of keys of ``train`` that this package does not read."""
    known = [*_TRAIN, *(place.split(".")[1] for place in PLACES.values() if "train." in place[:6])]
    for name in lazy.train:
        if name not in known:
            logger.warning(
                "train.%s is not read by this tool.%s", name, did_you_mean(str(name), known)
            )


def _plain(node: Any) -> Any:
    """Return a config as dicts, lists and plain values; what is neither becomes its name."""
    if OmegaConf.is_config(node):
        node = OmegaConf.to_container(node, structured_config_mode=SCMode.INSTANTIATE)
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    if node is None or isinstance(node, str | int | float | bool):
        return node
    if hasattr(node, "__dataclass_fields__") and not isinstance(node, type):
        return _plain(dump_dataclass(node))
    module, name = getattr(node, "__module__", ""), getattr(node, "__qualname__", "")
    return f"{module}.{name}" if name else repr(node)
