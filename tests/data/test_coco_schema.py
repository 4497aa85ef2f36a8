"""What an annotation file may hold: read as what it means, or refused by all in one sentence."""

import copy
import gzip
import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from PIL import Image

import coco_sets
from pointrend_seg.data import coco_json
from pointrend_seg.data.checks.instance import check_instance_dataset
from pointrend_seg.data.coco_records import load_records, use_own_reader
from pointrend_seg.data.survey.datasets import survey_datasets
from pointrend_seg.errors import InputError
from pointrend_seg.evaluation.coco import CocoInstanceEvaluator

NAME = "schema_of_the_tests"
HEIGHT, WIDTH = 20, 30
SQUARE = [2.0, 3.0, 12.0, 3.0, 12.0, 15.0, 2.0, 15.0]
AREA = 120


def content():
    images = [{"id": k, "file_name": f"{k}.png", "height": HEIGHT, "width": WIDTH} for k in (1, 2)]
    annotations = [
        {
            "id": k,
            "image_id": 1 + k % 2,
            "category_id": 3 + k % 2,
            "bbox": [2, 3, 10, 12],
            "area": AREA,
            "iscrowd": 0,
            "segmentation": [list(SQUARE)],
        }
        for k in range(1, 5)
    ]
    categories = [{"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def write(tmp_path):
    """Writes and registers a file, text or the content; returns its path."""
    for k in (1, 2):
        Image.new("RGB", (WIDTH, HEIGHT), (k, 0, 0)).save(tmp_path / f"{k}.png")

    def write(data, name=NAME):
        path = tmp_path / "a.json"
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        forget(name)
        register_coco_instances(name, {}, str(path), str(tmp_path))
        return path

    yield write
    forget()


def forget(name=NAME):
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)


def refusal(*, is_train=True, masks=True):
    with pytest.raises(InputError) as caught:
        check_instance_dataset(NAME, 2, masks, is_train=is_train)
    return str(caught.value)


def each(**values):
    return lambda data: [a.update(copy.deepcopy(values)) for a in data["annotations"]]


def last(**values):
    return lambda data: data["annotations"][-1].update(copy.deepcopy(values))


def image(**values):
    return lambda data: data["images"][0].update(values)


def category(**values):
    return lambda data: data["categories"][0].update(values)


def top(**values):
    return lambda data: data.update(values)


def rename(where, old, new):
    return lambda data: [entry.update({new: entry.pop(old)}) for entry in where(data)]


def renamed_top(old, new):
    return lambda data: data.update({new: data.pop(old)})


def scaled(boxes=True, polygons=True):
    def change(data):
        for annotation in data["annotations"]:
            if boxes:
                annotation["bbox"] = [0.1, 0.15, 0.33, 0.6]
            if polygons:
                annotation["segmentation"] = [[0.1, 0.15, 0.4, 0.15, 0.4, 0.75, 0.1, 0.75]]

    return change


def corners(masks):
    def change(data):
        for annotation in data["annotations"]:
            annotation["bbox"] = [2, 3, 12, 15] if masks else [16, 9, 28, 19]
            if not masks:
                del annotation["segmentation"]

    return change


def run_lengths(counts, size=(HEIGHT, WIDTH)):
    return last(segmentation={"size": list(size), "counts": counts})


def compressed(*runs):
    """Run lengths as pycocotools writes them, whatever they add up to."""
    size = {"size": [sum(runs), 1], "counts": list(runs)}
    return mask_util.frPyObjects(size, sum(runs), 1)["counts"].decode()


def annotations(data):
    return data["annotations"]


# Each is refused for training and evaluation, and an error of the survey.
REFUSED = {
    "crowd of 2": (last(iscrowd=2), "has the iscrowd 2; it must be 0 or 1"),
    "crowd not a number": (last(iscrowd=float("nan")), "has the iscrowd nan; it must be 0 or 1"),
    "crowd as text": (last(iscrowd="yes"), "has the iscrowd 'yes'; it must be 0 or 1"),
    "crowd in a list": (last(iscrowd=[[0]]), "has the iscrowd [[0]]; it must be 0 or 1"),
    "area in a list": (last(area=[7]), "has the area [7]; it must be a number of pixels"),
    "area as a boolean": (last(area=True), "has the area True; it must be a number of pixels"),
    "area of words": (last(area="big"), "has the area 'big'; it must be a number of pixels"),
    "half an id of a category": (last(category_id=3.5), "has category_id 3.5, which its"),
    "boolean category": (last(category_id=True), "has category_id True, which its 'categories'"),
    "huge category": (last(category_id=10**300), "which its 'categories' lack"),
    "category of a name": (last(category_id="cat"), "has category_id 'cat', which its"),
    "ignore of words": (last(ignore="maybe"), "has 'ignore' set"),
    "no id": (last(id=None), "has the id None, not a whole number or a string"),
    "id twice": (last(id=1), "has the id of another annotation"),
    "id of another": (last(id=1.0), "has the id of another annotation"),
    "boolean box": (last(bbox=[True, 3, 10, 12]), "has the 'bbox' [True, 3, 10, 12]"),
    "box as text": (last(bbox=["2", 3, 10, 12]), "has the 'bbox' ['2', 3, 10, 12]"),
    "box as a dict": (last(bbox={"x": 2}), "has the 'bbox' {'x': 2}"),
    "nested box": (last(bbox=[[2, 3, 10, 12]]), "has the 'bbox' [[2, 3, 10, 12]]"),
    "infinite box": (last(bbox=[2, 3, float("inf"), 12]), "has the 'bbox' [2, 3, inf, 12]"),
    "huge box": (last(bbox=[2, 3, 10**400, 12]), "has the 'bbox'"),
    "box in capitals": (
        rename(annotations, "bbox", "Bbox"),
        "has the key 'Bbox' instead of 'bbox'",
    ),
    "boolean polygon": (last(segmentation=[[True, *SQUARE[1:]]]), "with True, not a finite"),
    "deep polygon": (last(segmentation=[[[SQUARE]]]), "has a polygon of 1 coordinates"),
    "mask in capitals": (
        rename(annotations, "segmentation", "Segmentation"),
        "has the key 'Segmentation' instead of 'segmentation'",
    ),
    "no height": (image(height=None), "image 1 has the height None, not a whole number from 1"),
    "height of 0": (image(height=0), "image 1 has the height 0, not a whole number from 1 to"),
    "half a pixel": (image(width=30.5), "image 1 has the width 30.5, not a whole number from 1"),
    "width of words": (image(width="30px"), "image 1 has the width '30px', not a whole number"),
    "boolean width": (image(width=True), "image 1 has the width True, not a whole number"),
    "infinite width": (image(width=float("inf")), "image 1 has the width inf, not a whole"),
    "negative width": (image(width=-30), "image 1 has the width -30, not a whole number"),
    "no file": (image(file_name=None), "image 1 has the file_name None, which is no path"),
    "file in a list": (image(file_name=["1.png"]), "file_name ['1.png'], which is no path"),
    "no Unicode": (image(file_name="\ud800.png"), "file_name '\\ud800.png', which is no path"),
    "file in capitals": (
        rename(lambda data: data["images"], "file_name", "File_Name"),
        "image 1 has no 'file_name' (it has File_Name)",
    ),
    "half an id of an image": (image(id=1.5), "'images' has the id 1.5, not a whole number or a"),
    "ids of two kinds": (image(id="first"), "its 'images' are numbers and strings"),
    "images twice": (image(id=2), "two of its 'images' have the same id (2)"),
    "images twice as text": (image(id="2"), "two of its 'images' have the same id (2)"),
    "a name in a list": (category(name=["cat"]), "category 3 has the name ['cat'], not a string"),
    "a boolean name": (category(name=True), "category 3 has the name True, not a string"),
    "a name of no Unicode": (category(name="\ud800"), "'\\ud800', which is no valid Unicode text"),
    "categories twice": (category(id=4), "two of its 'categories' have the same id (4)"),
    "id of a category as words": (category(id="three"), "has the id 'three', not a whole number"),
    "huge id of a category": (category(id=2**60), f"has the id {2**60}, not a whole number"),
    "annotations as a dict": (top(annotations={"1": {}}), "'annotations' are a dict, not a list"),
    "annotations null": (top(annotations=None), "its 'annotations' are null, not a list"),
    "images as a dict": (top(images={"1": {}}), "its 'images' are a dict, not a list"),
    "no images": (top(images=[]), "it has no list of 'images', or an empty one"),
    "no categories": (top(categories=[]), "it has no list of 'categories', or an empty one"),
    "images in capitals": (
        renamed_top("images", "Images"),
        "it has no list of 'images', or an empty one (it has Images)",
    ),
    "annotations in capitals": (
        renamed_top("annotations", "Annotations"),
        "it has no 'annotations' (it has Annotations)",
    ),
    "normalised": (
        scaled(),
        "coordinates of its boxes are between 0 and 1: they seem to be normalised",
    ),
    "normalised boxes": (scaled(polygons=False), "coordinates of its boxes are between 0 and 1"),
    "normalised polygons": (scaled(boxes=False), "of its polygons are between 0 and 1"),
    "boxes of zeros": (
        each(bbox=[0, 0, 0, 0]),
        "all of its boxes have a width or height of 0 (normalised coordinates",
    ),
    "corners": (corners(masks=True), "its boxes are x0, y0, x1, y1"),
    "runs too short": (run_lengths([40, 100]), "add up to its 600 pixels, but to 140"),
    "runs too long": (run_lengths([40, 100, 999]), "add up to its 600 pixels, but to 1139"),
    "runs below 0": (run_lengths([40, -100, 660]), "run lengths that are not whole numbers"),
    "runs of words": (run_lengths([40, "100", 460]), "run lengths that are not whole numbers"),
    "boolean runs": (run_lengths([True, 599]), "run lengths that are not whole numbers"),
    "no last run": (run_lengths(compressed(40, 100)), "add up to its 600 pixels, but to 140"),
    "too many runs": (run_lengths(compressed(40, 100, 999)), "600 pixels, but to 1139"),
    "runs of another size": (
        run_lengths(compressed(40, 100, 460), (WIDTH, HEIGHT)),
        "has a run-length mask of 20 x 30 (width x height) as its mask, but the image is 30 x 20",
    ),
    "negative compressed runs": (run_lengths("X1O"), "has run lengths that are negative"),
    "no compressed runs": (run_lengths(""), "has run lengths that are empty"),
    "garbage": (run_lengths("\0\x01é"), "have characters that no run-length mask has"),
    "half a number": (run_lengths("8d"), "has run lengths that break off within a number"),
    "a huge number": (run_lengths("o" * 40 + "0"), "have a number of too many digits"),
    "runs of null": (run_lengths(None), "has a run-length mask with the counts None"),
    "a size of NaN": (run_lengths("0", (float("nan"), 3)), "run-length mask of the size [nan, 3]"),
    "a size of one": (run_lengths([600], (600,)), "of 1 dimensions as its mask"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_by_all(name, write):
    change, said = REFUSED[name]
    data = content()
    change(data)
    path = write(data)
    for is_train in (True, False):
        text = refusal(is_train=is_train)
        assert said in text and str(path) in text and "\n" not in text
    survey = survey_datasets([NAME], trained_on=[NAME])
    assert survey.with_severity("error")
    assert any(said in where for found in survey.found.values() for where in found.examples)


def test_boxes_of_corners_without_masks(write):
    data = content()
    corners(masks=False)(data)
    write(data)
    assert "its boxes are x0, y0, x1, y1" in refusal(masks=False)


@pytest.mark.parametrize(
    "box", [[0, 0, 12, 15], [2, 3, 10, 12], [2, 3, 27, 16], [10, 3, 10, 12], [14, 10, 15, 11]]
)
def test_boxes_that_may_be_sizes_are_taken_as_sizes(box, write):
    """Boxes from the origin, inside of the image, or beyond it by a pixel."""
    data = content()
    for annotation in data["annotations"]:
        annotation["bbox"] = box
        del annotation["segmentation"]
    write(data)
    check_instance_dataset(NAME, 2, mask_on=False)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(b"{}", mtime=0), "is compressed (gzip). Unpack it (gunzip)"),
        (b"PK\x03\x04", "is compressed (zip). Unpack it"),
        (b"[]", "its contents are a list, not a dict"),
        (b"7", "its contents are the value 7, not a dict"),
        (b"", "cannot be read"),
        (b'{"images": [', "cannot be read"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"images": ' + b"1" * 9000 + b"}", "cannot be read"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "cannot be read"),
    ],
)
def test_what_is_no_annotation_file(data, said, write):
    path = write(data)
    text = refusal()
    assert said in text and str(path) in text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_byte_order_marks(encoding, write):
    data = content()
    data["categories"][0]["name"] = "Kätzchen"
    write(json.dumps(data, ensure_ascii=False).encode(encoding))
    check_instance_dataset(NAME, 2, True)
    DatasetCatalog.get(NAME)
    assert MetadataCatalog.get(NAME).thing_classes == ["Kätzchen", "dog"]
    evaluator = CocoInstanceEvaluator(NAME, ("segm",), distributed=False)
    assert len(evaluator._coco_api.anns) == 4


# What is read, and what training and evaluation get.
READ = {
    "null": (each(iscrowd=None), {"iscrowd": 0}, "has the iscrowd None. It is read as 0."),
    "true": (last(iscrowd=True), {"iscrowd": 1}, "has the iscrowd True. It is read as 1."),
    "crowd as text": (last(iscrowd="1"), {"iscrowd": 1}, "has the iscrowd '1'. It is read as 1."),
    "crowd as a float": (last(iscrowd=1.0), {"iscrowd": 1}, "has the iscrowd 1.0. It is read"),
    "area 0": (last(area=0), {"area": AREA}, "has the area 0. It is computed from the mask"),
    "negative area": (last(area=-7), {"area": AREA}, "has the area -7. It is computed"),
    "no area": (last(area=None), {"area": AREA}, "has the area None. It is computed"),
    "area of NaN": (last(area=float("nan")), {"area": AREA}, "has the area nan. It is computed"),
    "infinite area": (last(area=float("inf")), {"area": AREA}, "has the area inf. It is computed"),
    "area as text": (last(area="7.5"), {"area": 7.5}, "has the area '7.5'. It is read as a number"),
    "image as text": (last(image_id="2"), {"image_id": 2}, "has the image_id '2'. It is read"),
    "image as a float": (last(image_id=2.0), {"image_id": 2}, "has the image_id 2.0. It is read"),
    "class as text": (last(category_id="4"), {"category_id": 4}, "has the category_id '4'. It is"),
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read_as_what_it_means(name, write, caplog):
    change, meant, said = READ[name]
    data = content()
    change(data)
    path = write(data)
    check_instance_dataset(NAME, 2, True)
    assert said in caplog.text and str(path) in caplog.text
    records = DatasetCatalog.get(NAME)
    evaluator = CocoInstanceEvaluator(NAME, ("segm",), distributed=False)
    truth = evaluator._coco_api.anns[4]
    assert {key: truth[key] for key in meant} == meant
    assert all(type(truth[key]) is not str for key in ("iscrowd", "area", "image_id"))
    if "image_id" in meant:
        assert [len(record["annotations"]) for record in records] == [1, 3]
    classes = [a["category_id"] for r in records for a in r["annotations"]]
    assert sum(classes) == 2 + (meant.get("category_id") == 4)
    if "iscrowd" in meant:
        trained = [a["iscrowd"] for r in records for a in r["annotations"]]
        assert sorted(trained) == [0, 0, 0, meant["iscrowd"]]
    assert not survey_datasets([NAME]).with_severity("error")


def test_an_area_of_0_is_scored_with_its_size(write):
    """The same scores as with the area of the mask, of which the object is a large one."""
    data, masks = coco_sets.random_set(crowds=False)
    inputs, outputs = coco_sets.predictions(data, masks)
    scores = []
    for area in (None, 0, float("nan"), "absent"):
        for number, annotation in enumerate(data["annotations"]):
            annotation["area"] = int(masks[number].sum()) if area is None else area
            if area == "absent":
                del annotation["area"]
        name = coco_sets.register(write(data).parent, data)
        scores.append(
            coco_sets.run(CocoInstanceEvaluator(name, distributed=False), inputs, outputs)
        )
    forget(coco_sets.NAME)
    first = scores[0]
    assert first["segm"]["APm"] == 100
    for other in scores[1:]:
        np.testing.assert_equal(other, first)


def test_training_and_evaluation_leave_out_the_same_objects(write, caplog):
    data = content()
    good = data["annotations"][0]
    line = [2.0, 3.0, 9.0, 9.0]
    more = [
        {"segmentation": [line]},
        {"segmentation": [line, SQUARE]},
        {"bbox": [2, 3, 0, 12]},
        {"bbox": [30, 3, 9, 9]},
        {"segmentation": [[40, 3, 50, 3, 50, 9]]},
        {"image_id": 99},
    ]
    data["annotations"] += [good | {"id": 10 + k} | each for k, each in enumerate(more)]
    write(data)
    check_instance_dataset(NAME, 2, True)
    for said in (
        "id 10 of image (id 2)",
        "has polygons of fewer than 3 points",
        "has a box of 0 x 12 pixels. The object is left out",
        "has the box [30, 3, 9, 9], which lies outside of the 30 x 20 image",
        "(2 annotations of",
        "id 15 of image (id 99)",
    ):
        assert said in caplog.text
    evaluator = CocoInstanceEvaluator(NAME, ("segm",), distributed=False)
    assert set(evaluator._coco_api.anns) == {1, 2, 3, 4, 11}
    assert evaluator._coco_api.anns[11]["segmentation"] == [SQUARE]
    (record,) = (r for r in DatasetCatalog.get(NAME) if r["image_id"] == 2)
    assert [each["segmentation"] for each in record["annotations"]].count([SQUARE]) == 5
    assert survey_datasets([NAME]).classes[NAME] == {"cat": (1, 2), "dog": (1, 3)}


def test_nothing_but_what_is_left_out(write):
    data = content()
    for annotation in data["annotations"]:
        annotation["segmentation"] = [[40, 3, 50, 3, 50, 9]]
    write(data)
    assert "There is nothing to train on" in refusal()
    assert "There is nothing to evaluate with" in refusal(is_train=False)
    found = survey_datasets([NAME], trained_on=[NAME]).found
    assert "no-usable-object" in found


def test_masks_of_a_brush_that_are_crowds(write, caplog):
    data = content()
    each(iscrowd=1)(data)
    write(data)
    assert "nothing to train on" in refusal() and "iscrowd 1" in refusal()
    assert survey_datasets([NAME], trained_on=[NAME]).with_severity("error")
    data["annotations"][0]["iscrowd"] = 0
    write(data)
    check_instance_dataset(NAME, 2, True)
    assert "3 of its 4 annotations are crowds (iscrowd 1). Set iscrowd to 0 if they" in caplog.text
    assert survey_datasets([NAME]).found.keys() >= {"crowds"}


def test_records_are_those_of_detectron2(write):
    """Of a sound file, with keypoints, crowds, run lengths of both forms and gaps in the ids."""
    data, masks = coco_sets.random_set()
    rng = np.random.default_rng(0)
    for number, annotation in enumerate(data["annotations"]):
        if number % 3 == 0:
            annotation["segmentation"] = [SQUARE, SQUARE[:6], SQUARE[:4]]
            annotation["keypoints"] = rng.integers(0, 9, 9).tolist()
        elif number % 3 == 1:
            mask = masks[number]
            runs = np.flatnonzero(np.diff(mask.ravel("F"), prepend=0, append=2) != 0)
            counts = np.diff(runs, prepend=0).tolist()
            counts = counts if sum(counts) == mask.size else [*counts, mask.size - sum(counts)]
            annotation["segmentation"] = {"size": list(mask.shape), "counts": counts}
        if number % 5 == 0:
            del annotation["iscrowd"], annotation["area"]
    data["annotations"].append(data["annotations"][0] | {"id": 999, "image_id": 999})
    rng.shuffle(data["images"])
    path = write(data)
    expected = load_coco_json(str(path), str(path.parent), NAME)
    metadata = MetadataCatalog.get(NAME).as_dict()
    write(data)
    assert load_records(NAME) == expected
    assert MetadataCatalog.get(NAME).as_dict() == metadata


def test_who_reads_a_data_set(write):
    write(content())
    theirs = DatasetCatalog[NAME]
    assert use_own_reader(NAME) and DatasetCatalog[NAME] is not theirs
    assert use_own_reader(NAME)
    forget()
    DatasetCatalog.register(NAME, list)
    MetadataCatalog.get(NAME).set(evaluator_type="coco", json_file="a.json", image_root=".")
    mine = DatasetCatalog[NAME]
    assert not use_own_reader(NAME) and DatasetCatalog[NAME] is mine
    assert not use_own_reader("no such set")


def test_a_file_is_read_once_and_again_when_it_changes(write, monkeypatch):
    reads = []
    monkeypatch.setattr(
        coco_json, "_parse", lambda *args, parse=coco_json._parse: reads.append(1) or parse(*args)
    )
    data = content()
    path = write(data)
    check_instance_dataset(NAME, 2, True)
    check_instance_dataset(NAME, 2, True, is_train=False)
    first = DatasetCatalog.get(NAME)
    CocoInstanceEvaluator(NAME, ("segm",), distributed=False)
    survey_datasets([NAME])
    assert reads == [1]
    first[0]["annotations"][0]["bbox"] = None
    first[0]["annotations"].clear()
    assert len(DatasetCatalog.get(NAME)[0]["annotations"]) == 2
    data["annotations"].pop()
    write(data)
    check_instance_dataset(NAME, 2, True)
    assert reads == [1, 1]
    monkeypatch.setattr(coco_json, "_KEPT_BYTES", 10)
    DatasetCatalog.get(NAME)
    assert str(path) not in coco_json._files
