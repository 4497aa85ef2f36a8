"""tools/predict.py: its files, skipped inputs, and continuing a run."""

import json
import os
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.errors import InputError
from pointrend_seg.prediction import Predictor
from pointrend_seg.prediction import folder as folder_module
from pointrend_seg.prediction.folder import predict_images
from pointrend_seg.prediction.inputs import Source, find_sources
from pointrend_seg.prediction.outputs import OutputFolder
from pointrend_seg.prediction.visualizations import Visualizations
from small_configs import small_instance_cfg, small_semantic_cfg
from videos import write_video

SIZES = ("INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 128)
CLASSES = [{"name": name, "id": 10 * k} for k, name in enumerate(("sky", "road", "tree"), start=1)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Write configs and weights of random models; return their command-line options."""
    root = tmp_path_factory.mktemp("models")
    custom = [{"name": "folder_test", "images": "i", "annotations": "l", "classes": CLASSES}]
    found = {}
    for name, make in (("semantic", small_semantic_cfg), ("instance", small_instance_cfg)):
        cfg = make(3, (*SIZES, "DATASETS.TEST", "()", "DATASETS.TRAIN", "()"))
        if name == "semantic":
            cfg.DATASETS.CUSTOM, cfg.DATASETS.TEST = custom, ("folder_test",)
        torch.manual_seed(3)
        torch.save({"model": Trainer.build_model(cfg).state_dict()}, root / f"{name}.pth")
        (root / f"{name}.yaml").write_text(cfg.dump())
        found[name] = ("--config-file", root / f"{name}.yaml", "--weights", root / f"{name}.pth")
    return found


@pytest.fixture
def images(tmp_path):
    """Make a folder with two images, one of them in a subfolder."""
    random = np.random.default_rng(0)
    for name in ("a.png", "sub/a.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"


@pytest.fixture
def predict(run_in_process, models, images, tmp_path):
    def run(kind, *args, source=None):
        # the scores of a random model are far below 0.5
        args = ("--input", source or images, "--output", tmp_path / "out", *args)
        return run_in_process("predict", *models[kind], "--confidence", 0, *args)

    return run


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_label_images_have_the_values_of_the_data_set(predict, models, images, tmp_path):
    status, out, _ = predict("semantic")
    assert status == 0 and "2 predicted" in out
    names = ["a.png", "sub/a.png"]
    assert files(tmp_path / "out") == [f"{d}/{n}" for d in ("labels", "pictures") for n in names]
    predictor = Predictor(str(models["semantic"][1]), models["semantic"][3])
    expected = predictor(images / "a.png")["sem_seg"].argmax(0).numpy()
    written = np.asarray(Image.open(tmp_path / "out/labels/a.png"))
    assert np.array_equal(written, 10 * (expected + 1)) and written.dtype == np.uint8
    assert Image.open(tmp_path / "out/pictures/a.png").size == (60, 40)
    predict("semantic", "--label-ids", "contiguous")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/labels/a.png")), expected)


def test_objects_in_coco_format(predict, models, images, tmp_path):
    status, _, _ = predict("instance")
    assert status == 0
    coco = COCO(tmp_path / "out/predictions.json")
    assert [each["file_name"] for each in coco.dataset["images"]] == ["a.png", "sub/a.jpg"]
    predictor = Predictor(str(models["instance"][1]), models["instance"][3], confidence=0)
    instances = predictor(images / "a.png")["instances"]
    found = coco.imgToAnns[1]
    assert len(found) == len(instances) > 0
    for item, mask, score in zip(found, instances.pred_masks, instances.scores, strict=True):
        assert np.array_equal(coco.annToMask(item), mask.numpy())
        assert item["score"] == pytest.approx(float(score))
    x0, y0, x1, y1 = instances.pred_boxes.tensor.unbind(1)
    expected = torch.stack([x0, y0, x1 - x0, y1 - y0], dim=1).numpy()
    assert np.allclose([item["bbox"] for item in found], expected, atol=0.02)
    assert coco.loadRes(coco.dataset["annotations"]).anns


def test_unreadable_files_are_skipped(predict, images, tmp_path):
    (images / "b.png").write_bytes((images / "a.png").read_bytes()[:200])
    (images / "c.jpg").write_text("no image")
    status, out, err = predict("semantic", "--no-pictures")
    assert status == 1 and "2 predicted" in out
    assert "2 could not be read and were skipped" in err
    assert "b.png" in err and "c.jpg" in err and "Traceback" not in err
    assert files(tmp_path / "out") == ["labels/a.png", "labels/sub/a.png"]


@pytest.mark.parametrize("kind", ["semantic", "instance"])
def test_a_second_run_continues(predict, tmp_path, kind):
    predict(kind)
    result = tmp_path / "out" / ("labels/a.png" if kind == "semantic" else "objects/a.json")
    kept = sorted((tmp_path / "out").rglob("sub/a.*"))
    times = [path.stat().st_mtime_ns for path in kept]
    result.unlink()
    status, out, _ = predict(kind, "--skip-existing")
    assert status == 0 and "1 predicted, 1 were there already" in out and result.exists()
    assert [path.stat().st_mtime_ns for path in kept] == times
    if kind == "instance":
        content = json.loads((tmp_path / "out/predictions.json").read_text())
        assert len(content["images"]) == 2


@pytest.mark.parametrize("kind", ["semantic", "instance"])
def test_points_steps_and_comparison(predict, images, tmp_path, kind):
    node = "SEM_SEG_POINT_HEAD" if kind == "semantic" else "POINT_HEAD"
    extra = (f"MODEL.{node}.SUBDIVISION_NUM_POINTS", 100)
    status, _, err = predict(
        kind, "--points", "--steps", "--compare", *extra, source=images / "a.png"
    )
    assert status == 0, err
    names = files(tmp_path / "out/pictures")
    steps = [name for name in names if ".step-" in name]
    points = [name for name in names if ".points-" in name]
    assert "a.compare.png" in names and "a.png" in names
    assert len(steps) == len(points) + 1 > 2
    sizes = {Image.open(tmp_path / "out/pictures" / name).size for name in steps + points}
    assert sizes == {(96, 64)}  # as the model sees it
    pictures = [Image.open(tmp_path / "out/pictures" / name).tobytes() for name in steps]
    assert len(set(pictures)) > 1


def test_steps_of_a_model_without_points(predict):
    opts = ("MODEL.ROI_MASK_HEAD.POINT_HEAD_ON", "False")
    status, _, err = predict("instance", "--steps", *opts)
    assert status == 2


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_pictures_that_are_asked_for(models, order):
    color = (200, 50, 10)
    path, weights = models["semantic"][1], models["semantic"][3]
    predictor = Predictor(str(path), weights, opts=("INPUT.FORMAT", order))
    inputs = predictor.prepare_rgb(np.full((64, 96, 3), color, np.uint8))
    steps = predictor.model.sem_seg_head.subdivision_steps
    for kind, names in (
        ("overlay", []),
        ("points", [f".points-{k}" for k in range(1, steps + 1)]),
        ("steps", [f".step-{k}" for k in range(steps + 1)]),
        ("compare", [".compare"]),
    ):
        chosen = Visualizations(**{"overlay": False, kind: True})
        drawings = chosen.prepare(predictor, inputs)
        assert list(drawings) == names
        if kind == "points":  # which cover little of the image
            assert np.median(drawings[names[0]](), axis=(0, 1)).tolist() == list(color)


def test_a_video(predict, tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    status, out, _ = predict("semantic", source=path)
    assert status == 0 and "3 predicted" in out
    assert files(tmp_path / "out/labels") == [f"clip/{k:06d}.png" for k in range(3)]
    reader = cv2.VideoCapture(str(tmp_path / "out/pictures/clip.mp4"))
    assert int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    assert (reader.get(3), reader.get(4)) == (64, 48)
    assert reader.get(cv2.CAP_PROP_FPS) == 10 and files(tmp_path / "out/pictures") == ["clip.mp4"]
    _, out, _ = predict("semantic", "--skip-existing", source=path)
    assert "0 predicted, 1 were there already" in out
    without = ("--skip-existing", "--no-pictures")
    assert "3 predicted" in predict("semantic", *without, source=path)[1]
    (tmp_path / "out/pictures/clip.mp4").unlink()
    predict("semantic", *without, source=path)
    assert files(tmp_path / "out/pictures") == []
    for again in (("--skip-existing",), ()):
        assert "3 predicted" in predict("semantic", *again, source=path)[1]
    (tmp_path / "broken.mp4").write_text("none")
    status, _, err = predict("semantic", source=tmp_path / "broken.mp4")
    assert status == 1 and "broken.mp4 cannot be read" in err


def test_threads_and_batches_change_nothing(predict, images, tmp_path):
    for k in range(5):
        Image.open(images / "a.png").rotate(30 * k).save(images / f"r{k}.png")
    predict("semantic", "--threads", 1)
    first = {name: (tmp_path / "out" / name).read_bytes() for name in files(tmp_path / "out")}
    predict("semantic", "--threads", 3)
    assert first == {n: (tmp_path / "out" / n).read_bytes() for n in files(tmp_path / "out")}
    predict("semantic", "--batch-size", 3, "--no-pictures")
    for name in files(tmp_path / "out/labels"):
        labels = np.asarray(Image.open(tmp_path / "out/labels" / name))
        before = cv2.imdecode(np.frombuffer(first[f"labels/{name}"], np.uint8), -1)
        assert (labels == before).mean() > 0.999


class Held:
    """A counter of images between two stages of `predict_images`, with its maximum."""

    def __init__(self):
        self.now = self.most = 0
        self.lock = threading.Lock()

    def add(self, count):
        with self.lock:
            self.now += count
            self.most = max(self.most, self.now)


@pytest.mark.parametrize("slow", ["model", "writers"])
def test_no_stage_runs_far_ahead_of_the_next(models, images, tmp_path, monkeypatch, slow):
    """Memory use does not grow with the number of images."""
    predictor = Predictor(str(models["semantic"][1]), models["semantic"][3], batch_size=2)
    output = OutputFolder(tmp_path / "out", predictor.classes, semantic=True, contiguous=True)
    read, predicted = Held(), Held()

    def prepare(pixels):
        read.add(1)
        return {}

    def model(inputs):
        time.sleep(0.02 * (slow == "model"))
        read.add(-len(inputs))
        predicted.add(len(inputs))
        return [{"sem_seg": torch.zeros(3, 4, 5)} for _ in inputs]

    def write(name, file_name, prediction, path):
        time.sleep(0.01 * (slow == "writers"))
        predicted.add(-1)

    predictor.model = model
    monkeypatch.setattr(predictor, "prepare_rgb", prepare)
    monkeypatch.setattr(output, "write", write)
    sources = [Source(str(images / "a.png"), str(k), "a.png") for k in range(60)]
    visualizations = Visualizations(overlay=False)
    outcome = predict_images(predictor, sources, output, visualizations=visualizations, threads=1)
    assert outcome.predicted == 60 and read.now == predicted.now == 0
    assert read.most <= 2 * (2 + 2) and predicted.most <= 2 * (2 + 2)


def test_what_is_done_and_left_out(models, images, tmp_path):
    """An image is done if its result and all requested pictures exist."""
    predictor = Predictor(str(models["semantic"][1]), models["semantic"][3])
    predictor.model = lambda inputs: [{"sem_seg": torch.zeros(3, 40, 60)} for _ in inputs]
    output = OutputFolder(tmp_path / "out", predictor.classes, semantic=True, contiguous=True)
    sources = find_sources([str(images)])
    seen = []
    for overlay, skip_existing in ((0, 1), (0, 1), (1, 1), (1, 1), (1, 0)):
        visualizations = Visualizations(overlay=bool(overlay))
        how = {"visualizations": visualizations, "skip_existing": bool(skip_existing)}
        outcome = predict_images(predictor, sources, output, **how)
        seen.append((outcome.predicted, outcome.skipped))
    assert seen == [(2, 0), (0, 2), (2, 0), (0, 2), (2, 0)]
    pictures = tmp_path / "out/pictures"
    for file in files(pictures):
        (pictures / file).unlink()
    (pictures / "a.png").mkdir()  # which no picture can replace
    output.result_path("a").unlink()
    with pytest.raises(OSError):
        predict_images(predictor, sources, output, visualizations=Visualizations())
    assert not output.result_path("a").exists()  # it is written last


@pytest.mark.parametrize("count", [1, 20])
def test_write_errors_stop_the_run(models, images, tmp_path, monkeypatch, count):
    predictor = Predictor(str(models["semantic"][1]), models["semantic"][3])
    output = OutputFolder(tmp_path / "out", predictor.classes, semantic=True, contiguous=True)
    written = []

    def write(name, file_name, prediction, path):
        written.append(name)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "write", write)
    sources = [Source(str(images / "a.png"), str(k), "a.png") for k in range(count)]
    visualizations = Visualizations(overlay=False)
    with pytest.raises(OSError, match="No space left"):
        predict_images(predictor, sources, output, visualizations=visualizations, threads=1)
    assert len(written) < 15  # it does not go on to the end first


def names(*inputs):
    return [source.name for source in find_sources([str(each) for each in inputs])]


def test_found_sources(images, monkeypatch):
    assert names(images) == ["a", "sub/a"]
    assert names(images / "sub") == ["a"]
    assert names(images / "**/*.jpg") == ["a"]
    assert names(images / "a.png", images / "sub/a.jpg") == ["a", "sub/a"]
    (images / "a.webp").write_bytes(b"")
    assert names(images) == ["a.png", "a.webp", "sub/a"]
    monkeypatch.chdir(images)
    assert names("a.png") == ["a"] and names("*/*.jpg") == ["a"]
    with pytest.raises(InputError, match="nothing/.: no image or video there"):
        names("a.png", "nothing/*")


def test_what_a_folder_holds_and_what_is_named(images):
    assert names(images / "sub", images / "sub/a.jpg") == ["a"]  # once
    folder = (images / "sub").rename(images / "[s]")  # not a pattern
    (folder / "notes.txt").write_text("")
    (folder / "folder.png").mkdir()
    Image.new("RGB", (3, 4)).save(folder / "[b].PNG")
    assert names(folder) == names(folder / "[b].PNG", folder) == ["[b]", "a", "folder"]
    assert names(folder / "notes.txt") == ["notes"]  # reading tells
    (images / "a.png").unlink()
    (folder / "folder.png").rmdir()
    assert names(images) == ["[s]/[b]", "[s]/a"]  # below the folder that was named


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--threads", 0), "--threads is 0"),
        (("--confidence", 7), "from 0 to 1"),
        (("MODEL.NO_KEY", 1), "no config key MODEL.NO_KEY"),
    ],
)
def test_mistakes(predict, args, text):
    status, _, err = predict("semantic", *args)
    assert status == 2 and text in err.strip().splitlines()[-1]


def test_a_second_run_does_not_take_the_first_ones_output_for_input(predict, images):
    inside = ("--output", images / "out")
    for _ in range(2):
        status, out, _ = predict("semantic", *inside)
        assert status == 0 and "2 predicted" in out
    status, out, _ = predict("semantic", *inside, "--input", images / "out" / "pictures")
    assert status == 0 and "2 predicted" in out  # where it is asked for


def test_what_is_no_file_is_named_and_stops_nothing(predict, images, tmp_path):
    (images / "folder.png").mkdir()
    os.mkfifo(images / "pipe.png")
    (images / "dangling.png").symlink_to("gone.png")
    (images / "round").symlink_to(images)
    Image.new("RGB", (20000, 1)).save(images / "sliver.png")
    status, out, err = predict("instance", "--no-pictures")
    assert status == 1 and "2 predicted" in out and "4 could not be read" in err
    for text in (
        "folder.png is a folder",
        "pipe.png is a pipe",
        "dangling.png is a link that leads nowhere",
        "sliver.png: The image is 20000 x 1 (width x height): scaled down",
    ):
        assert text in err


def test_frames_are_predicted_as_images(predict, models, images, tmp_path):
    frames = [Image.new("RGB", (60, 40), color) for color in ("red", "white", "navy")]
    for name in ("b.gif", "c.tif", "d.webp", "e.png"):
        frames[0].save(images / name, save_all=True, append_images=frames[1:])
    frames[0].save(images / "one.gif")
    status, out, _ = predict("semantic", "--batch-size", "2", "--points")
    assert status == 0 and "15 predicted" in out
    written = files(tmp_path / "out/labels")
    parts = [f"{name}/{number:06d}.png" for name in "bcde" for number in range(3)]
    assert written == sorted(["a.png", "sub/a.png", "one.png", *parts])
    assert (tmp_path / "out/pictures/c/000002.points-1.png").exists()
    predictor = Predictor(str(models["semantic"][1]), models["semantic"][3])
    for number, frame in enumerate(frames):
        expected = 10 * (predictor(frame)["sem_seg"].argmax(0).numpy() + 1)
        for name in "ce":
            found = np.asarray(Image.open(tmp_path / f"out/labels/{name}/{number:06d}.png"))
            assert np.array_equal(found, expected)
    (tmp_path / "out/labels/c/000001.png").unlink()
    status, out, _ = predict("semantic", "--skip-existing", "--points")
    assert "1 predicted, 14 were there already" in out


def test_a_broken_frame_keeps_those_before_it(predict, images, tmp_path):
    frames = [Image.effect_noise((60, 40), sigma) for sigma in (10, 20, 30)]
    frames[0].save(images / "b.tif", save_all=True, append_images=frames[1:], compression="raw")
    content = (images / "b.tif").read_bytes()
    (images / "b.tif").write_bytes(content[:-1000] if content[4] < 60 else content)
    status, out, err = predict("semantic", "--no-pictures")
    assert (status, "Traceback" in err) in ((0, False), (1, False))
    assert {"labels/a.png", "labels/sub/a.png"} <= set(files(tmp_path / "out"))


def test_files_of_other_types_are_counted(predict, images, tmp_path):
    for name in ("a.txt", "sub/b.TXT", "c.csv", "noext"):
        (images / name).write_text("x")
    status, out, _ = predict("semantic", "--no-pictures")
    assert status == 0
    assert "4 files of other types were left out: .txt 2, .csv 1, without an extension 1." in out
    status, out, _ = predict("semantic", "--no-pictures", source=images / "a.png")
    assert "left out" not in out
    (tmp_path / "only").mkdir()
    (tmp_path / "only/a.txt").touch()
    status, _, err = predict("semantic", source=tmp_path / "only")
    assert status == 2
    assert "no image or video there (1 file of another type was left out: .txt 1)" in err


@pytest.mark.parametrize("name", ["b.GIF", "b.jfif", "b.ppm", "b.PGM", "b.avif", "b.jp2", "b.bmp"])
def test_extensions(predict, images, tmp_path, name):
    kind = "JPEG" if name.endswith("jfif") else None
    Image.new("L" if name.endswith("PGM") else "RGB", (60, 40)).save(images / name, kind)
    status, out, _ = predict("semantic", "--no-pictures")
    assert status == 0 and "3 predicted" in out
    assert (tmp_path / "out/labels/b.png").exists()


def test_a_wrong_extension_is_read_by_its_content(predict, images, tmp_path):
    Image.new("RGB", (60, 40)).save(images / "b.png", "JPEG")
    Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60)).save(images / "c.jpg", "TIFF")
    status, out, _ = predict("semantic", "--no-pictures")
    assert status == 0 and "4 predicted" in out


@pytest.mark.parametrize("stage", ["predict", "prepare_rgb", "to_cpu"])
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
    ],
)
def test_one_image_without_memory_ends_no_run(models, images, tmp_path, monkeypatch, stage, error):
    """Those that it shares a batch with are predicted."""
    Image.new("RGB", (30, 20)).save(images / "b.png")
    predictor = Predictor(str(models["semantic"][1]), models["semantic"][3], batch_size=3)
    place = folder_module if stage == "to_cpu" else predictor
    original = getattr(place, stage)
    sizes = {
        "predict": lambda inputs: [(each["height"], each["width"]) for each in inputs],
        "prepare_rgb": lambda pixels: [pixels.shape[:2]],
        "to_cpu": lambda output: [tuple(output["sem_seg"].shape[1:])],
    }

    def fails(given, **options):
        if (20, 30) in sizes[stage](given):
            raise error
        return original(given, **options)

    monkeypatch.setattr(place, stage, fails)
    output = OutputFolder(tmp_path / "out", predictor.classes, semantic=True, contiguous=True)
    sources = find_sources([str(images)])
    outcome = predict_images(predictor, sources, output, visualizations=Visualizations(False))
    assert outcome.predicted == 2 and len(outcome.errors) == 1
    assert outcome.errors[0].startswith(str(images / "b.png") + ": the memory is not enough")
    assert files(tmp_path / "out") == ["labels/a.png", "labels/sub/a.png"]
