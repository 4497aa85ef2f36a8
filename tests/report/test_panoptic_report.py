"""The page of a panoptic evaluation, from what the evaluator writes."""

import re

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from pointrend_seg.data.panoptic.segments import read_record_segments
from pointrend_seg.engine import find_task
from pointrend_seg.evaluation.panoptic import PanopticEvaluator
from pointrend_seg.report import write_report
from pointrend_seg.report.comparison import open_comparison
from small_configs import PANOPTIC, small_instance_cfg

NAME = "synthetic_panoptic_val"


@pytest.fixture
def evaluated(instance_datasets, tmp_path):
    """The first image is predicted as it is labelled, of the others nothing is found."""
    opts = ("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 6, "OUTPUT_DIR", str(tmp_path))
    cfg = small_instance_cfg(9, (*PANOPTIC, *opts, "DATASETS.TEST", (NAME,)))
    folder = tmp_path / "inference" / NAME
    evaluator = PanopticEvaluator(NAME, distributed=False, output_dir=str(folder))
    ids = MetadataCatalog.get(NAME).stuff_dataset_id_to_contiguous_id
    things = MetadataCatalog.get(NAME).thing_dataset_id_to_contiguous_id
    assert ids and things
    for place, record in enumerate(DatasetCatalog.get(NAME)):
        found = read_record_segments(record)
        segments = [
            {"id": k, "isthing": info["isthing"], "category_id": info["category_id"]}
            for k, info in enumerate(found.segments, start=1)
        ]
        output = torch.from_numpy(found.numbers), segments
        if place:
            output = torch.zeros_like(output[0]), []
        evaluator.process([record], [{"panoptic_seg": output}])
    scores = evaluator.evaluate()["panoptic_seg"]
    return cfg, folder, scores


def test_the_comparison(evaluated):
    cfg, folder, _ = evaluated
    comparison = open_comparison(cfg, NAME, folder)
    assert len(comparison) == 3
    assert comparison.classes.names == find_task(cfg).classes(cfg).names
    assert comparison.score(0).iou == comparison.score(0).boundary_iou == 100
    assert comparison.score(1).iou == comparison.score(1).boundary_iou == 0
    labels, predicted = comparison.maps(0)
    assert np.array_equal(labels, predicted) and (comparison.maps(1)[1] == 14).all()
    assert not comparison.view(0).wrong.any()
    view = comparison.view(1)
    assert np.array_equal(view.wrong, comparison.maps(1)[0] != comparison.classes.ignore_value)
    assert np.array_equal(view.bare[1], view.image) and (view.bare[0] != view.image).any()
    intersection, union = comparison.width_counts(0, [2])[0]
    assert intersection.shape == (14,) and np.array_equal(intersection, union) and union.any()


def test_the_page(evaluated):
    cfg, _, scores = evaluated
    page = write_report(cfg, NAME).read_text()
    for words in ("things and stuff", "Scores by class", "skyline", "Worst images"):
        assert words in page
    row = re.search(r"<tr><td>things and stuff</td>(.*?)</tr>", page).group(1)
    cells = re.findall(r"<td>(.*?)</td>", row)
    assert [float(cell) for cell in cells] == pytest.approx(
        [scores[name] for name in ("PQ", "SQ", "RQ")], abs=0.05
    )
    assert page.count("<figure>") == 6
