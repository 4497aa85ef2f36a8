"""The COCO evaluator against Detectron2's, against expected scores, and its errors."""

import json
import math

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import BoxMode, Instances, ROIMasks
from detectron2.utils import comm
from pycocotools.coco import COCO

import coco_sets
from coco_sets import predictions, random_predictions, random_set, register, run
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.build import build_evaluator
from pointrend_seg.evaluation.coco import CocoInstanceEvaluator
from pointrend_seg.evaluation.coco_results import encode_masks
from small_configs import small_instance_cfg

TASKS = ("bbox", "segm", "boundary")
KINDS = (CocoInstanceEvaluator, COCOEvaluator)
METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
PER_CLASS = [f"AP-class{category}" for category in coco_sets.CATEGORY_IDS]
KEYS = {
    "bbox": [*METRICS, "F1", *PER_CLASS],
    "segm": [*METRICS, "F1", *PER_CLASS],
    "boundary": [*METRICS, *PER_CLASS],
}


@pytest.fixture(params=["pycocotools", "faster_coco_eval"])
def backend(request):
    pytest.importorskip(request.param)
    return request.param


def same(results, expected):
    return list(results) == list(expected) and all(
        results[task] == pytest.approx(expected[task], nan_ok=True) for task in expected
    )


def test_perfect_predictions_score_100(tmp_path, backend):
    dataset, masks = random_set()
    name = register(tmp_path, dataset)
    evaluator = CocoInstanceEvaluator(name, output_dir=str(tmp_path), backend=backend)
    results = run(evaluator, *predictions(dataset, masks))
    assert list(results) == list(TASKS)
    for task in TASKS:
        assert list(results[task]) == KEYS[task]
        results[task].pop("F1", None)  # many predictions have a low score
        assert math.isnan(results[task].pop("APl"))  # nothing is large
        assert all(value == pytest.approx(100) for value in results[task].values())


def test_blurred_outlines_lower_boundary_ap_most(tmp_path):
    dataset, masks = random_set(1)
    grown = predictions(dataset, masks, lambda mask, _: mask | np.roll(mask, 3, axis=1))
    results = run(CocoInstanceEvaluator(register(tmp_path, dataset)), *grown)
    assert 10 < results["boundary"]["AP"] < results["segm"]["AP"] - 5 < 95


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("limit", [None, 3, 200])
def test_box_and_mask_ap_equal_detectron2(tmp_path, backend, seed, limit):
    dataset, masks = random_set(seed)
    name = register(tmp_path, dataset)
    inputs, outputs = random_predictions(dataset, masks, seed)
    options = {"max_dets_per_image": limit}
    ours = run(CocoInstanceEvaluator(name, backend=backend, **options), inputs, outputs)
    theirs = run(COCOEvaluator(name, use_fast_impl=False, **options), inputs, outputs)
    for task in ("bbox", "segm"):
        assert 1 < ours[task].pop("F1") < 99
        assert list(ours[task]) == list(theirs[task])
        assert ours[task] == pytest.approx(theirs[task], abs=1e-6, nan_ok=True)
        assert 1 < ours[task]["AP"] < 99


def test_files_equal_those_of_detectron2(tmp_path):
    dataset, masks = random_set(2)
    inputs, outputs = random_predictions(dataset, masks)
    written = []
    for kind in KINDS:
        folder = tmp_path / kind.__name__
        run(kind(register(tmp_path, dataset), output_dir=str(folder)), inputs, outputs)
        written.append(json.loads((folder / "coco_instances_results.json").read_text()))
        assert (folder / "instances_predictions.pth").is_file()
    ours, theirs = written
    assert ours == theirs and {r["category_id"] for r in ours} <= set(coco_sets.CATEGORY_IDS)
    truth = COCO(str(tmp_path / "instances.json"))
    assert len(truth.loadRes(str(folder / "coco_instances_results.json")).anns) == len(ours)


def test_written_curves_have_the_average_precision(tmp_path):
    dataset, masks = random_set(2)
    evaluator = CocoInstanceEvaluator(register(tmp_path, dataset), output_dir=str(tmp_path))
    results = run(evaluator, *random_predictions(dataset, masks))
    written = json.loads((tmp_path / "coco_evaluation.json").read_text())
    assert written.keys() == results.keys()
    for task, content in written.items():
        for name, key in (("all", "AP"), ("50", "AP50"), ("75", "AP75")):
            assert 100 * np.mean(content["precision"][name]) == pytest.approx(results[task][key])
        assert content["scores"]["AP"] == results[task]["AP"]
        assert math.isnan(results[task]["APl"]) and content["scores"]["APl"] is None


