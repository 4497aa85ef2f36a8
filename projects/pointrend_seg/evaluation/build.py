"""The evaluator of a data set."""

import os
from collections import OrderedDict

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import CityscapesSemSegEvaluator, DatasetEvaluator, DatasetEvaluators

from ..data.cityscapes import check_cityscapes_evaluation, ensure_cityscapes_importable
from ..errors import InputError
from .semantic import SemanticSegmentationEvaluator


class MergedEvaluators(DatasetEvaluators):
    """Several evaluators of one task: their metrics of the same task stand side by side.

    Detectron2's `DatasetEvaluators` allows each task once.
    """

    def evaluate(self) -> OrderedDict:
        merged = OrderedDict()
        for evaluator in self._evaluators:
            for task, metrics in (evaluator.evaluate() or {}).items():
                merged.setdefault(task, OrderedDict()).update(metrics)
        return merged


def build_evaluator(
    cfg: CfgNode, dataset_name: str, output_folder: str | None = None
) -> DatasetEvaluator:
    """The evaluator that fits a data set's ``evaluator_type``.

    Cityscapes is scored by its own scripts, and IoU and Boundary IoU come beside theirs.

    Raises:
        InputError: the type is none that this package scores.
    """
    output_folder = output_folder or os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type")
    if kind == "sem_seg":
        return SemanticSegmentationEvaluator(dataset_name, output_dir=output_folder)
    if kind == "cityscapes_sem_seg":
        ensure_cityscapes_importable()
        check_cityscapes_evaluation()
        ours = SemanticSegmentationEvaluator(dataset_name, output_dir=output_folder)
        return MergedEvaluators([CityscapesSemSegEvaluator(dataset_name), ours])
    raise InputError(
        f"The data set '{dataset_name}' has evaluator_type '{kind}', which has no evaluator here. "
        "Set it with MetadataCatalog.get(name).evaluator_type to 'sem_seg' or 'cityscapes_sem_seg'."
    )
