"""Folders, patterns and videos, default weights and confidence: the same as on the command line."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from pointrend_seg.engine.run_weights import weights_of_run
from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.errors import InputError
from pointrend_seg.prediction import Predictor
from small_configs import small_instance_cfg
from videos import write_video

SIZES = ("INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 128, "DATASETS.TRAIN", "()")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Make the folder of a training: a config that began from a backbone, and weights."""
    folder = tmp_path_factory.mktemp("run")
    cfg = small_instance_cfg(2, (*SIZES, "DATASETS.TEST", "()"))
    cfg.MODEL.WEIGHTS = "backbone.pkl"
    (folder / "config.yaml").write_text(cfg.dump())
    torch.manual_seed(3)
    weights = Trainer.build_model(cfg).state_dict()
    torch.save({"model": weights}, folder / "model_final.pth")
    (folder / "last_checkpoint").write_text("model_final.pth")
    return folder


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for k, name in enumerate(("a.png", "b.jpg")):
        pixels = np.random.default_rng(k).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def video(tmp_path):
    return write_video(tmp_path / "clip.mp4")


@pytest.fixture(scope="module")
def predictor(run):
    return Predictor(run / "config.yaml", confidence=0)


def test_folders_patterns_and_videos(predictor, images, video, monkeypatch):
    found = predictor(str(images))
    assert [each.name for each in found] == ["a", "b"]
    assert [each.path for each in found] == [str(images / "a.png"), str(images / "b.jpg")]
    assert [each.name for each in predictor(images / "*.jpg")] == ["b"]
    assert [each.name for each in predictor(video)] == [f"clip/{k:06d}" for k in range(3)]
    one = predictor(images / "a.png")
    assert one.name == "a" and one.image.shape == (40, 60, 3)
    assert torch.equal(one["instances"].scores, found[0]["instances"].scores)
    assert predictor(one.image[:, :, ::-1]).name == ""
    assert [each.name for each in predictor([images / "b.jpg", one.image])] == ["b", ""]
    stream = predictor.stream([images, video])
    assert next(stream).name == "clip/000000"
    assert [each.name for each in stream][1:] == ["clip/000002", "images/a", "images/b"]
    with pytest.raises(InputError, match="no image or video there"):
        predictor("nothing/*.png")
    with pytest.raises(InputError, match="gone.png does not exist"):
        predictor("gone.png")


def test_pages(predictor, tmp_path):
    pages = [Image.new("RGB", (40, 30), color) for color in ("red", "blue")]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    found = predictor(tmp_path / "p.tif")
    assert [each.name for each in found] == ["p/000000", "p/000001"]
    assert found[1].image[0, 0].tolist() == [0, 0, 255]


def test_bad_images_end_no_stream(predictor, images, caplog):
    (images / "aa.png").write_text("none")
    Image.new("RGB", (3000, 1)).save(images / "ab.png")
    errors = []
    assert [each.name for each in predictor.stream(images, errors=errors)] == ["a", "b"]
    assert len(errors) == 2 and "aa.png" in errors[0] and "ab.png" in errors[1]
    with caplog.at_level(logging.WARNING, "pointrend_seg.prediction.predictor"):
        assert len(predictor(images)) == 2
    assert "Skipped: " in caplog.text and "aa.png" in caplog.text


def test_the_weights_of_the_training(run, tmp_path, caplog):
    assert weights_of_run(run / "config.yaml") == str(run / "model_final.pth")
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    with caplog.at_level(logging.INFO, "pointrend_seg.engine.run_weights"):
        loaded = Predictor(str(folder / "config.yaml"))
    assert f"{folder}/model_final.pth" == loaded.cfg.MODEL.WEIGHTS
    assert Predictor(folder).cfg.MODEL.WEIGHTS == loaded.cfg.MODEL.WEIGHTS
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="nothing/config.yaml does not exist"):
        Predictor(tmp_path / "nothing")
    assert f"Using the weights of this training, {folder / 'model_final.pth'}." in caplog.text
    # a training that was stopped, whose newest checkpoint is damaged
    (folder / "model_final.pth").rename(folder / "model_0000009.pth")
    (folder / "model_0000019.pth").write_bytes(b"PK")
    (folder / "last_checkpoint").write_text("model_0000019.pth")
    assert weights_of_run(folder / "config.yaml") == str(folder / "model_0000009.pth")
    (folder / "model_0000009.pth").write_bytes(b"PK")
    with pytest.raises(InputError, match="checkpoints in .* cannot be used: .*--weights FILE"):
        Predictor(folder / "config.yaml")
    # what is given is taken
    for given in ({"weights": "gone.pth"}, {"opts": ("MODEL.WEIGHTS", "gone.pth")}):
        with pytest.raises(InputError, match="There are no weights at gone.pth"):
            Predictor(run / "config.yaml", **given)
    shutil.copy(run / "config.yaml", folder / "other.yaml")
    assert weights_of_run(folder / "other.yaml") == ""
    assert weights_of_run(tmp_path / "config.yaml") == ""