def test_two_ranks_give_the_result_of_one(tmp_path, monkeypatch):
    dataset, masks = random_set(3)
    name = register(tmp_path, dataset)
    inputs, outputs = random_predictions(dataset, masks)
    expected = run(CocoInstanceEvaluator(name), inputs, outputs)
    ranks = [CocoInstanceEvaluator(name) for _ in range(2)]
    for start, evaluator in enumerate(ranks):
        evaluator.reset()
        evaluator.process(inputs[start::2], outputs[start::2])
    gathered = [evaluator._predictions for evaluator in ranks]
    monkeypatch.setattr(comm, "gather", lambda data, dst: gathered)
    assert same(ranks[0].evaluate(), expected)
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    assert ranks[1].evaluate() == {}


def test_evaluating_twice_gives_the_same(tmp_path):
    dataset, masks = random_set(3)
    evaluator = CocoInstanceEvaluator(register(tmp_path, dataset))
    first = run(evaluator, *random_predictions(dataset, masks))
    assert same(evaluator.evaluate(), first)


def all_nan(results, task):
    return list(results[task]) == KEYS[task] and all(map(math.isnan, results[task].values()))


def test_missing_predictions_are_logged(tmp_path, caplog, monkeypatch):
    dataset, _ = random_set()
    evaluator = CocoInstanceEvaluator(register(tmp_path, dataset))
    outputs = [
        {"instances": coco_sets.instances(image["height"], image["width"])}
        for image in dataset["images"]
    ]
    inputs = [{"image_id": image["id"]} for image in dataset["images"]]
    for none in ((inputs, outputs), ([], [])):
        caplog.clear()
        results = run(evaluator, *none)
        assert list(results) == list(TASKS) and all(all_nan(results, task) for task in TASKS)
        assert "boundary AP cannot be computed and is NaN: the model made no pred" in caplog.text
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    alone = CocoInstanceEvaluator(coco_sets.NAME, ("bbox",), distributed=False)
    assert list(run(alone, [], [])) == ["bbox"]  # also on another rank than the first


def test_a_model_without_masks(tmp_path, caplog):
    dataset, masks = random_set()
    name = register(tmp_path, dataset)
    boxes = predictions(dataset, masks, with_masks=False)
    results = run(CocoInstanceEvaluator(name), *boxes)
    assert list(results) == ["bbox"] and results["bbox"]["AP"] == pytest.approx(100)
    results = run(CocoInstanceEvaluator(name, TASKS), *boxes)
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert all_nan(results, "segm") and all_nan(results, "boundary")
    assert "segm AP cannot be computed and is NaN: the model predicts no masks" in caplog.text


def test_a_data_set_without_masks(tmp_path, caplog):
    dataset, masks = random_set()
    del dataset["annotations"][4]["segmentation"]
    results = run(CocoInstanceEvaluator(register(tmp_path, dataset)), *predictions(dataset, masks))
    assert results["bbox"]["AP"] == pytest.approx(100)
    assert all_nan(results, "segm") and all_nan(results, "boundary")
    image_id = dataset["annotations"][4]["image_id"]
    assert f"annotation 5 of image {image_id} has no 'segmentation'" in caplog.text
    assert "instances.json" in caplog.text


def test_only_images_without_objects(tmp_path, backend):
    dataset, masks = random_set()
    inputs, outputs = predictions(dataset, masks)
    name = register(tmp_path, {**dataset, "annotations": []})
    results = run(CocoInstanceEvaluator(name, backend=backend), inputs, outputs)
    assert all(all_nan(results, task) for task in TASKS)


def test_an_image_without_predictions_counts(tmp_path, backend):
    dataset, masks = random_set(crowds=False)
    inputs, outputs = predictions(dataset, masks)
    outputs[0] = {"instances": outputs[0]["instances"][:0]}
    name = register(tmp_path, dataset)
    results = run(CocoInstanceEvaluator(name, backend=backend), inputs, outputs)
    assert all(0 < results[task]["AP"] < 90 for task in TASKS)


def test_empty_masks_match_nothing(tmp_path, backend):
    dataset, masks = random_set()
    empty = predictions(dataset, masks, lambda mask, _: np.zeros_like(mask))
    name = register(tmp_path, dataset)
    results = run(CocoInstanceEvaluator(name, backend=backend), *empty)
    assert results["segm"]["AP"] == results["boundary"]["AP"] == 0


