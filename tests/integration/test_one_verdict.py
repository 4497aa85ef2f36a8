"""What one tool refuses, all refuse; what one accepts, all accept."""

import json
import logging
import re
import shutil

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from pointrend_seg.engine.trainer import Trainer
from small_configs import small_instance_cfg, small_semantic_cfg

HEIGHT, WIDTH = 48, 64
ACCEPTED = "accepted"
OPTS = (
    *("SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 1, "SOLVER.WARMUP_ITERS", 0),
    *("SOLVER.STEPS", (), "DATALOADER.NUM_WORKERS", 0, "SEED", 1, "TEST.REPORT", False),
    *("INPUT.MIN_SIZE_TRAIN", (48,), "INPUT.MIN_SIZE_TEST", 48, "INPUT.MAX_SIZE_TEST", 64),
    *("MODEL.RESNETS.NORM", "GN", "MODEL.FPN.NORM", "GN"),
)
NAMES = ("custom_train", "custom_val")


@pytest.fixture(autouse=True)
def forget():
    yield
    for name in NAMES:
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Config file and weights by task and number of classes."""
    root, made = tmp_path_factory.mktemp("models"), {}

    def make(task, classes):
        if (task, classes) not in made:
            cfg = (small_semantic_cfg if task == "semantic" else small_instance_cfg)(classes, OPTS)
            config, weights = (root / f"{task}{classes}{end}" for end in (".yaml", ".pth"))
            config.write_text(cfg.dump())
            torch.manual_seed(0)
            torch.save({"model": Trainer.build_model(cfg).state_dict()}, weights)
            made[task, classes] = str(config), str(weights)
        return made[task, classes]

    return make


def values(*parts):
    return np.resize(np.repeat(np.array(parts, np.uint8), 8), (HEIGHT, WIDTH))


def save(path, array, palette=None, **options):
    image = Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette)
    image.save(path, **options)


def turn(path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).save(path, exif=exif)


def labels(*parts, **options):
    """Replace all label images."""

    def change(root):
        for path in sorted((root / "labels").glob("*.png")):
            save(path, values(*parts), **options)

    return change


def one_label(array, name="1.png", remove="1.png", **options):
    def change(root):
        (root / "labels" / remove).unlink()
        save(root / "labels" / name, array, **options)

    return change


def both(*changes):
    def change(root):
        for each in changes:
            each(root)

    return change


def classes(text, name="classes.txt"):
    def change(root):
        (root / "classes.txt").unlink()
        (root / name).write_text(text)

    return change


def other_files(suffix):
    def change(root):
        for path in (root / "labels").glob("*.png"):
            path.with_suffix(suffix).write_text("<annotation/>")
            path.unlink()

    return change


def photographs_as_labels(root):
    shutil.rmtree(root / "labels")
    shutil.copytree(root / "images", root / "labels")


def with_ending(*numbers):
    def change(root):
        for number in numbers:
            path = root / "labels" / f"{number}.png"
            path.rename(path.with_name(f"{number}_mask.png"))

    return change


VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
# Changes of a data set of sky and road, the verdict, and the model's number of classes.
PIXELS = {
    "sound": (lambda root: None, ACCEPTED, 2),
    "0 and 1 of one class": (both(labels(0, 1), classes("cell\n")), ACCEPTED, 1),
    "0 and 255 of one class": (both(labels(0, 255), classes("cell\n")), ACCEPTED, 1),
    "0 and 255 of two": (both(labels(0, 255), classes("background\ncell\n")), ACCEPTED, 2),
    "0 and 255 with values": (both(labels(0, 255), classes("0 a\n255 b\n")), ACCEPTED, 2),
    "255 is ignored": (both(labels(0, 255), classes("0 a\n1 b\n")), "nothing to learn", 2),
    "both kinds of masks": (
        both(labels(0, 255), one_label(values(0, 1)), classes("255 cell\n")),
        "values that are not classes: 1",
        1,
    ),
    "only background": (labels(0), "nothing to learn", 2),
    "all ignored": (labels(255), "nothing to learn", 2),
    "another value": (one_label(values(0, 7)), "1.png has value 7", 2),
    "palette by colour": (
        both(labels(0, 1, palette=VOC), classes("b:128,0,0::\na:0,0,0::\n", "labelmap.txt")),
        ACCEPTED,
        2,
    ),
    "palette of other colours": (
        both(labels(0, 2, palette=VOC), classes("b:128,0,0::\na:0,0,0::\n", "labelmap.txt")),
        "colours that are not classes: #008000",
        2,
    ),
    "palettes that differ": (
        both(
            labels(0, 1, palette=VOC),
            one_label(values(0, 1), palette=[0, 0, 0, 0, 128, 0]),
        ),
        "has the colour #008000 at index 1 of its palette",
        2,
    ),
    "whole floats": (
        one_label(values(0, 1).astype(np.float32), "1.tif"),
        ACCEPTED,
        2,
    ),
    "fractions": (
        one_label(values(0, 1).astype(np.float32) / 2, "1.tif"),
        "has the value 0.5, but labels are whole",
        2,
    ),
    "JPEG": (one_label(values(0, 1), "1.jpg"), "1.jpg is compressed by JPEG", 2),
    "photographs": (photographs_as_labels, r"0.png has colours \(3 channels\)", 2),
    "no colours": (one_label(np.zeros((HEIGHT, WIDTH, 3), np.uint8)), "1.png has colours", 2),
    "NumPy files": (other_files(".npy"), r"no label image in .*but .npy", 2),
    "XML files": (other_files(".xml"), r"no label image in .*but .xml", 2),
    "no names in common": (
        lambda root: [p.rename(p.with_name("x" + p.name)) for p in (root / "labels").iterdir()],
        "no label image in",
        2,
    ),
    "names with an ending": (with_ending(0, 1, 2), ACCEPTED, 2),
    "some names with an ending": (with_ending(1), "1_mask.png", 2),
    "another size": (one_label(values(0, 1)[:-1]), "1.png", 2),
    "turned label": (lambda root: turn(root / "labels/1.png", 6), "1.png", 2),
    "turned image": (lambda root: turn(root / "images/1.png", 6), "1.png", 2),
    "cut label": (
        lambda root: (root / "labels/1.png").write_bytes((root / "labels/1.png").read_bytes()[:50]),
        "1.png",
        2,
    ),
    "broken image": (lambda root: (root / "images/1.png").write_bytes(b"none"), "1.png", 2),
    "no image": (lambda root: (root / "images/1.png").unlink(), "1.png", 2),
    "no label": (lambda root: (root / "labels/1.png").unlink(), ACCEPTED, 2),
    "CSV with a header": (
        classes("Pixel Value, Class\n0, sky\n1, road\n", "_classes.csv"),
        ACCEPTED,
        2,
    ),
    "values from 1": (classes("1: sky\n2: road\n"), "values that are not classes: 0", 2),
}
CLASS_FILES = {
    "value or name": (classes("sky 1\nroad 2\n"), r"line 1 \('sky 1'\) ends with a number"),
    "header in text": (classes("name\nsky\n"), r"line 1 \('name'\) looks like a header"),
    "same name": (classes("sky\nsky\n"), "two classes have the name 'sky'"),
    "empty": (classes("\n"), "has no list of classes"),
    "no class file": (lambda root: (root / "classes.txt").unlink(), "there is no classes.txt"),
    "two that differ": (
        lambda root: (root / "classes.json").write_text('["a", "b"]'),
        "list different classes",
    ),
}
# Trained and evaluated in `make test-slow` alone.
SLOW = {"0 and 255 of two", "CSV with a header", "whole floats", "no label", "one crowd"}
SLOW |= {"iscrowd null", "0 and 255 with values"}
SLOW |= {"one point", "points and crowds", "label 2", "no labels", "normalised", "one label"}
EVALUATION_ACCEPTS = {"only background", "all ignored", "255 is ignored"}


def kinds(table):
    return [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind for kind in table]


@pytest.fixture
def pixels(tmp_path):
    random = np.random.default_rng(0)
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for number in range(3):
        picture = random.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        save(tmp_path / "images" / f"{number}.png", picture)
        save(tmp_path / "labels" / f"{number}.png", values(0, 1))
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    return tmp_path


@pytest.fixture
def verdicts(run_in_process, models, tmp_path):
    """Runs tools; checks that all of them give the same verdict."""

    def run(task, count, target, verdict, evaluation, *opts):
        config, weights = models(task, count)
        data = ["--train-data", tmp_path / "images", target]
        val = ["--val-data", tmp_path / "images", target]
        out = ["OUTPUT_DIR", tmp_path / "out"]
        model = ["--config-file", config]
        runs = {
            "check_data": ("check_data", "--workers", 1, *data, *val, *opts),
            "dry run": ("train_net", *model, "--dry-run", *data, *val, *opts),
            "training": ("train_net", *model, *data, *val, *out, *opts),
        }
        evaluations = {
            "check_data of the test set": ("check_data", "--workers", 1, *val),
            "evaluation": (
                *("train_net", *model, "--eval-only", *val, "MODEL.WEIGHTS", weights, *out),
            ),
        }
        for expected, tools in ((verdict, runs), (evaluation, evaluations)):
            for name, arguments in tools.items():
                for each in NAMES:
                    DatasetCatalog.pop(each, None)
                    MetadataCatalog.pop(each, None)
                status, text, err = run_in_process(*arguments)
                assert "Traceback" not in err, (name, err)
                assert (status == 0) == (expected == ACCEPTED), (name, status, text, err[-900:])
                if expected != ACCEPTED:
                    shown = text + err if name.startswith("check_data") else err.splitlines()[-1]
                    assert re.search(expected, shown), (name, shown)

    yield run
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kind", kinds(PIXELS))
def test_labels_of_pixels(kind, pixels, verdicts):
    change, verdict, count = PIXELS[kind]
    change(pixels)
    evaluation = ACCEPTED if kind in EVALUATION_ACCEPTS else verdict
    verdicts("semantic", count, pixels / "labels", verdict, evaluation)


@pytest.mark.parametrize("kind", CLASS_FILES)
def test_class_files(kind, pixels, verdicts, models, run_in_process):
    change, verdict = CLASS_FILES[kind]
    change(pixels)
    verdicts("semantic", 2, pixels / "labels", verdict, verdict)
    config, weights = models("semantic", 2)
    entry = {"images": str(pixels / "images"), "annotations": str(pixels / "labels")}
    status, _, err = run_in_process(
        *("predict", "--config-file", config, "--weights", weights, "--input", pixels / "images"),
        *("--output", pixels / "out", "DATASETS.CUSTOM", [{"name": "custom_val", **entry}]),
    )
    assert status == 2 and re.search(verdict, err.splitlines()[-1]), err


def annotation(**changes):
    def change(root, content):
        content["annotations"][0].update(changes)

    return change


def every_annotation(**changes):
    def change(root, content):
        for each in content["annotations"]:
            each.update(changes)

    return change


def turned(root, content):
    turn(root / "images/1.png", 6)


def turned_with_size(root, content):
    """Annotations of the upright image."""
    turn(root / "images/1.png", 6)
    content["images"][1].update(height=WIDTH, width=HEIGHT)


NO_OBJECT = "no-usable-object|There is nothing to (train on|evaluate with)"
OBJECTS = {
    "sound": (lambda root, content: None, ACCEPTED),
    "one crowd": (annotation(iscrowd=1), ACCEPTED),
    "brush masks": (every_annotation(iscrowd=1), NO_OBJECT),
    "iscrowd null": (every_annotation(iscrowd=None), ACCEPTED),
    "EXIF orientation of the image alone": (turned, "1.png"),
    "EXIF orientation and the upright size": (turned_with_size, ACCEPTED),
    "unknown class": (annotation(category_id=99), "category_id 99"),
    "no size": (lambda root, content: content["images"][1].pop("height"), "'height'"),
    "broken image": (
        lambda root, content: (root / "images/1.png").write_bytes(b"none"),
        "1.png",
    ),
    "no image": (lambda root, content: (root / "images/1.png").unlink(), "1.png"),
    "another size": (
        lambda root, content: save(root / "images/1.png", np.zeros((9, 9, 3), np.uint8)),
        "1.png",
    ),
    "box of three": (annotation(bbox=[8, 8, 32]), "bbox"),
    "short run lengths": (
        annotation(segmentation={"size": [HEIGHT, WIDTH], "counts": [100, 100]}),
        "run lengths",
    ),
    "no annotations": (
        lambda root, content: content["annotations"].clear(),
        NO_OBJECT,
    ),
}


def objects():
    """Return the content of a COCO file: two objects in each of three images."""
    images, annotations = [], []
    for number in range(3):
        size = {"height": HEIGHT, "width": WIDTH}
        images.append({"id": number, "file_name": f"{number}.png", **size})
        for category in (1, 2):
            polygon = [8, 8, 40, 8, 40, 40, 8, 40]
            annotations.append(
                {"id": 2 * number + category, "image_id": number, "category_id": category,
                 "bbox": [8, 8, 32, 32], "area": 1024, "iscrowd": 0, "segmentation": [polygon]}
            )  # fmt: skip
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.mark.parametrize("kind", kinds(OBJECTS))
def test_labels_of_objects(kind, pixels, verdicts):
    change, verdict = OBJECTS[kind]
    content = objects()
    change(pixels, content)
    (pixels / "objects.json").write_text(json.dumps(content))
    evaluation = ACCEPTED if kind == "no annotations" else verdict
    verdicts("instance", 2, pixels / "objects.json", verdict, evaluation)


POINTS = {
    "points": (lambda root, content: None, ACCEPTED),
    "one point": (annotation(point_coords=[[9, 9]], point_labels=[1]), ACCEPTED),
    "points and crowds": (annotation(iscrowd=1, point_coords=None, point_labels=None), ACCEPTED),
    "lengths": (annotation(point_labels=[1, 0]), "3 point_coords, but 2 point_labels"),
    "label 2": (annotation(point_labels=[1, 0, 2]), "point label 2"),
    "no labels": (every_annotation(point_labels=None), "point_labels"),
    "normalised": (every_annotation(point_coords=[[0.3, 0.2]] * 3), "seem to be normalised"),
    "one label": (every_annotation(point_labels=[0, 0, 0]), "all of its point_labels are 0"),
}


@pytest.mark.parametrize("kind", kinds(POINTS))
def test_labelled_points(kind, pixels, verdicts):
    """Evaluation needs masks and ignores points."""
    change, verdict = POINTS[kind]
    content = objects()
    for each in content["annotations"]:
        each |= {"point_coords": [[9, 9], [20, 30], [39, 9]], "point_labels": [1, 1, 0]}
    change(pixels, content)
    (pixels / "objects.json").write_text(json.dumps(content))
    opts = ("INPUT.POINT_SUP", True)
    verdicts("instance", 2, pixels / "objects.json", verdict, ACCEPTED, *opts)
