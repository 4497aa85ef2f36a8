"""Faults that are planted one by one: each is named, and nothing else is."""

import json
import shutil

import numpy as np
import pycocotools.mask as mask_util
import pytest
import tifffile
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.data.datasets.lvis import register_lvis_instances
from detectron2.structures import BoxMode
from PIL import Image

from pointrend_seg.data.checks.contents import warn_of_shared_images
from pointrend_seg.data.images.reader import ImageReader
from pointrend_seg.data.mappers.semantic import SemanticMapper
from pointrend_seg.data.problems import KINDS
from pointrend_seg.data.survey.datasets import survey_datasets
from pointrend_seg.errors import InputError
from small_configs import small_semantic_cfg

NAMES = ("custom_train", "custom_val")


@pytest.fixture(autouse=True)
def forget():
    yield
    for name in NAMES:
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.fixture
def check(run_in_process, tmp_path):
    """Runs check_data.py; returns its status and its findings: examples by code."""

    def run(*args, labels=("train.json", "val.json"), **changes):
        data = ("--train-data", tmp_path / "train", tmp_path / labels[0])
        data += ("--val-data", tmp_path / "val", tmp_path / labels[1])
        status, out, err = run_in_process(
            "check_data",
            *data,
            "--workers",
            1,
            "--json",
            tmp_path / "found.json",
            *args,
            *(word for key, value in changes.items() for word in (key.replace("_", ".", 1), value)),
        )
        assert "Traceback" not in err
        found = json.loads((tmp_path / "found.json").read_text())["findings"]
        for each in found:
            assert each["what"] in out and each["fix"] in out and each["count"] > 0
        return status, {each["code"]: " ".join(each["examples"]) for each in found}

    return run


def picture(seed, size=(12, 16)):
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture
def pixels(tmp_path):
    """Two images in each of two sets, with labels of two classes."""
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    for k, split in enumerate(("train", "val")):
        for folder in (split, f"{split}_labels"):
            (tmp_path / folder).mkdir()
        for number in range(2):
            picture(10 * k + number).save(tmp_path / split / f"{number}.png")
            labels = np.resize(np.array([0, 1, 255], np.uint8), (12, 16))
            Image.fromarray(labels).save(tmp_path / f"{split}_labels" / f"{number}.png")
    return tmp_path


LABELS = ("train_labels", "val_labels")


@pytest.fixture
def objects(tmp_path):
    """Two images in each of two sets, with an object of each of two classes; writes changes."""
    contents = {}
    for k, split in enumerate(("train", "val")):
        (tmp_path / split).mkdir()
        images, annotations = [], []
        for number in range(2):
            picture(10 * k + number).save(tmp_path / split / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "height": 12, "width": 16})
            for category in (3, 7):
                polygon = [2.0, 2.0, 9.0, 2.0, 9.0, 8.0, 2.0, 8.0]
                annotations.append(
                    {
                        "id": 10 * number + category,
                        "image_id": number,
                        "category_id": category,
                        "bbox": [2, 2, 7, 6],
                        "area": 42,
                        "iscrowd": 0,
                        "segmentation": [polygon],
                    }
                )
        contents[split] = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        }

    def write():
        for split in ("train", "val"):
            (tmp_path / f"{split}.json").write_text(json.dumps(contents[split]))

    write()
    return contents | {"write": write}


def test_nothing_is_wrong(check, pixels):
    assert check(labels=LABELS) == (0, {})


def test_nothing_is_wrong_with_objects(check, objects):
    assert check() == (0, {})


