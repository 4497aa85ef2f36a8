"""Annotation files that are odd but clear are read alike by all tools, from any folder."""

import copy
import json

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from small_configs import small_instance_cfg

HEIGHT, WIDTH = 48, 64
# 1152 pixels, of medium size; an area of 0 would be small
SQUARE = [8.0, 8.0, 44.0, 8.0, 44.0, 40.0, 8.0, 40.0]
_TRAINING = (
    *("SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 1, "SOLVER.WARMUP_ITERS", 0),
    *("SOLVER.STEPS", (), "DATALOADER.NUM_WORKERS", 0, "SEED", 1),
    *("INPUT.MIN_SIZE_TRAIN", (48,), "INPUT.MIN_SIZE_TEST", 48, "INPUT.MAX_SIZE_TEST", 64),
    *("MODEL.RESNETS.NORM", "GN", "MODEL.FPN.NORM", "GN"),
)


def good():
    """The content of a file: two images with two objects of two categories each."""
    images = [{"id": k, "file_name": f"{k}.png", "height": HEIGHT, "width": WIDTH} for k in (1, 2)]
    annotations = [
        {
            "id": 2 * image + category,
            "image_id": image,
            "category_id": category,
            "bbox": [8, 8, 36, 32],
            "area": 1152,
            "iscrowd": 0,
            "segmentation": [SQUARE],
        }
        for image in (1, 2)
        for category in (1, 2)
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def annotations(half=False, **values):
    """Give values to all annotations, or to every second; what is None is written as null."""

    def change(content):
        for annotation in content["annotations"][:: 2 if half else 1]:
            annotation.update(copy.deepcopy(values))

    return change


def categories(*entries, ids=()):
    """Replace the categories; annotations refer to the ids, by default those of the entries."""

    def change(content):
        content["categories"] = [dict(each) for each in entries]
        numbers = ids or [each["id"] for each in entries]
        for number, annotation in enumerate(content["annotations"]):
            annotation["category_id"] = numbers[number % len(numbers)]

    return change


def images(**values):
    def change(content):
        for image in content["images"]:
            image.update(values)

    return change


def without(key):
    def change(content):
        for annotation in content["annotations"]:
            annotation.pop(key, None)

    return change


def string_ids(content):
    """Ids of images that are all text stay text."""
    for entry, key in ((content["images"], "id"), (content["annotations"], "image_id")):
        for each in entry:
            each[key] = f"scan-{each[key]}"


def references_as_text(content):
    for annotation in content["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
        annotation["category_id"] = f"{annotation['category_id']}"


def runs(content):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[8:40, 8:44] = 1
    rle = mask_util.encode(mask)
    whole = {"size": [float(HEIGHT), str(WIDTH)], "counts": rle["counts"].decode()}
    for annotation in content["annotations"]:
        annotation["segmentation"] = dict(whole)


def left_out(content):
    more = [
        {"bbox": [8, 8, 0, 32]},
        {"bbox": [800, 8, 9, 9], "segmentation": [[800, 8, 809, 8, 809, 17]]},
        {"segmentation": [[-20, 8, -9, 8, -9, 17]]},
        {"segmentation": [[8, 8, 40, 40]]},
        {"image_id": 77},
    ]
    content["annotations"] += [
        good()["annotations"][0] | {"id": 100 + number} | changes
        for number, changes in enumerate(more)
    ]
    content["annotations"][0]["segmentation"] += [[8, 8, 40, 40]]


PLAIN = [(1, "cat"), (2, "dog")]
ODD = {
    "iscrowd null": (annotations(iscrowd=None), PLAIN),
    "iscrowd null in half": (annotations(half=True, iscrowd=None), PLAIN),
    "iscrowd false": (annotations(iscrowd=False), PLAIN),
    "iscrowd as text": (annotations(iscrowd="0"), PLAIN),
    "ignore null": (annotations(ignore=None), PLAIN),
    "no area": (without("area"), PLAIN),
    "area 0": (annotations(area=0), PLAIN),
    "area null": (annotations(area=None), PLAIN),
    "area not a number": (annotations(area=float("nan")), PLAIN),
    "area infinite": (annotations(area=float("inf")), PLAIN),
    "sizes as floats": (images(height=48.0, width=64.0), PLAIN),
    "sizes as text": (images(height="48", width="64.0"), PLAIN),
    "references as text": (references_as_text, PLAIN),
    "ids as floats": (annotations(category_id=2.0), PLAIN),
    "string ids": (string_ids, PLAIN),
    "run lengths": (runs, PLAIN),
    "what is left out": (left_out, PLAIN),
    "numbers as names": (
        categories({"id": 1, "name": 7}, {"id": 2, "name": 12}),
        [(1, "7"), (2, "12")],
    ),
    "one name twice": (
        categories({"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}),
        [(1, "cat"), (2, "cat")],
    ),
    "no name": (
        categories({"id": 4, "name": ""}, {"id": 5, "name": None}),
        [(4, "category 4"), (5, "category 5")],
    ),
    "ids out of order": (
        categories({"id": 9, "name": "dog"}, {"id": 0, "name": "cat"}),
        [(0, "cat"), (9, "dog")],
    ),
    "huge ids": (
        categories({"id": 2**40, "name": "dog"}, {"id": -3, "name": "cat"}),
        [(-3, "cat"), (2**40, "dog")],
    ),
    "ids of categories as text": (
        categories({"id": "2", "name": "dog"}, {"id": "1", "name": "cat"}, ids=(1, "2")),
        PLAIN,
    ),
    "names for YAML to mistake": (
        categories({"id": 1, "name": "no"}, {"id": 2, "name": " 1e3: é \t# \"'"}),
        [(1, "no"), (2, " 1e3: é \t# \"'")],
    ),
    "colours with opacity": (
        categories(
            {"id": 1, "name": "cat", "color": [200, 30, 30, 255]},
            {"id": 2, "name": "dog", "color": [0, 30.0, 200]},
        ),
        [(1, "cat", (200, 30, 30)), (2, "dog", (0, 30, 200))],
    ),
    "colours as fractions": (
        categories(
            {"id": 1, "name": "cat", "color": [0.2, 1, 0.0]},
            {"id": 2, "name": "dog", "color": [1, 0, 0, 1]},
        ),
        [(1, "cat", (51, 255, 0)), (2, "dog", (255, 0, 0))],
    ),
    "colours as text": (
        categories(
            {"id": 1, "name": "cat", "color": "#00ff80"}, {"id": 2, "name": "dog", "color": "red"}
        ),
        [(1, "cat", (0, 255, 128)), (2, "dog", (255, 0, 0))],
    ),
    "a colour of one": (
        categories(
            {"id": 1, "name": "cat", "color": "purplish"},
            {"id": 2, "name": "dog", "color": [1, 2, 3]},
        ),
        [(1, "cat"), (2, "dog", (1, 2, 3))],
    ),
}


@pytest.fixture
def folder(tmp_path):
    """Images, a config, and a folder to look at the results from."""
    (tmp_path / "data/images").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    rng = np.random.default_rng(0)
    for k in (1, 2):
        pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"data/images/{k}.png")
    (tmp_path / "config.yaml").write_text(small_instance_cfg(2, _TRAINING).dump())
    return tmp_path


@pytest.fixture(autouse=True)
def forget():
    yield
    forget_data()


def forget_data():
    """Do as a new process would."""
    for name in ("custom_train", "custom_val", "plain_odd"):
        for catalog in (DatasetCatalog, MetadataCatalog):
            if name in catalog.list():
                catalog.remove(name)


def write(folder, content, name="odd.json"):
    (folder / "data" / name).write_text(json.dumps(content))


# The others take minutes in all.
FAST = ("iscrowd null in half", "area not a number", "one name twice", "colours with opacity")


@pytest.mark.parametrize(
    "name",
    [each if each in FAST else pytest.param(each, marks=pytest.mark.slow) for each in ODD],
)
def test_the_ids_names_and_colours_of_the_file(name, folder, run_in_process, monkeypatch):
    """Train for an iteration; predict, evaluate and compare elsewhere with the saved config."""
    change, expected = ODD[name]
    content = good()
    change(content)
    write(folder, content)

    def run(tool, *args):
        status, out, err = run_in_process(tool, *args)
        assert status == 0, out + err
        forget_data()
        return out + err

    monkeypatch.chdir(folder / "data")
    data = ("images", "odd.json")
    run("check_data", "--train-data", *data, "--val-data", *data, "--workers", 1)
    data = ("--train-data", *data, "--val-data", *data, "--classes-from-data")
    opts = ("OUTPUT_DIR", "out")
    run("train_net", "--config-file", "../config.yaml", *data, *opts)
    monkeypatch.chdir(folder / "elsewhere")
    config, weights = folder / "data/out/config.yaml", folder / "data/out/model_final.pth"
    run(
        *("predict", "--config-file", config, "--weights", weights, "--confidence", 0),
        *("--input", folder / "data/images", "--output", "predicted"),
    )
    found = json.loads((folder / "elsewhere/predicted/predictions.json").read_text())
    assert [(each["id"], each["name"]) for each in found["categories"]] == [
        each[:2] for each in expected
    ]
    assert {each["category_id"] for each in found["annotations"]} <= {k for k, *_ in expected}
    assert found["annotations"]
    run("train_net", "--eval-only", "--config-file", config)  # its own weights
    results = folder / "data/out/inference/custom_val"
    evaluated = json.loads((results / "coco_instances_results.json").read_text())
    ids = {each["id"] for each in content["images"]}
    assert {each["image_id"] for each in evaluated} <= {int(k) if k in (1, 2) else k for k in ids}
    assert {each["category_id"] for each in evaluated} <= {k for k, *_ in expected}
    scores = json.loads((results / "coco_evaluation.json").read_text())["segm"]["scores"]
    assert scores["AP"] is not None and scores["APm"] is not None and scores["APs"] is None
    assert len([key for key in scores if key.startswith("AP-")]) == len(expected)
    run("visualize_results", "--config-file", config, "--output", "compared", "--report")
    colors = [each[2] if len(each) > 2 else None for each in expected]
    from pointrend_seg.engine import find_task, load_config

    cfg = load_config(str(config))
    classes = find_task(cfg).classes(cfg)
    for color, wanted in zip(classes.colors.tolist(), colors, strict=True):
        assert wanted is None or tuple(color) == wanted
    assert not list((folder / "elsewhere").glob("out*")), "a relative path was taken from there"
