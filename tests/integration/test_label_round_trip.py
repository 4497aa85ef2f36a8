"""A saved config reads its data set again, from any folder: ids, names and colours of the files."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from pointrend_seg.engine import find_task, load_config
from small_configs import small_semantic_cfg

SIZE = (48, 64)
OPTS = (
    *("SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 1, "SOLVER.WARMUP_ITERS", 0),
    *("SOLVER.STEPS", (), "DATALOADER.NUM_WORKERS", 0, "SEED", 1, "TEST.REPORT", False),
    *("INPUT.MIN_SIZE_TRAIN", (48,), "INPUT.MIN_SIZE_TEST", 48, "INPUT.MAX_SIZE_TEST", 64),
    *("MODEL.RESNETS.NORM", "GN",),
)  # fmt: skip


def gray(*values, kind=np.uint8):
    return Image.fromarray(np.resize(np.repeat(np.array(values, kind), 8), SIZE))


def in_colour(*colors):
    return Image.fromarray(np.resize(np.array(colors, np.uint8), (*SIZE, 3)))


def with_palette(*indices):
    image = gray(*indices)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    return image


CAT_AND_DOG = ("cat", "dog"), ((255, 0, 0), (0, 0, 255))
# Class file and its text, a label image, and the names, colours (None: any) and ids.
SETS = {
    "classes.json with colours": (
        "classes.json",
        json.dumps([{"name": "dog", "id": 9, "color": "#0000ff"},
                    {"name": "cat", "id": 4, "color": [255, 0, 0]}]),
        gray(4, 9, 255),
        (*CAT_AND_DOG, (4, 9)),
    ),
    "ids of 16 bits": (
        "classes.txt", "1000 cat\n40000 dog", gray(1000, 40000, kind=np.uint16),
        (("cat", "dog"), None, (1000, 40000)),
    ),
    "ids in a CSV": (
        "_classes.csv", "Pixel Value, Class\n1, cat\n2, dog\n", gray(1, 2),
        (("cat", "dog"), None, (1, 2)),
    ),
    "colours": (
        "labelmap.txt", "cat:255,0,0::\ndog:0,0,255::\n", in_colour((255, 0, 0), (0, 0, 255)),
        (*CAT_AND_DOG, (0, 1)),
    ),
    "palette by colour": (
        "labelmap.txt", "cat:255,0,0::\ndog:0,0,255::\n", with_palette(1, 2),
        (*CAT_AND_DOG, (0, 1)),
    ),
    "palette without colours": (
        "classes.txt", "1 cat\n2 dog", with_palette(1, 2), (*CAT_AND_DOG, (1, 2)),
    ),
    "0 and 255": (
        "classes.txt", "cell", gray(0, 255), (("background", "cell"), None, (0, 255)),
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def forget():
    forget_sets()
    yield
    forget_sets()


def forget_sets():
    for name in ("custom_train", "custom_val"):
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)


SLOW = {"ids in a CSV", "colours", "palette without colours"}  # in `make test-slow` alone


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow) if kind in SLOW else kind for kind in SETS]
)
def test_train_predict_and_evaluate(kind, run_in_process, tmp_path, monkeypatch):
    file, text, labels, (names, colors, ids) = SETS[kind]
    for name in ("images", "labels", "elsewhere"):
        (tmp_path / name).mkdir()
    for number in range(2):
        picture = np.random.default_rng(number).integers(0, 255, (*SIZE, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / "images" / f"{number}.png")
        labels.save(tmp_path / "labels" / f"{number}.png")
    (tmp_path / "labels" / file).write_text(text)
    config = tmp_path / "model.yaml"
    config.write_text(small_semantic_cfg(2, OPTS).dump())
    monkeypatch.chdir(tmp_path)
    data = ("--train-data", "images", "labels", "--val-data", "images", "labels")
    status, _, err = run_in_process(
        "train_net", "--config-file", config, *data, "--classes-from-data", "OUTPUT_DIR", "out"
    )
    assert status == 0, err

    monkeypatch.chdir(tmp_path / "elsewhere")
    forget_sets()
    saved = ("--config-file", tmp_path / "out/config.yaml")
    weights = tmp_path / "out/model_final.pth"
    status, _, err = run_in_process(
        "train_net", *saved, "--eval-only", "MODEL.WEIGHTS", weights, "OUTPUT_DIR", "again"
    )
    assert status == 0, err
    first, again = (
        json.loads((folder / "inference/custom_val/sem_seg_evaluation.json").read_text())
        for folder in (tmp_path / "out", tmp_path / "elsewhere/again")
    )
    assert first == again
    assert {key for key in again if key.startswith("IoU-")} == {f"IoU-{name}" for name in names}
    segments = (tmp_path / "elsewhere/again/inference/custom_val/sem_seg_predictions.json").open()
    assert {each["category_id"] for each in json.load(segments)} <= {*ids}

    forget_sets()
    (tmp_path / "labels").rename(tmp_path / "gone")  # predicting needs no data set
    status, _, err = run_in_process(
        "predict", *saved, "--weights", weights, "--input", tmp_path / "images", "--output", "p"
    )
    assert status == 0, err
    written = {*np.unique(np.asarray(Image.open("p/labels/0.png"))).tolist()}
    assert written and written <= {*ids}
    cfg = load_config(str(tmp_path / "out/config.yaml"))
    classes = find_task(cfg).classes(cfg)
    assert (classes.names, classes.ids) == (names, ids)
    if colors is not None:
        assert classes.colors.tolist() == [list(color) for color in colors]