def test_the_table_of_objects(run_in_process, objects, tmp_path):
    content = objects["train"]
    content["categories"] = [{"id": 10, "name": "hen"}, *content["categories"]]
    first = content["annotations"][0]
    for number in range(3):
        content["annotations"].append(first | {"id": 100 + number, "area": 32**2 + number - 1})
    content["annotations"].append(first | {"id": 200, "area": 96**2, "category_id": 10})
    content["annotations"].append(first | {"id": 201, "iscrowd": 1})
    objects["write"]()
    data = ("--train-data", tmp_path / "train", tmp_path / "train.json")
    status, out, _ = run_in_process(
        "check_data", *data, "--workers", 1, "--json", tmp_path / "found.json"
    )
    figures = json.loads((tmp_path / "found.json").read_text())["objects"]["custom_train"]
    assert (figures["objects"], figures["median"], figures["most"]) == (8, 4, 6)
    assert "custom_train: 8 objects, per image 4 (median) and up to 6" in out
    table = [line.split() for line in out.partition("large: from 96 x 96")[2].splitlines()[3:7]]
    assert table == [
        ["3", "cat", "2", "5", "3", "2", "0"],
        ["7", "dog", "2", "2", "2", "0", "0"],
        ["10", "hen", "1", "1", "0", "0", "1"],
        ["all", "2", "8", "5", "2", "1"],
    ]


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def labels_of(path, change):
    labels = np.array(Image.open(path))
    change(labels)
    Image.fromarray(labels).save(path)


def fill(value):
    def change(labels):
        labels[:] = value

    return change


def one(value):
    def change(labels):
        labels[3, 4] = value

    return change


PIXEL_FAULTS = {
    "unreadable-image": lambda root: truncate(root / "train/1.png"),
    "unreadable-labels": lambda root: truncate(root / "train_labels/1.png"),
    "label-size": lambda root: picture(5, (12, 18)).save(root / "train/1.png"),
    "label-value": lambda root: labels_of(root / "train_labels/1.png", one(9)),
    "nothing-labelled": lambda root: labels_of(root / "train_labels/1.png", fill(255)),
    "image-without-labels": lambda root: (root / "train_labels/1.png").unlink(),
    "labels-without-image": lambda root: (root / "train/1.png").unlink(),
    "odd-image": lambda root: (
        picture(5).convert("CMYK").save(root / "train/1.tiff") or (root / "train/1.png").unlink()
    ),
    "same-image": lambda root: shutil.copy(root / "train/0.png", root / "train/1.png"),
    "image-in-two-sets": lambda root: shutil.copy(root / "val/0.png", root / "train/1.png"),
}
ERRORS = {kind for kind, each in KINDS.items() if each.severity == "error"}


@pytest.mark.parametrize("kind", PIXEL_FAULTS)
def test_labels_of_pixels(check, pixels, kind):
    PIXEL_FAULTS[kind](pixels)
    status, found = check(labels=LABELS)
    assert found.keys() == {kind} and "1." in found[kind]
    assert status == (1 if kind in ERRORS else 0)
    assert check("--strict", labels=LABELS)[0] == 1


def test_classes_that_do_not_occur(check, pixels):
    for number in range(2):
        labels_of(pixels / f"train_labels/{number}.png", fill(0))
    status, found = check(labels=LABELS)
    assert status == 1
    assert found == {
        "one-class": "custom_train: sky",
        "class-never-occurs": "road in custom_train",
        "class-not-in-training": "road, which is in custom_val",
    }


def test_images_of_more_than_8_bits_are_noted(check, pixels):
    """How they are scaled is no fault, and follows the config."""
    values = np.resize(np.arange(100, 300, dtype=np.uint16), (12, 16))
    (pixels / "train/1.png").unlink()
    Image.fromarray(values).save(pixels / "train/1.tif")
    status, found = check("--strict", labels=LABELS)
    assert status == 0 and found.keys() == {"scaled-image"}
    assert (
        "1.tif: uint16, values from 101 to 291 become 0 to 255 (percentile)"
        in (found["scaled-image"])
    )
    status, found = check(labels=LABELS, INPUT_PIXEL_RANGE="0..4095")
    assert "values from 0 to 4095 become 0 to 255 (0..4095)" in found["scaled-image"]


def test_several_frames_are_refused_by_check_and_training(check, pixels):
    (pixels / "train/1.png").unlink()
    picture(5).save(pixels / "train/1.gif", save_all=True, append_images=[picture(6)])
    status, found = check(labels=LABELS)
    assert status == 1 and found.keys() == {"several-frames"}
    assert "1.gif has 2 frames or pages, and one image is expected" in found["several-frames"]
    mapper = SemanticMapper(small_semantic_cfg(num_classes=2), is_train=True)
    record = {"file_name": str(pixels / "train/1.gif")}
    record["sem_seg_file_name"] = str(pixels / "train_labels/1.png")
    with pytest.raises(InputError, match="has 2 frames or pages, and one image is expected"):
        mapper(record)


