"""The evaluator of each data set, and merging several evaluators."""

from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

import coco_sets
from pointrend_seg.engine.config_loading import load_config
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.build import MergedEvaluators, build_evaluator, check_machines
from pointrend_seg.evaluation.cityscapes import CityscapesInstanceEvaluator
from pointrend_seg.evaluation.coco import CocoInstanceEvaluator
from pointrend_seg.evaluation.lvis import LvisInstanceEvaluator


class Says(DatasetEvaluator):
    def __init__(self, results):
        self.results = results

    def evaluate(self):
        return self.results


def test_metrics_of_one_task_are_merged():
    merged = MergedEvaluators([Says({"sem_seg": {"IoU": 1}}), Says({"sem_seg": {"mIoU": 2}})])
    assert merged.evaluate() == {"sem_seg": {"IoU": 1, "mIoU": 2}}
    assert MergedEvaluators([Says(None), Says(None)]).evaluate() == {}  # not the main process


def test_unknown_evaluator_type():
    name = "pointrend_test_unknown_type"
    DatasetCatalog.register(name, list)
    MetadataCatalog.get(name).evaluator_type = "keypoints"
    with pytest.raises(InputError, match="evaluator_type 'keypoints'.*_instance, coco, lvis"):
        build_evaluator(load_config("", ["MODEL.DEVICE", "cpu"]), name)


@pytest.mark.parametrize(
    ("kind", "evaluator"), [("coco", CocoInstanceEvaluator), ("lvis", LvisInstanceEvaluator)]
)
@pytest.mark.parametrize("mask_on", [True, False])
def test_instances(tmp_path, kind, evaluator, mask_on):
    name = coco_sets.register(tmp_path, coco_sets.random_set()[0], evaluator_type=kind)
    opts = ["MODEL.DEVICE", "cpu", "MODEL.MASK_ON", mask_on, "OUTPUT_DIR", str(tmp_path)]
    built = build_evaluator(load_config("", opts), name)
    assert type(built) is evaluator
    built.reset()
    assert list(built.evaluate()) == ["bbox", "segm", "boundary"]  # all NaN: nothing predicted
    inputs, outputs = coco_sets.predictions(*coco_sets.random_set(), with_masks=False)
    assert ("segm" in coco_sets.run(built, inputs, outputs)) == mask_on
    files = [tmp_path / "inference" / name / f"{kind}_instances_results.json"]
    assert files[0].is_file()
    built = build_evaluator(load_config("", opts), name, str(tmp_path / "own"))
    coco_sets.run(built, inputs, outputs)
    files.append(tmp_path / "own" / files[0].name)
    assert sorted(tmp_path.rglob(files[0].name)) == files


def test_cityscapes_instances():
    pytest.importorskip("cityscapesscripts")
    cfg = load_config("", ["MODEL.DEVICE", "cpu"])
    evaluator = build_evaluator(cfg, "cityscapes_fine_instance_seg_val")
    assert type(evaluator) is CityscapesInstanceEvaluator


def test_cityscapes_evaluation_needs_working_scripts(monkeypatch):
    scripts = find_spec("cityscapesscripts")
    if scripts is None:
        pytest.skip("the Cityscapes evaluation scripts are not installed")
    file = Path(scripts.origin).parent / "evaluation/evalPixelLevelSemanticLabeling.py"
    if "np.in1d" not in file.read_text(encoding="utf-8"):
        pytest.skip("these scripts run under every NumPy")
    monkeypatch.delattr(np, "in1d", raising=False)
    with pytest.raises(InputError, match="call numpy.in1d"):
        build_evaluator(load_config("", ["MODEL.DEVICE", "cpu"]), "cityscapes_fine_sem_seg_val")


@pytest.mark.parametrize(("local", "refused"), [(2, False), (1, True)])
def test_cityscapes_is_scored_on_one_machine(local, refused, registered, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "get_local_size", lambda: local)
    check_machines(registered("machines_of_coco", evaluator_type="coco"))
    name = registered("machines_of_cityscapes", evaluator_type="cityscapes_sem_seg")
    with pytest.raises(InputError, match="on one machine") if refused else nullcontext():
        check_machines(name)