@pytest.mark.parametrize("lacking", ["iscrowd", "area", "info"])
def test_optional_keys_of_annotations(tmp_path, backend, lacking):
    dataset, masks = random_set(crowds=False)
    inputs, outputs = random_predictions(dataset, masks)
    options = {"backend": backend}
    expected = run(CocoInstanceEvaluator(register(tmp_path, dataset), **options), inputs, outputs)
    for annotation in dataset["annotations"]:
        annotation.pop(lacking, None)
    dataset.pop(lacking, None)
    results = run(CocoInstanceEvaluator(register(tmp_path, dataset), **options), inputs, outputs)
    assert same(results, expected)


def test_areas_are_optional_for_boxes(tmp_path, backend):
    dataset, masks = random_set(crowds=False)
    for annotation in dataset["annotations"]:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
        del annotation["segmentation"]
    inputs, outputs = random_predictions(dataset, masks)
    options = {"tasks": ("bbox",), "backend": backend}
    expected = run(CocoInstanceEvaluator(register(tmp_path, dataset), **options), inputs, outputs)
    for annotation in dataset["annotations"]:
        del annotation["area"]
    results = run(CocoInstanceEvaluator(register(tmp_path, dataset), **options), inputs, outputs)
    assert same(results, expected)


def test_annotation_ids_may_start_at_zero(tmp_path, backend):
    """pycocotools marks unmatched detections by 0."""
    dataset, masks = random_set()
    for annotation in dataset["annotations"]:
        annotation["id"] -= 1
    name = register(tmp_path, dataset)
    inputs, outputs = predictions(dataset, masks)
    results = run(CocoInstanceEvaluator(name, backend=backend), inputs, outputs)
    assert all(results[task]["AP"] == pytest.approx(100) for task in TASKS)


def test_class_indices_without_metadata(tmp_path):
    dataset, masks = random_set()
    name = register(tmp_path, dataset)
    MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(json_file=str(tmp_path / "instances.json"))
    results = run(CocoInstanceEvaluator(name), *predictions(dataset, masks))
    assert list(results["segm"]) == KEYS["segm"] and results["segm"]["AP"] == pytest.approx(100)


def test_classes_are_numbered_as_the_metadata_say(tmp_path):
    dataset, masks = random_set()
    dataset["categories"].reverse()
    evaluator = CocoInstanceEvaluator(register(tmp_path, dataset), output_dir=str(tmp_path))
    results = run(evaluator, *predictions(dataset, masks))
    assert list(results["segm"]) == KEYS["segm"] and results["segm"]["AP"] == pytest.approx(100)
    written = json.loads((tmp_path / "coco_instances_results.json").read_text())
    truth = [annotation["category_id"] for annotation in dataset["annotations"]]
    assert [each["category_id"] for each in written] == truth


def test_names_of_classes(tmp_path):
    """Those of the metadata; a single class has no score of its own."""
    dataset, masks = random_set()
    name = register(tmp_path, dataset)
    metadata = MetadataCatalog.get(name).as_dict() | {"thing_classes": ["a", "b", "c"]}
    MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(**metadata)
    results = run(CocoInstanceEvaluator(name), *predictions(dataset, masks))
    assert list(results["segm"]) == [*METRICS, "F1", "AP-a", "AP-b", "AP-c"]
    del dataset["categories"][1:]
    for annotation in dataset["annotations"]:
        annotation["category_id"] = coco_sets.CATEGORY_IDS[0]
    evaluator = CocoInstanceEvaluator(register(tmp_path, dataset))
    assert list(run(evaluator, *predictions(dataset, masks))["segm"]) == [*METRICS, "F1"]


def test_some_images_alone(tmp_path):
    dataset, masks = random_set()
    name = register(tmp_path, dataset)
    ours, theirs = (kind(name) for kind in KINDS)
    for evaluator in (ours, theirs):
        evaluator.reset()
        evaluator.process(*random_predictions(dataset, masks))
    expected, results = theirs.evaluate([11]), ours.evaluate([11])
    assert results["segm"].pop("F1") == 0
    assert results["segm"] == pytest.approx(expected["segm"], abs=1e-6, nan_ok=True)
    assert results["boundary"]["AP"] != ours.evaluate()["boundary"]["AP"]