def test_check_and_training_read_the_same_pixels(check, pixels):
    """Bands that are chosen, and the limit of pixels."""
    (pixels / "train/1.png").unlink()
    values = np.random.default_rng(0).integers(0, 900, (12, 16, 6), dtype=np.uint16)
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(pixels / "train/1.tif", values, **options)
    status, found = check(labels=LABELS)
    assert status == 1 and "has 6 bands" in found["unsupported-image"]
    cfg = small_semantic_cfg(num_classes=2, opts=("INPUT.BANDS", (4, 3, 6)))
    record = {"file_name": str(pixels / "train/1.tif")}
    record["sem_seg_file_name"] = str(pixels / "train_labels/1.png")
    mapper = SemanticMapper(cfg, is_train=True)
    mapper.augmentations = T.AugmentationList([])
    expected = ImageReader().scaled(values[:, :, [3, 2, 5]])[:, :, ::-1]  # BGR
    assert np.array_equal(mapper(record)["image"].permute(1, 2, 0).numpy(), expected)
    status, found = check(labels=LABELS, INPUT_BANDS="(4, 3, 6)")
    assert status == 0 and found.keys() == {"scaled-image"}
    status, found = check(labels=LABELS, INPUT_BANDS="(4, 3, 6)", INPUT_MAX_PIXELS=100)
    where = "is 16 x 12 pixels, more than INPUT.MAX_PIXELS (100) allows. Split the image"
    assert status == 1 and where in found["unsupported-image"]


def test_a_turned_image(check, pixels):
    image = picture(5)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(pixels / "train/1.jpg", exif=exif)
    (pixels / "train/1.png").unlink()
    status, found = check(labels=LABELS)
    assert status == 1 and found.keys() == {"turned-image"}


def test_an_orientation_that_no_size_tells(check, pixels):
    """The labels of an image that stands on its head may be drawn on either."""
    image = Image.open(pixels / "train/1.png")
    exif = image.getexif()
    exif[0x0112] = 3
    image.save(pixels / "train/1.png", exif=exif)
    status, found = check(labels=LABELS)
    assert status == 0 and found.keys() == {"unsure-orientation"} and "1.png" in str(found)


def test_an_image_in_two_sets_of_one_folder(run_in_process, pixels, caplog):
    """All say it: of a file that is in both sets, and of one that equals another."""
    folders = (pixels / "train", pixels / "train_labels")
    data = ("--train-data", *folders, "--val-data", *folders)
    status, out, _ = run_in_process("check_data", *data, "--workers", 1)
    assert status == 0 and "warning image-in-two-sets (2)" in out
    warn_of_shared_images("custom_val", ["custom_train"])
    assert "2 of 2 images of custom_val are also in custom_train" in caplog.text
    caplog.clear()
    data = ("--train-data", *folders, "--val-data", pixels / "val", pixels / "val_labels")
    run_in_process("check_data", *data, "--workers", 1)
    warn_of_shared_images("custom_val", ["custom_train"])
    assert "also in" not in caplog.text
    shutil.copy(pixels / "train/1.png", pixels / "val/0.png")
    warn_of_shared_images("custom_val", ["custom_train"])
    assert "1 of 2 images of custom_val are also in custom_train" in caplog.text


def test_colours(check, pixels):
    (pixels / "classes.txt").write_text("sky #0000ff\nroad #ff0000\n")
    colors = np.resize(np.array([[0, 0, 255], [255, 0, 0]], np.uint8), (12, 16, 3))
    for path in [*pixels.glob("*_labels/*.png")]:
        Image.fromarray(colors).save(path)
    assert check(labels=LABELS) == (0, {})
    labels_of(pixels / "train_labels/1.png", one((1, 2, 3)))
    status, found = check(labels=LABELS)
    assert status == 1 and "#010203" in found["label-value"]


def rle(mask):
    encoded = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def changed(**values):
    """Changes the first annotation."""

    def change(root, content):
        content["annotations"][0].update(values)

    return change


def entry(kind, number, **values):
    def change(root, content):
        content[kind][number].update(values)

    return change


