"""Panoptic data sets are scored as a whole and by branch, and predictions are written."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm

import panoptic_sets
from pointrend_seg.data.checks.panoptic import check_panoptic_dataset
from pointrend_seg.data.mappers.panoptic import PanopticMapper
from pointrend_seg.data.panoptic.classes import panoptic_classes
from pointrend_seg.data.panoptic.records import (
    class_metadata,
    load_panoptic_records,
    register_panoptic,
)
from pointrend_seg.data.panoptic.segments import read_record_segments
from pointrend_seg.engine.config_loading import load_config
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.build import build_evaluator
from pointrend_seg.evaluation.panoptic import PanopticEvaluator
from pointrend_seg.evaluation.panoptic_branches import PanopticInstanceEvaluator

NAMES = ["synthetic_panoptic_val", "coco_2017_val_panoptic", "coco_2017_val_panoptic_separated"]


@pytest.fixture(autouse=True)
def _data(instance_datasets):
    """Every test here reads the synthetic scenes."""


def truth_as_prediction(name):
    """What a perfect PanopticFPN gives for each image of a data set, and the inputs."""
    metadata = MetadataCatalog.get(name)
    file = json.loads(Path(metadata.panoptic_json).read_text())
    things = [c["id"] for c in file["categories"] if c["isthing"]]
    stuff = [c["id"] for c in file["categories"] if not c["isthing"]]
    inputs = [
        {key: record[key] for key in ("file_name", "image_id")}
        for record in DatasetCatalog.get(name)
    ]
    annotations = {each["image_id"]: each for each in file["annotations"]}
    outputs = []
    for record in inputs:
        annotation = annotations[record["image_id"]]
        png = cv2.imread(f"{metadata.panoptic_root}/{annotation['file_name']}")
        ids = png[..., ::-1].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        segments, sem_seg = [], np.zeros((1 + len(stuff), *ids.shape), np.float32)
        instances = Instances(ids.shape)
        masks, classes, boxes = [], [], []
        for each in annotation["segments_info"]:
            mask = ids == each["id"]
            category, is_thing = each["category_id"], each["category_id"] in things
            number = things.index(category) if is_thing else 1 + stuff.index(category)
            sem_seg[0 if is_thing else number][mask] = 1
            segments.append({"id": each["id"], "isthing": is_thing, "category_id": number})
            if is_thing and not each["iscrowd"]:
                rows, columns = np.nonzero(mask)
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                masks.append(mask)
                classes.append(number)
        instances.pred_boxes = Boxes(torch.tensor(boxes).float().reshape(-1, 4))
        instances.pred_masks = torch.as_tensor(np.array(masks).reshape(-1, *ids.shape))
        instances.pred_classes = torch.tensor(classes, dtype=torch.int64)
        instances.scores = torch.linspace(0.9, 0.5, len(classes))
        outputs.append(
            {
                "panoptic_seg": (torch.as_tensor(ids), segments),
                "sem_seg": torch.as_tensor(sem_seg),
                "instances": instances,
            }
        )
    return inputs, outputs


def evaluator(name, folder):
    opts = ["MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.MASK_ON", True]
    return build_evaluator(load_config("", [*opts, "OUTPUT_DIR", str(folder)]), name)


def run(built, inputs, outputs):
    built.reset()
    for record, output in zip(inputs, outputs, strict=True):
        built.process([record], [output])
    return built.evaluate()


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_scores_100(tmp_path, name):
    results = run(evaluator(name, tmp_path), *truth_as_prediction(name))
    assert list(results) == ["bbox", "segm", "boundary", "sem_seg", "panoptic_seg"]
    panoptic = results["panoptic_seg"]
    for key in ("PQ", "SQ", "RQ", "PQ_th", "SQ_th", "RQ_th", "PQ_st", "SQ_st", "RQ_st"):
        assert panoptic[key] == pytest.approx(100)
    assert results["sem_seg"]["mIoU"] == pytest.approx(100)
    # instances_val2017.json has polygons, which pycocotools draws up to a pixel off
    assert results["segm"]["AP"] > 90 and results["bbox"]["AP"] > 90
    if name == NAMES[0]:
        assert list(panoptic)[9:12] == ["PQ-star", "PQ-ring", "PQ-gear"]
        assert {"PQ-sky", "RQ-hood"} <= panoptic.keys()
        assert set(results["sem_seg"]) >= {"IoU-things", "IoU-sky", "BoundaryIoU-path"}


def test_predictions_are_a_data_set_of_the_same_format(tmp_path, registered):
    """The files are read again by the reader of panoptic data, and hold the same segments."""
    name = NAMES[1]
    inputs, outputs = truth_as_prediction(name)
    run(evaluator(name, tmp_path), inputs, outputs)
    folder = tmp_path / "inference" / name
    metadata = {
        key: value
        for key, value in MetadataCatalog.get(name).as_dict().items()
        if key.startswith(("thing_", "stuff_"))
    }
    register_panoptic(
        "pointrend_test_predictions",
        image_root=MetadataCatalog.get(name).image_root,
        panoptic_root=str(folder / "predictions"),
        panoptic_json=str(folder / "predictions.json"),
        **metadata,
    )
    again = load_panoptic_records("pointrend_test_predictions")
    truth = {record["image_id"]: record for record in DatasetCatalog.get(name)}
    assert len(again) == len(truth) == 3
    for record in again:
        found, expected = read_record_segments(record), truth[record["image_id"]]
        expected = read_record_segments(expected)
        assert all(
            each["area"] == a for each, a in zip(found.segments, found.areas[1:], strict=True)
        )
        for k, segment in enumerate(found.segments, start=1):
            (number,) = np.unique(expected.numbers[found.numbers == k])
            same = expected.segments[number - 1]
            assert segment["category_id"] == same["category_id"]
            assert found.areas[k] == expected.areas[number]
    scores = json.loads((folder / "panoptic_evaluation.json").read_text())
    assert scores["PQ"] == 100 and scores["PQ-person"] is None
    DatasetCatalog.remove("pointrend_test_predictions")
    MetadataCatalog.remove("pointrend_test_predictions")


def test_images_of_one_name(tmp_path, registered):
    """Files in folders of their own, with ids of text: no prediction overwrites another."""
    file, content = panoptic_sets.write(tmp_path, count=2)
    for image, annotation, city in zip(
        content["images"], content["annotations"], ("ulm", "bonn"), strict=True
    ):
        for folder in ("images", "panoptic"):
            (tmp_path / folder / city).mkdir()
            before = tmp_path / folder / image["file_name"]
            before.rename(tmp_path / folder / city / "same.png")
        image["file_name"] = annotation["file_name"] = f"{city}/same.png"
        image["id"] = annotation["image_id"] = city
    panoptic_sets.write_json(tmp_path, content)
    things, stuff = {3: "cat", 8: "dog"}, {5: "sky", 9: "road"}
    places = {"image_root": str(tmp_path / "images"), "panoptic_root": str(tmp_path / "panoptic")}
    name = "pointrend_test_same_name"
    register_panoptic(name, **places, panoptic_json=str(file), **class_metadata(things, stuff))
    evaluator = PanopticEvaluator(name, output_dir=str(tmp_path / "out"))
    records = DatasetCatalog.get(name)
    for record in records:
        truth = read_record_segments(record)
        segments = [
            {"id": k, "isthing": each["isthing"], "category_id": each["category_id"]}
            for k, each in enumerate(truth.segments, start=1)
        ]
        evaluator.process([record], [{"panoptic_seg": (truth.numbers, segments)}])
    assert evaluator.evaluate()["panoptic_seg"]["PQ"] == 100
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    written = json.loads((tmp_path / "out/predictions.json").read_text())["annotations"]
    assert [each["image_id"] for each in written] == ["ulm", "bonn"]
    assert [each["file_name"] for each in written] == ["same.png", "same_1.png"]
    for each, record in zip(written, records, strict=True):
        again = {"pan_seg_file_name": str(tmp_path / "out/predictions" / each["file_name"])}
        found = read_record_segments({**record, **again, "segments_info": each["segments_info"]})
        assert np.array_equal(found.numbers, read_record_segments(record).numbers)


def test_scores_of_a_worse_prediction(tmp_path):
    """Without one thing of each image, and with one kind of stuff called another."""
    name = NAMES[0]
    inputs, outputs = truth_as_prediction(name)
    lost, confused = 0, 0
    for output in outputs:
        ids, segments = output["panoptic_seg"]
        first = segments.pop(0)
        assert first["isthing"]
        ids[ids == first["id"]] = 0
        lost += 1
        for each in segments:
            if not each["isthing"] and each["category_id"] == 2:  # ground becomes path
                each["category_id"] = 3
                confused += 1
    results = run(evaluator(name, tmp_path), inputs, outputs)["panoptic_seg"]
    assert lost == confused == 3
    assert results["PQ-ground"] == 0 and results["PQ-sky"] == 100
    assert results["SQ-path"] == 100  # the true path is found, and ground is one false path
    assert results["RQ-path"] == pytest.approx(100 * 3 / (3 + 3 / 2))
    assert results["PQ_st"] == pytest.approx((300 + 0 + 100 * 3 / 4.5) / 5)
    assert 0 < results["PQ_th"] < 100


def test_a_model_of_one_branch_gets_the_scores_of_that(tmp_path):
    name = NAMES[2]
    inputs, outputs = truth_as_prediction(name)
    built = evaluator(name, tmp_path)
    for key, expected in (("instances", ["bbox", "segm", "boundary"]), ("sem_seg", ["sem_seg"])):
        assert list(run(built, inputs, [{key: each[key]} for each in outputs])) == expected


def test_a_process_without_images_waits_for_the_others(monkeypatch, tmp_path):
    """Scores that other processes have are gathered, and only those."""
    built = evaluator(NAMES[0], tmp_path)
    built.reset()
    monkeypatch.setattr(comm, "all_gather", lambda found: [found, {"sem_seg"}])
    assert list(built.evaluate()) == ["sem_seg"]


def test_objects_come_from_the_png_without_a_json_file(tmp_path, registered):
    name = NAMES[0]
    metadata = MetadataCatalog.get(name).as_dict()
    del metadata["json_file"], metadata["name"]
    copy = registered("pointrend_test_png", DatasetCatalog[name], **metadata)
    inputs, outputs = truth_as_prediction(name)
    built = PanopticInstanceEvaluator(copy)
    results = run(built, inputs, outputs)
    assert results["segm"]["AP"] == results["bbox"]["AP"] == 100
    truth = built._coco_api.dataset["annotations"]
    objects = json.loads(Path(MetadataCatalog.get(name).json_file).read_text())["annotations"]
    key = ("image_id", "category_id", "bbox", "area", "iscrowd")
    assert sorted([a[k] for k in key] for a in truth) == sorted(
        [a[k] for k in key] for a in objects
    )


def test_records_without_a_json_file(registered):
    """A data set of dicts alone is scored like its file."""
    name = NAMES[0]
    metadata = {
        key: value
        for key, value in MetadataCatalog.get(name).as_dict().items()
        if key.startswith(("thing_", "stuff_"))
    }
    copy = registered("pointrend_test_dicts", DatasetCatalog[name], **metadata)
    assert run(PanopticEvaluator(copy), *truth_as_prediction(name))["panoptic_seg"]["PQ"] == 100


def test_class_and_object_in_one_number(registered):
    """As Panoptic-DeepLab gives it: class * label_divisor + object, -1 for none."""
    name = NAMES[1]
    contiguous = dict(MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id)
    contiguous |= MetadataCatalog.get(name).stuff_dataset_id_to_contiguous_id
    records = {record["image_id"]: record for record in DatasetCatalog.get(name)}
    inputs, outputs = truth_as_prediction(name)
    for record, output in zip(inputs, outputs, strict=True):
        truth = read_record_segments(records[record["image_id"]])
        numbers = [-1, *(s["category_id"] * 1000 + k for k, s in enumerate(truth.segments))]
        output["panoptic_seg"] = torch.as_tensor(np.array(numbers)[truth.numbers]), None
    results = run(PanopticEvaluator(name), inputs, outputs)
    assert results["panoptic_seg"]["PQ"] == 100 and max(contiguous.values()) == 132


def test_processes_are_gathered(monkeypatch):
    name = NAMES[0]
    inputs, outputs = truth_as_prediction(name)
    outputs[2]["panoptic_seg"] = torch.zeros_like(outputs[2]["panoptic_seg"][0]), []
    whole = run(PanopticEvaluator(name), inputs, outputs)
    parts = []
    for images in (slice(0, 1), slice(1, 3)):
        part = PanopticEvaluator(name)
        part.process(inputs[images], outputs[images])
        parts.append((part._quality, part._predictions))
    last = PanopticEvaluator(name)
    monkeypatch.setattr(comm, "gather", lambda data, dst: parts)
    assert last.evaluate()["panoptic_seg"] == pytest.approx(whole["panoptic_seg"], nan_ok=True)
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert last.evaluate() is None


def test_cityscapes(datasets, tmp_path):
    """Detectron2's Cityscapes with panoptic PNGs is checked, read and scored in the same way."""
    panoptic_images = pytest.importorskip("cityscapesscripts.preparation.createPanopticImgs")
    folder = str(datasets / "cityscapes/gtFine")
    panoptic_images.convert2panoptic(folder, folder, setNames=["train", "val"])
    train, val = (f"cityscapes_fine_panoptic_{split}" for split in ("train", "val"))
    opts = ["MODEL.MASK_ON", True, "MODEL.ROI_HEADS.NUM_CLASSES", 8, "DATASETS.TRAIN", (train,)]
    cfg = load_config("", [*opts, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 12])
    check_panoptic_dataset(cfg, train, is_train=True)
    check_panoptic_dataset(cfg, val, is_train=False)
    mapper, labelled = PanopticMapper(cfg, is_train=True), set()
    for record in DatasetCatalog.get(train):
        output = mapper(record)
        labelled |= set(output["sem_seg"].unique().tolist())
        assert set(output["instances"].gt_classes.tolist()) <= {0, 2, 3}  # person, car, truck
    assert {0, 1, 2, 3, 11, 255} <= labelled <= {*range(12), 255}
    classes, inputs, outputs = panoptic_classes(val), [], []
    for record in DatasetCatalog.get(val):
        truth = read_record_segments(record)
        segments = []
        for k, segment in enumerate(truth.segments, start=1):
            is_thing, number = classes.number(segment)
            segments.append({"id": k, "isthing": is_thing, "category_id": number})
        inputs.append(record)
        outputs.append({"panoptic_seg": (torch.as_tensor(truth.numbers), segments)})
    scores = run(build_evaluator(cfg, val, str(tmp_path)), inputs, outputs)["panoptic_seg"]
    assert scores["PQ"] == scores["PQ-car"] == scores["PQ-road"] == 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 99}, "image_id 99 is not in the data set synthetic_panoptic_val"),
        ({"panoptic_seg": None}, "predicts no panoptic segments, but synthetic_panoptic_val"),
        ({"size": 5}, "the predicted segments are 5 x 5, but the PNG is 128 x 192"),
        ({"isthing": True, "category_id": 9}, "predicts the thing 9, but .* has 9 things"),
        ({"isthing": False, "category_id": 0}, "predicts the stuff 0, but .* 5 kinds of stuff"),
        ({"id": 4}, "the model predicts pixels of segment 7919, for which it gives no dict"),
    ],
)
def test_faults_of_predictions(change, message):
    inputs, outputs = truth_as_prediction(NAMES[0])
    record, output = inputs[0], outputs[0]
    if "image_id" in change:
        record |= change
    elif "panoptic_seg" in change:
        del output["panoptic_seg"]
    elif "size" in change:
        output["panoptic_seg"] = torch.zeros(5, 5, dtype=torch.int32), []
    else:
        output["panoptic_seg"][1][0] |= change
    with pytest.raises(InputError, match=message):
        run(PanopticEvaluator(NAMES[0]), [record], [output])