def test_proposals_are_left_to_detectron2(tmp_path):
    dataset, masks = random_set()
    name = register(tmp_path, dataset)
    inputs, outputs = predictions(dataset, masks)
    for output in outputs:
        found = output.pop("instances")
        proposals = Instances(found.image_size, proposal_boxes=found.pred_boxes)
        proposals.objectness_logits = found.scores
        output["proposals"] = proposals
    ours, theirs = (run(kind(name), inputs, outputs) for kind in KINDS)
    assert same(ours, theirs) and ours["box_proposals"]["AR@1000"] == pytest.approx(100)


def test_keypoints_are_said_not_to_be_scored(tmp_path, caplog):
    dataset, masks = random_set()
    evaluator = CocoInstanceEvaluator(register(tmp_path, dataset))
    inputs, outputs = predictions(dataset, masks)
    run(evaluator, inputs, outputs)
    assert "Keypoints" not in caplog.text
    for output in outputs:
        output["instances"].pred_keypoints = torch.zeros(len(output["instances"]), 2, 3)
    assert list(run(evaluator, inputs, outputs)) == list(TASKS)
    assert "Keypoints are not scored" in caplog.text


def test_records_without_a_json_file(tmp_path):
    """Plain dicts of Detectron2 with polygons; the folder may hold another set's file."""
    name = "pointrend_test_plain_dicts"
    image = {"file_name": "1.jpg", "image_id": "first", "height": 60, "width": 90}
    polygon = [10, 10, 50, 10, 50, 40, 10, 40]
    for left in (0, 20):
        shifted = [x + left * (k % 2 == 0) for k, x in enumerate(polygon)]
        box = [10 + left, 10, 50 + left, 40]
        annotation = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "segmentation": [shifted]}
        record = {**image, "annotations": [{**annotation, "category_id": 1}]}
        for catalog in (DatasetCatalog, MetadataCatalog):
            if name in catalog.list():
                catalog.remove(name)
        DatasetCatalog.register(name, lambda record=record: [record])
        MetadataCatalog.get(name).set(thing_classes=["a", "b"])
        evaluator = CocoInstanceEvaluator(name, output_dir=str(tmp_path))
        mask = np.zeros((60, 90), bool)
        mask[10:40, 10 + left : 50 + left] = True
        predicted = coco_sets.instances(60, 90, [mask], [1], [0.9])
        results = run(evaluator, [image], [{"instances": predicted}])
        assert results["segm"]["AP"] == results["boundary"]["AP-b"] == pytest.approx(100)
        assert math.isnan(results["segm"]["AP-a"])


def test_a_class_missing_in_the_data_set(tmp_path):
    dataset, masks = random_set()
    evaluator = CocoInstanceEvaluator(register(tmp_path, dataset))
    inputs, outputs = predictions(dataset, masks)
    outputs[0]["instances"].pred_classes[0] = 3
    with pytest.raises(InputError, match=r"class 3, but data set.*has 3 classes \(0 to 2\).*NUM_"):
        run(evaluator, inputs, outputs)


def test_an_image_missing_in_the_data_set(tmp_path):
    dataset, masks = random_set()
    inputs, outputs = predictions(dataset, masks)
    inputs[1]["image_id"] = 999
    with pytest.raises(InputError, match="11.jpg: image_id 999 is not in .*instances.json"):
        run(CocoInstanceEvaluator(register(tmp_path, dataset)), inputs, outputs)


def test_masks_of_another_size(tmp_path):
    dataset, masks = random_set()
    inputs, outputs = predictions(dataset, masks)
    dataset["images"][0].update(height=121)
    evaluator = CocoInstanceEvaluator(register(tmp_path, dataset))
    with pytest.raises(InputError, match="10.jpg: the predicted masks are 120 x 160, but .*121 x"):
        run(evaluator, inputs, outputs)
    found = outputs[0]["instances"]
    in_boxes = Instances((120, 160), **found.get_fields())
    in_boxes.pred_masks = ROIMasks(torch.rand(len(found), 28, 28))
    cut = Instances((121, 160), **found.get_fields())
    cut.pred_masks = found.pred_masks[:, :119]
    for wrong, size in ((in_boxes, "120 x 160"), (cut, "119 x 160")):
        with pytest.raises(InputError, match=f"the predicted masks are {size}, but"):
            run(evaluator, inputs[:1], [{"instances": wrong}])
    in_boxes.remove("pred_masks")
    run(evaluator, inputs[:1], [{"instances": in_boxes}])  # boxes may end anywhere