OBJECT_FAULTS = {
    "missing-image": lambda root, content: (root / "train/1.png").unlink(),
    "unreadable-image": lambda root, content: truncate(root / "train/1.png"),
    "image-size": entry("images", 1, height=13),
    "unnamed-class": entry("categories", 1, name=[]),
    "repaired-value": entry("categories", 1, name=7),
    "area": changed(area=0),
    "same-name": lambda root, content: content["categories"].append({"id": 9, "name": "dog"}),
    "unknown-class": changed(category_id=99),
    "unknown-image": lambda root, content: content["annotations"].append(
        content["annotations"][0] | {"id": 99, "image_id": 77}
    ),
    "ignored-object": changed(ignore=1),
    "duplicate-id": lambda root, content: content["annotations"].append(content["annotations"][0]),
    "no-objects": lambda root, content: content["annotations"].__delitem__(slice(2, 4)),
    "bad-box": changed(bbox=[2, 2, 7]),
    "empty-box": changed(bbox=[2, 2, 0, 6]),
    "box-outside": changed(
        bbox=[-4, 2, 13, 6], segmentation=[[-4.0, 2, 9.0, 2.0, 9.0, 8.0, -4, 8.0]]
    ),
    "no-mask": changed(segmentation=[]),
    "bad-mask": changed(segmentation=[["2.0"] * 6]),
    "no-polygon": changed(segmentation=[[2.0, 2.0, 9.0, 2.0]]),
    "outside-image": changed(bbox=[500, 2, 3, 3]),
    "empty-mask": changed(segmentation=rle(np.zeros((12, 16)))),
    "box-and-mask": changed(bbox=[2, 2, 3, 3]),
}


@pytest.mark.parametrize("kind", OBJECT_FAULTS)
def test_objects(check, objects, tmp_path, kind):
    OBJECT_FAULTS[kind](tmp_path, objects["train"])
    objects["write"]()
    status, found = check()
    also = {"same-name": {"class-never-occurs"}}.get(kind, set())
    extra = found.keys() - {kind} - also
    assert kind in found
    assert extra <= {"class-never-occurs", "class-not-in-training", "other-classes"}, found
    assert status == (1 if (ERRORS & found.keys()) else 0)


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [12, 15], "counts": [180]},
        {"size": [12, 16], "counts": "no run lengths at all"},
        {"size": [12, 16], "counts": [5, 5]},
        [[2.0, 2.0, float("nan"), 2.0, 9.0, 8.0]],
        "polygon",
    ],
)
def test_invalid_masks(check, objects, segmentation):
    objects["train"]["annotations"][0]["segmentation"] = segmentation
    objects["write"]()
    status, found = check()
    assert found.keys() <= {"bad-mask", "empty-mask"} and found


def test_an_object_of_hundreds_of_polygons(check, objects):
    """Of more than 255, pycocotools 2.0.11 with NumPy 2 has no list of areas."""
    triangle = [2.0, 2.0, 9.0, 2.0, 9.0, 8.0]
    objects["train"]["annotations"][0].update(bbox=[2, 2, 7, 6], segmentation=[triangle] * 300)
    objects["write"]()
    status, found = check()
    assert (status, found) == (0, {})


def test_an_image_without_a_stated_size(check, objects):
    del objects["train"]["images"][1]["height"]
    objects["write"]()
    status, found = check()
    assert status == 1 and found.keys() == {"image-size"}
    assert "number 1 (from 0) of its 'images' has no 'height'" in found["image-size"]


@pytest.fixture
def survey_records():
    """Registers records and surveys them."""

    def run(records, **metadata):
        DatasetCatalog.register(NAMES[0], lambda: records)
        MetadataCatalog.get(NAMES[0]).set(**metadata)
        return survey_datasets([NAMES[0]])

    return run


def test_records_without_a_json(objects, tmp_path, survey_records):
    """Masks are compared with the size of the file if the record states none."""
    given = {"bbox": [2, 2, 7, 6], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0}
    square = np.zeros((12, 16), np.uint8)
    square[2:8, 2:9] = 1
    annotations = [
        given | {"segmentation": square},
        given | {"segmentation": square, "category_id": 2},
        given | {"segmentation": square.T},
    ]
    record = {"file_name": str(tmp_path / "train/0.png"), "annotations": annotations}
    survey = survey_records([record], thing_classes=["cat", "dog"])
    found = {kind: each.examples[0] for kind, each in survey.found.items()}
    assert found.keys() == {"unknown-class", "bad-mask", "class-never-occurs"}
    assert "Annotation number 1 (from 0) of image " in found["unknown-class"]
    assert "number 2 (from 0)" in found["bad-mask"] and "16 x 12" in found["bad-mask"]
    assert survey.classes[NAMES[0]] == {"cat": (1, 2), "dog": (0, 0)}


