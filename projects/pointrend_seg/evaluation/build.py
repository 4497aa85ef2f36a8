"""Build the evaluator of a data set."""

from collections import OrderedDict
from collections.abc import Mapping
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

PANOPTIC_TYPES = (EVALUATOR_TYPE, "cityscapes_panoptic_seg")
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


class EvaluatorsByOutput(MergedEvaluators):
    """Evaluators of several outputs of a model; those that it does not have are not scored."""

    def __init__(self, evaluators: Mapping[str, DatasetEvaluator]):
        """
        Args:
            evaluators: by key of the model's outputs.
        """
        super().__init__(list(evaluators.values()))
        self._by_output = evaluators
        self._found: set[str] = set()

    def reset(self) -> None:
        super().reset()
        self._found = set()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for key, evaluator in self._by_output.items():
            chosen = [pair for pair in zip(inputs, outputs, strict=True) if key in pair[1]]
            if chosen:
                self._found.add(key)
                evaluator.process([record for record, _ in chosen], [each for _, each in chosen])

    def evaluate(self) -> OrderedDict[str, OrderedDict]:
        found = set().union(*comm.all_gather(self._found))  # a process may have no image
        chosen = [e for key, e in self._by_output.items() if key in found or not found]
        return MergedEvaluators(chosen).evaluate()


def results_folder(cfg: CfgNode, dataset_name: str, *, augmented: bool = False) -> Path:
    """Return where the results of a data set are written, ``OUTPUT_DIR/inference/DATASET``.

    Args:
        augmented: with test-time augmentation, ``OUTPUT_DIR/inference_TTA/DATASET``.

    Raises:
        InputError: the name leads elsewhere, or to a link.
    """
    folder = "inference_TTA" if augmented else "inference"
    return path_inside(path_inside(cfg.OUTPUT_DIR, folder), dataset_name)


def check_machines(dataset_name: str) -> None:
    """Raise `InputError` for a data set that cannot be scored in a run on several machines."""
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type") or ""
    several = comm.get_world_size() > 1 and comm.get_local_size() < comm.get_world_size()
    if several and kind in ("cityscapes_sem_seg", "cityscapes_instance"):
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
    if kind in PANOPTIC_TYPES:
        return _panoptic_evaluator(cfg, dataset_name, output_folder)
    known = ["sem_seg", "cityscapes_sem_seg", "cityscapes_instance", *INSTANCE_EVALUATORS]
    known += PANOPTIC_TYPES
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


def _panoptic_evaluator(cfg: CfgNode, dataset_name: str, output_folder: str) -> DatasetEvaluator:
    instances = PanopticInstanceEvaluator
    return EvaluatorsByOutput(
        {
            "instances": _instance_evaluator(instances, cfg, dataset_name, output_folder),
            "sem_seg": PanopticSemanticEvaluator(dataset_name, output_dir=output_folder),
            "panoptic_seg": PanopticEvaluator(dataset_name, output_dir=output_folder),
        }
    )
