"""The LVIS evaluator against Detectron2's, which uses the package lvis, and AP*."""

import json
import math

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.evaluation import LVISEvaluator

import coco_sets
from coco_sets import predictions, random_predictions, random_set, register, run
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.lvis import LvisInstanceEvaluator

TASKS = ("bbox", "segm", "boundary")
METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"]


@pytest.fixture(params=["pycocotools", "faster_coco_eval"])
def backend(request):
    pytest.importorskip(request.param)
    return request.param


def lvis_set(seed=0):
    """Make a set like LVIS: ids from 1, no crowds, not every category annotated in every image."""
    dataset, masks = random_set(seed, crowds=False)
    rng = np.random.default_rng(seed)
    renamed = {category: k for k, category in enumerate(coco_sets.CATEGORY_IDS, start=1)}
    for annotation in dataset["annotations"]:
        annotation["category_id"] = renamed[annotation["category_id"]]
        del annotation["iscrowd"]
    for category, frequency in zip(dataset["categories"], "rcf", strict=True):
        category.update(id=renamed[category["id"]], frequency=frequency)
    for image in dataset["images"]:
        present = {a["category_id"] for a in dataset["annotations"] if a["image_id"] == image["id"]}
        image["neg_category_ids"] = [c for c in (1, 2, 3) if c not in present][:1]
        image["not_exhaustive_category_ids"] = [c for c in (1, 2, 3) if rng.random() < 0.3]
    return dataset, masks


def register_lvis(folder, dataset):
    """Register a set like LVIS in Detectron2, without category ids: the class indices plus one."""
    name = register(folder, dataset, evaluator_type="lvis")
    classes = MetadataCatalog.get(name).thing_classes
    MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(
        json_file=str(folder / "instances.json"), evaluator_type="lvis", thing_classes=classes
    )
    return name


def test_perfect_predictions_score_100(tmp_path, backend):
    dataset, masks = lvis_set()
    name = register_lvis(tmp_path, dataset)
    evaluator = LvisInstanceEvaluator(name, output_dir=str(tmp_path), backend=backend)
    results = run(evaluator, *predictions(dataset, masks))
    assert list(results) == list(TASKS)
    for task in TASKS:
        assert list(results[task]) == METRICS
        assert math.isnan(results[task].pop("APl"))  # nothing is large
        assert all(value == pytest.approx(100) for value in results[task].values())
    written = json.loads((tmp_path / "lvis_instances_results.json").read_text())
    assert {r["category_id"] for r in written} == {1, 2, 3}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limit", [None, 4])
def test_box_and_mask_ap_equal_detectron2(tmp_path, backend, seed, limit, monkeypatch):
    pytest.importorskip("lvis")
    if not hasattr(np, "float"):  # which lvis calls and NumPy removed
        monkeypatch.setattr(np, "float", float, raising=False)
    dataset, masks = lvis_set(seed)
    name = register_lvis(tmp_path, dataset)
    inputs, outputs = random_predictions(dataset, masks, seed)
    options = {"max_dets_per_image": limit}
    ours = run(LvisInstanceEvaluator(name, backend=backend, **options), inputs, outputs)
    theirs = run(LVISEvaluator(name, **options), inputs, outputs)
    for task in ("bbox", "segm"):
        assert list(ours[task]) == list(theirs[task])
        # Detectron2 hands on -100 for what cannot be computed.
        expected = {key: math.nan if ap < 0 else ap for key, ap in theirs[task].items()}
        assert ours[task] == pytest.approx(expected, abs=1e-6, nan_ok=True)
        assert 1 < ours[task]["AP"] < 99


def test_coco_classes_on_lvis_annotations(tmp_path):
    """AP*: the metadata are those of COCO, whose category ids have gaps."""
    dataset, masks = random_set(crowds=False)
    for category in dataset["categories"]:
        category["frequency"] = "f"
    for image in dataset["images"]:
        image.update(neg_category_ids=[], not_exhaustive_category_ids=[])
    name = register(tmp_path, dataset, evaluator_type="lvis")
    results = run(LvisInstanceEvaluator(name), *predictions(dataset, masks))
    for task in TASKS:
        assert results[task]["AP"] == results[task]["APf"] == pytest.approx(100)
        assert math.isnan(results[task]["APr"]) and math.isnan(results[task]["APc"])


def test_categories_without_a_frequency(tmp_path, backend, caplog):
    dataset, masks = lvis_set()
    del dataset["categories"][1]["frequency"]
    name = register_lvis(tmp_path, dataset)
    results = run(LvisInstanceEvaluator(name, backend=backend), *predictions(dataset, masks))
    assert results["segm"]["AP"] == pytest.approx(100)
    assert all(math.isnan(results["segm"][key]) for key in ("APr", "APc", "APf"))
    assert "APr, APc and APf cannot be computed and are NaN: category 'class7' in" in caplog.text


def test_a_class_missing_in_the_data_set(tmp_path):
    dataset, masks = lvis_set()
    inputs, outputs = predictions(dataset, masks)
    outputs[0]["instances"].pred_classes[0] = 3
    with pytest.raises(InputError, match=r"class 3, but data set.*has 3 classes \(0 to 2\)"):
        run(LvisInstanceEvaluator(register_lvis(tmp_path, dataset)), inputs, outputs)