def test_an_unknown_task(tmp_path):
    name = register(tmp_path, random_set()[0])
    with pytest.raises(InputError, match="tasks are bbox, segm, boundary, got keypoints"):
        CocoInstanceEvaluator(name, ("bbox", "keypoints"))


def test_a_data_set_without_annotations_writes_results_only(tmp_path, caplog):
    dataset, masks = random_set()
    name = register(tmp_path, {k: v for k, v in dataset.items() if k != "annotations"})
    evaluator = CocoInstanceEvaluator(name, output_dir=str(tmp_path))
    with caplog.at_level("INFO"):
        assert run(evaluator, *predictions(dataset, masks)) == {}
    assert "no annotations to evaluate with" in caplog.text
    assert len(json.loads((tmp_path / "coco_instances_results.json").read_text())) == len(masks)


@pytest.mark.parametrize("shape", [(0, 5, 7), (3, 1, 1), (4, 1, 9), (4, 9, 1), (5, 33, 20)])
def test_encoded_masks_equal_pycocotools(shape):
    masks = torch.rand(shape, generator=torch.Generator().manual_seed(0)) > 0.5
    for given in (masks, masks.transpose(1, 2).contiguous().transpose(1, 2), masks.to(torch.uint8)):
        rles = encode_masks(given)
        assert len(rles) == shape[0]
        for rle, mask in zip(rles, masks.numpy(), strict=True):
            assert json.loads(json.dumps(rle)) == rle
            np.testing.assert_array_equal(mask_util.decode(rle), mask)
            assert rle == coco_sets.mask_rle(mask)


def test_encoded_small_masks_equal_pycocotools():
    """Empty, full, and each single pixel, row and column."""
    places = [np.s_[:0], np.s_[:], *np.ndindex(4, 5), *np.ndindex(4)]
    places += [(slice(None), x) for x in range(5)]
    masks = np.zeros((len(places), 4, 5), bool)
    for mask, place in zip(masks, places, strict=True):
        mask[place] = True
    assert encode_masks(torch.from_numpy(masks)) == [coco_sets.mask_rle(mask) for mask in masks]


def many_squares(count):
    """One image with `count` squares of a category, as a data set, and their masks."""
    side = math.ceil(count**0.5)
    masks, annotations = [], []
    for k in range(count):
        y, x = (12 * n for n in divmod(k, side))
        mask = np.zeros((12 * side, 12 * side), bool)
        mask[y : y + 9, x : x + 9] = True
        masks.append(mask)
        annotations.append(coco_sets.annotation(k + 1, 1, 3, mask))
    image = {"id": 1, "file_name": "1.png", "height": 12 * side, "width": 12 * side}
    categories = [{"id": 3, "name": "square"}]
    return {"images": [image], "annotations": annotations, "categories": categories}, masks


@pytest.mark.parametrize(
    ("limit", "score", "text"),
    [
        (None, 44.6, "more than 100 objects of a category (the most is 225)"),
        (100, 44.6, "Set TEST.DETECTIONS_PER_IMAGE 340."),
        (225, 100, ""),
        (30, 100, ""),  # the model gave more all the same, as with tiles
    ],
)
def test_limits_that_hide_objects(tmp_path, backend, caplog, limit, score, text):
    """225 exact predictions."""
    dataset, masks = many_squares(225)
    cfg = small_instance_cfg(1, ("TEST.DETECTIONS_PER_IMAGE", limit or 100))
    name = register(tmp_path, dataset)
    if limit in (None, 100):
        options = {"max_dets_per_image": limit, "backend": backend}
        evaluator = CocoInstanceEvaluator(name, **options)
    else:
        evaluator = build_evaluator(cfg, name, str(tmp_path))
    results = run(evaluator, *predictions(dataset, masks))
    for task in TASKS:
        assert results[task]["AP"] == pytest.approx(score, abs=0.1)
    assert (text in caplog.text) if text else ("objects of a category" not in caplog.text)


def test_objects_beyond_the_limit_of_the_model(tmp_path, caplog):
    dataset, masks = many_squares(50)
    name = register(tmp_path, dataset)
    inputs, (output,) = predictions(dataset, masks)
    output = {"instances": output["instances"][:30]}
    for limit, said in ((30, True), (31, False)):
        caplog.clear()
        cfg = small_instance_cfg(1, ("TEST.DETECTIONS_PER_IMAGE", limit))
        run(build_evaluator(cfg, name, str(tmp_path)), inputs, [output])
        assert ("TEST.DETECTIONS_PER_IMAGE 30 allows for 1 image(s)" in caplog.text) == said