def test_lvis(objects, tmp_path):
    content = objects["train"]
    content["categories"] = [{"id": k, "name": f"kind {k}"} for k in (1, 2)]
    for number, each in enumerate(content["annotations"]):
        each["category_id"] = 1 + number % 2
    for each in content["images"]:
        each["coco_url"] = f"http://there/train/{each.pop('file_name')}"
    content["annotations"][3]["segmentation"] = rle(np.ones((12, 16)))
    objects["write"]()
    metadata = {"thing_classes": ["kind 1", "kind 2"]}
    register_lvis_instances(NAMES[0], metadata, str(tmp_path / "train.json"), f"{tmp_path}/")
    survey = survey_datasets([NAMES[0]])
    assert survey.found.keys() == {"bad-mask"} and survey.found["bad-mask"].count == 1
    assert survey.classes[NAMES[0]] == {"kind 1": (2, 2), "kind 2": (2, 2)}


def test_a_single_class_name_is_that_of_the_foreground(pixels, survey_records):
    files = ("file_name", pixels / "train"), ("sem_seg_file_name", pixels / "train_labels")
    records = [{key: str(folder / f"{k}.png") for key, folder in files} for k in range(2)]
    survey = survey_records(records, stuff_classes=["crack"], ignore_label=255)
    assert not survey.found
    assert survey.classes[NAMES[0]] == {"background": (2, 128), "crack": (2, 128)}


def test_sets_with_other_classes(check, objects):
    objects["val"]["categories"] = [{"id": 3, "name": "dog"}, {"id": 7, "name": "cat"}]
    objects["write"]()
    status, found = check()
    assert status == 1 and found == {"other-classes": "custom_val and custom_train"}


def test_a_file_that_is_no_json(check, objects, tmp_path):
    (tmp_path / "train.json").write_text("{")
    status, found = check()
    assert status == 1 and "train.json" in found["unreadable-annotations"]


def test_five_faults_at_once(check, pixels):
    for kind in ("label-value", "image-in-two-sets"):
        PIXEL_FAULTS[kind](pixels)
    truncate(pixels / "val/1.png")
    picture(5, (5, 5)).save(pixels / "val/0.png")
    picture(6).save(pixels / "val/more.png")
    status, found = check(labels=LABELS)
    assert status == 1
    # the copy of val/0.png is in two sets no longer, since that was replaced
    expected = {"label-value", "unreadable-image", "label-size", "image-without-labels"}
    assert found.keys() == expected


def test_other_data_sets(instance_datasets, datasets):
    names = ["synthetic_instances_val", "cityscapes_fine_sem_seg_val"]
    serial = survey_datasets(names)
    assert serial.images == {names[0]: 3, names[1]: 2}
    assert not serial.with_severity("error")
    assert "road" in serial.classes[names[1]] and "car" in serial.classes[names[0]]
    assert survey_datasets(names, workers=2).as_json() == serial.as_json()


def test_json_to_the_output(run_in_process, pixels):
    status, out, _ = run_in_process(
        *("check_data", "--train-data", pixels / "train", pixels / "train_labels"),
        *("--json", "-", "--workers", 1),
    )
    assert status == 0 and json.loads(out)["images"] == {"custom_train": 2}


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "Nothing to check"),
        (("--dataset", "coco_2017_vall"), "Did you mean coco_2017_val"),
        (("--config-file", "gone.yaml"), "gone.yaml does not exist"),
    ],
)
def test_mistakes(run_in_process, args, text):
    status, _, err = run_in_process("check_data", *args)
    assert status == 2 and text in err


def test_every_finding_is_in_the_docs(request):
    text = (request.config.rootpath / "docs/checking-data.md").read_text()
    for kind, (severity, what, fix) in KINDS.items():
        assert f"| `{kind}` | {severity} | {what} | {fix} |" in text