THRESHOLD = "MODEL.ROI_HEADS.SCORE_THRESH_TEST"


def test_the_default_confidence(run, images, run_in_process, tmp_path):
    def threshold(**options):
        return Predictor(run / "config.yaml", **options).cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST

    assert threshold() == 0.5 and threshold(confidence=0.1) == 0.1
    assert threshold(opts=(THRESHOLD, 0.01)) == 0.01
    loaded = Predictor(run / "config.yaml").cfg
    loaded.defrost()
    loaded.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.3
    assert Predictor(loaded).cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.3
    counts = []
    for opts in ((), (THRESHOLD, 0.01)):  # scores of a random model are below 0.5
        status, _, err = run_in_process(
            *("predict", "--config-file", run / "config.yaml", "--input", images),
            *("--output", tmp_path / "out", "--no-pictures", *opts),
        )
        assert status == 0, err
        content = json.loads((tmp_path / "out/predictions.json").read_text())
        counts.append(len(content["annotations"]))
    assert counts[0] == 0 < counts[1]


@pytest.fixture
def predict(run, run_in_process, tmp_path):
    def predict(*args):
        status, out, err = run_in_process(
            *("predict", "--config-file", run / "config.yaml", "--confidence", 0),
            *("--output", tmp_path / "out", "--no-pictures", *args),
        )
        assert status == 0, err
        return out

    return predict


def in_summary(folder):
    content = json.loads((folder / "predictions.json").read_text())
    return [each["file_name"] for each in content["images"]]


def test_the_summary_is_of_this_run(predict, images, video, tmp_path):
    predict("--input", images)
    assert in_summary(tmp_path / "out") == ["a.png", "b.jpg"]
    predict("--input", images / "b.jpg")
    assert in_summary(tmp_path / "out") == ["b.jpg"]
    predict("--input", images, "--skip-existing")
    assert in_summary(tmp_path / "out") == ["a.png", "b.jpg"]
    predict("--input", video)
    assert in_summary(tmp_path / "out") == [f"clip/{k:06d}" for k in range(3)]


def test_exports_of_the_tool(predict, images, tmp_path):
    out = predict("--input", images, "--export", "geojson", "instance-png", "coco-polygons")
    assert out.startswith("weights: ") and "model_final.pth" in out
    assert f"exported: {tmp_path / 'out/geojson'}" in out
    assert sorted(path.name for path in (tmp_path / "out/geojson").iterdir()) == [
        "a.geojson", "b.geojson"
    ]  # fmt: skip
    exact = (tmp_path / "out/predictions_polygons.json").stat().st_size
    predict(
        *("--input", images, "--skip-existing", "--simplify", 2, "--export", "coco-polygons"),
    )
    assert (tmp_path / "out/predictions_polygons.json").stat().st_size < exact
    objects = json.loads((tmp_path / "out/objects/a.json").read_text())["objects"]
    assert {each["category_name"] for each in objects} <= {"class 0", "class 1"}


def test_points_of_videos(run, run_in_process, video, tmp_path):
    def predict(*args):
        return run_in_process(
            *("predict", "--config-file", run / "config.yaml", "--confidence", 0),
            *("--input", video, "--output", tmp_path / "out", *args),
        )

    assert "3 predicted" in predict()[1]
    assert "1 were there already" in predict("--skip-existing")[1]
    status, out, err = predict("--skip-existing", "--points", "--compare")
    assert status == 0 and "3 predicted" in out, err
    names = {path.name for path in (tmp_path / "out/pictures/clip").iterdir()}
    assert {f"{k:06d}.compare.png" for k in range(3)} <= names
    assert {f"{k:06d}.points-1.png" for k in range(3)} <= names
    assert "1 were there already" in predict("--skip-existing", "--points", "--compare")[1]
