"""Take the number of classes of a model, and its limits on objects, from its data set."""

import logging
import math
from collections.abc import Callable, Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..config.tree import value_of
from ..errors import InputError
from .coco_json import read_categories
from .custom.registration import check_custom
from .dataset_files import check_registered, load_dicts

logger = logging.getLogger(__name__)


def take_classes_from_data(
    cfg: CfgNode,
    count: Callable[[str], dict[str, int]],
    *,
    ignore_key: str = "",
    has_objects: bool,
) -> None:
    """Set the class counts of a config to those of its data set, and log it.

    For objects, limits on detections and proposals that are too low for the data are raised.

    Args:
        cfg: not frozen. The first of ``DATASETS.TRAIN`` counts, or where there is none, the first
            of ``DATASETS.TEST``. ``DATASETS.CLASSES_FROM_DATA`` becomes False, because it is done.
        count: returns the values of the config keys that hold a number of classes, from the name
            of a data set.
        ignore_key: the key of the ignored label, to be set where the data set has one.
        has_objects: whether the model finds objects.

    Raises:
        InputError: there is no data set, or it does not know its classes.
    """
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names:
        raise InputError(
            "DATASETS.CLASSES_FROM_DATA is True, but there is no data set in DATASETS.TRAIN or "
            "DATASETS.TEST. Name one, or set the class counts."
        )
    changes = count(names[0])
    ignored = MetadataCatalog.get(names[0]).get("ignore_label")
    if ignore_key and ignored is not None:
        changes[ignore_key] = ignored
    for key, value in changes.items():
        before = value_of(cfg, key)
        if before != value:
            logger.info(f"{key}: {before} -> {value}, from the data set {names[0]}")
            cfg.merge_from_list([key, value])
    if has_objects:
        _take_limits(cfg, names)
    cfg.DATASETS.CLASSES_FROM_DATA = False


def _take_limits(cfg: CfgNode, names: Sequence[str]) -> None:
    """Raise limits on detections and proposals that are too low for the data sets, and log it."""
    most = max(map(most_objects, names))
    wanted = {"TEST.DETECTIONS_PER_IMAGE": (math.ceil(0.15 * most) * 10, 1.05 * most)}
    for split in ("TRAIN", "TEST"):
        wanted[f"MODEL.RPN.POST_NMS_TOPK_{split}"] = (4 * most, 2 * most)
        wanted[f"MODEL.RPN.PRE_NMS_TOPK_{split}"] = (8 * most, 4 * most)
    for key, (value, least) in wanted.items():
        before = value_of(cfg, key)
        if 0 <= before < least:
            logger.info(f"{key}: {before} -> {value}, since an image has {most} objects")
            cfg.merge_from_list([key, value])


def most_objects(name: str) -> int:
    """Return how many objects, crowds left out, an image of a data set has at most.

    It is 0 for a data set that cannot be loaded; its check says why.
    """
    try:
        records = load_dicts(name)
        return max(sum(not each.get("iscrowd") for each in _objects(record)) for record in records)
    except Exception as error:  # whatever is in the files; nothing is built from them here
        logger.debug("%s: %s", name, error)
        return 0


def _objects(record: dict) -> Sequence[dict]:
    """Return the annotations of a data set dict; without any, its panoptic segments of things."""
    segments = record.get("segments_info") or ()
    return record.get("annotations") or [each for each in segments if each.get("isthing")]


def dataset_classes(name: str, *, semantic: bool) -> list[str]:
    """Return the class names of a data set for semantic or instance segmentation.

    Raises:
        InputError: not registered, or it has none of that kind.
    """
    check_registered(name, "DatasetCatalog.register(name, function)")
    check_custom(name, semantic=semantic)
    metadata = MetadataCatalog.get(name)
    kind = "stuff_classes" if semantic else "thing_classes"
    if metadata.get(kind):
        return list(metadata.get(kind))
    if not semantic and metadata.get("json_file"):
        return [entry["name"] for entry in read_categories(name, metadata.json_file)]
    load_dicts(name)  # loaders fill in what they find
    if metadata.get(kind):
        return list(metadata.get(kind))
    wanted, other = ("semantic", "instance") if semantic else ("instance", "semantic")
    raise InputError(
        f"The data set {name} has no class names for {wanted} segmentation ({kind} in its "
        f"metadata). If its labels are for {other} segmentation, choose a config for that."
    )
