"""Which evaluator a data set gets, and how several become one."""

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from pointrend_seg.engine import load_config
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.build import MergedEvaluators, build_evaluator


class Says(DatasetEvaluator):
    def __init__(self, results):
        self.results = results

    def evaluate(self):
        return self.results


def test_metrics_of_one_task_stand_side_by_side():
    merged = MergedEvaluators([Says({"sem_seg": {"IoU": 1}}), Says({"sem_seg": {"mIoU": 2}})])
    assert merged.evaluate() == {"sem_seg": {"IoU": 1, "mIoU": 2}}
    assert MergedEvaluators([Says(None), Says(None)]).evaluate() == {}  # not the main process


def test_an_evaluator_type_that_is_not_known():
    name = "pointrend_test_unknown_type"
    DatasetCatalog.register(name, list)
    MetadataCatalog.get(name).evaluator_type = "keypoints"
    with pytest.raises(InputError, match="evaluator_type 'keypoints'.*_instance, coco, lvis"):
        build_evaluator(load_config("", ["MODEL.DEVICE", "cpu"]), name)
