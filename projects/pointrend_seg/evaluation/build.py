"""Build the evaluator of a data set."""

from collections import OrderedDict
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import CityscapesSemSegEvaluator, DatasetEvaluator, DatasetEvaluators
from detectron2.utils import comm

from ..data.cityscapes import check_cityscapes_evaluation, ensure_cityscapes_importable
from ..data.panoptic.records import EVALUATOR_TYPE
from ..errors import InputError
from ..files.names import path_inside
from .average_precision import IOU_TYPES
from .cityscapes import CityscapesInstanceEvaluator
from .coco import CocoInstanceEvaluator
from .lvis import LvisInstanceEvaluator
from .panoptic import PanopticEvaluator
from .panoptic_branches import PanopticInstanceEvaluator, PanopticSemanticEvaluator
from .semantic import SemanticSegmentationEvaluator

INSTANCE_EVALUATORS = {"coco": CocoInstanceEvaluator, "lvis": LvisInstanceEvaluator}


class MergedEvaluators(DatasetEvaluators):
    """Several evaluators whose metrics are merged by task.

    Detectron2's `DatasetEvaluators` refuses two evaluators of the same task.
    """

    def evaluate(self) -> OrderedDict[str, OrderedDict]:
        merged: OrderedDict[str, OrderedDict] = OrderedDict()
        for evaluator in self._evaluators:
            for task, metrics in (evaluator.evaluate() or {}).items():
                merged.setdefault(task, OrderedDict()).update(metrics)
        return merged


def results_folder(cfg: CfgNode, dataset_name: str) -> Path:
    """Return where the results of a data set are written, ``OUTPUT_DIR/inference/DATASET``.

    Raises:
        InputError: the name leads elsewhere, or to a link.
    """
    return path_inside(path_inside(cfg.OUTPUT_DIR, "inference"), dataset_name)


def check_machines(dataset_name: str) -> None:
    """Raise `InputError` for a data set that cannot be scored in a run on several machines."""
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type") or ""
    several = comm.get_world_size() > 1 and comm.get_local_size() < comm.get_world_size()
    if several and kind.startswith("cityscapes"):
        raise InputError(
            f"The Cityscapes scripts score {dataset_name} on one machine only. For a training on "
            'several, set DATASETS.TEST to "()", and evaluate on one afterwards (--eval-only).'
        )


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluator:
    """Return the evaluator for a data set's ``evaluator_type``.

    Cityscapes is scored by the Cityscapes scripts; for semantic labels, IoU and Boundary IoU of
    this package are added. Panoptic data sets are scored by panoptic quality and by the metrics of
    both branches; of a model with one branch, by that alone. With ``MODEL.MASK_ON``, mask metrics
    are NaN if the model predicts no masks.

    Args:
        cfg: ``MODEL.MASK_ON``, ``TEST.DETECTIONS_PER_IMAGE`` and ``OUTPUT_DIR`` are read.
        dataset_name: a registered data set.
        output_folder: where to write results; ``OUTPUT_DIR/inference/DATASET`` if None.

    Raises:
        InputError: unknown ``evaluator_type``, or the Cityscapes scripts are not installed.
    """
    output_folder = output_folder or str(results_folder(cfg, dataset_name))
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind == "sem_seg":
        return SemanticSegmentationEvaluator(dataset_name, output_dir=output_folder)
    if kind == "cityscapes_sem_seg":
        ensure_cityscapes_importable()
        check_cityscapes_evaluation()
        ours = SemanticSegmentationEvaluator(dataset_name, output_dir=output_folder)
        return MergedEvaluators([CityscapesSemSegEvaluator(dataset_name), ours])
    if kind == "cityscapes_instance":
        return CityscapesInstanceEvaluator(dataset_name)
    if kind in INSTANCE_EVALUATORS:
        return _instance_evaluator(INSTANCE_EVALUATORS[kind], cfg, dataset_name, output_folder)
    if kind == EVALUATOR_TYPE:
        return MergedEvaluators(_panoptic_evaluators(cfg, dataset_name, output_folder))
    known = ["sem_seg", "cityscapes_sem_seg", "cityscapes_instance", *INSTANCE_EVALUATORS]
    known.append(EVALUATOR_TYPE)
    raise InputError(
        f"The data set '{dataset_name}' has evaluator_type '{kind}', which has no evaluator here. "
        f"Set MetadataCatalog.get('{dataset_name}').evaluator_type to one of "
        f"{', '.join(known)}."
    )


def _instance_evaluator(
    evaluator: type[CocoInstanceEvaluator], cfg: CfgNode, dataset_name: str, output_folder: str
) -> CocoInstanceEvaluator:
    return evaluator(
        dataset_name,
        IOU_TYPES if cfg.MODEL.MASK_ON else None,
        output_dir=output_folder,
        max_dets_per_image=max(cfg.TEST.DETECTIONS_PER_IMAGE, evaluator.usual_limit),
        detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
    )


def _panoptic_evaluators(
    cfg: CfgNode, dataset_name: str, output_folder: str
) -> list[DatasetEvaluator]:
    has_instances = cfg.MODEL.META_ARCHITECTURE != "SemanticSegmentor"
    has_labels = cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN"
    found: list[DatasetEvaluator] = []
    if has_instances:
        evaluator = PanopticInstanceEvaluator
        found.append(_instance_evaluator(evaluator, cfg, dataset_name, output_folder))
    if has_labels:
        found.append(PanopticSemanticEvaluator(dataset_name, output_dir=output_folder))
    if has_instances and has_labels:
        found.append(PanopticEvaluator(dataset_name, output_dir=output_folder))
    return found
