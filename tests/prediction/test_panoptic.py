"""Predictions of panoptic models: `Prediction`, files in COCO's panoptic format, pictures."""

import json

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from PIL import Image

from pointrend_seg.data.classes import Classes, known_panoptic_classes, palette
from pointrend_seg.drawing.predictions import draw_segments
from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.errors import InputError
from pointrend_seg.prediction import Predictor
from pointrend_seg.prediction.exports import EXPORTS
from pointrend_seg.prediction.outputs import to_cpu
from pointrend_seg.prediction.results import Prediction
from pointrend_seg.prediction.visualizations import draw_overlay
from pointrend_seg.structures.panoptic_png import decode_ids
from small_configs import PANOPTIC, small_instance_cfg
from videos import write_video

HEIGHT, WIDTH = 60, 90
NAME = "panoptic_prediction_test"
# Things 0 and 1, then stuff 1 and 2 of the semantic branch; the ids are those of the file.
CLASSES = Classes(("cell", "débris", "sky", "road"), palette(4), (7, 300, 2, 90), num_things=2)
INFO = [
    {"id": 1, "isthing": True, "score": 0.75, "category_id": 1, "instance_id": 0},
    {"id": 2, "isthing": False, "category_id": 1, "area": 2400},
    {"id": 3, "isthing": True, "score": 0.625, "category_id": 0, "instance_id": 1},
]


def segments():
    """Segment 1, 2 and 3 from left to right, and 10 columns of nothing."""
    ids = np.zeros((HEIGHT, WIDTH), np.int32)
    ids[:, :20], ids[:, 20:60], ids[:, 60:80] = 1, 2, 3
    return ids


def image():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def prediction():
    output = {
        "panoptic_seg": (torch.from_numpy(segments()), INFO),
        "sem_seg": torch.zeros(3, HEIGHT, WIDTH),
        "instances": None,
    }
    return Prediction(output, image=image(), classes=CLASSES)


def test_segments_are_the_shapes():
    found = prediction()
    assert found.is_panoptic and not found.is_semantic
    assert found.class_names == ["débris", "sky", "cell"]
    assert [shape.category_id for shape in found.shapes] == [300, 2, 7]
    assert [shape.score for shape in found.shapes] == [0.75, None, 0.625]
    assert [shape.box for shape in found.shapes] == [
        (0, 0, 20, 60),
        (20, 0, 60, 60),
        (60, 0, 80, 60),
    ]
    assert np.array_equal(found.label_image(), segments())
    annotations = found.to_coco()
    assert [each["area"] for each in annotations] == [1200, 2400, 1200]
    assert "score" not in annotations[1]
    assert len(found.polygons()) == 3
    with pytest.raises(InputError, match="for objects use label_image"):
        _ = found.class_map


def test_supervision():
    pytest.importorskip("supervision")
    found = prediction().to_supervision()
    assert np.array_equal(found.mask[1], segments() == 2)
    np.testing.assert_array_equal(found.confidence, np.float32([0.75, np.nan, 0.625]))


def test_pictures_have_the_colours_of_the_classes(tmp_path):
    found = prediction()
    drawn = found.plot(names=False)
    expected = 0.4 * found.image[30, 10] + 0.6 * CLASSES.colors[1]
    np.testing.assert_allclose(drawn[30, 10], expected, atol=1)
    expected = 0.4 * found.image[30, 40] + 0.6 * CLASSES.colors[2]
    np.testing.assert_allclose(drawn[30, 40], expected, atol=1)
    assert np.array_equal(drawn[:, 82:], found.image[:, 82:])  # no segment
    assert (drawn[:, 20] == 255).all()  # an outline between the segments
    assert (found.plot() != drawn).any()  # names
    found.save(tmp_path / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), found.plot())


def test_a_large_picture_is_drawn_smaller():
    large = np.zeros((60, 8200, 3), np.uint8)
    ids = np.ones((60, 8200), np.int32)
    drawn = draw_overlay(large, {"segments": ids, "segments_info": INFO[:1]}, CLASSES, names=False)
    assert drawn.shape == (20, 2733, 3)
    assert (drawn[10, 1000] == (0.6 * CLASSES.colors[1]).round()).all()


def test_segment_ids_of_any_size_and_nothing_at_all():
    ids = np.full((40, 60), 2**24 - 1, np.int32)
    ids[:20] = 70000
    black = np.zeros((40, 60, 3), np.uint8)
    drawn = draw_segments(black, ids, [2**24 - 1], [3], CLASSES, names=False)
    assert (drawn[:19] == 0).all() and (drawn[30, 30] == (0.6 * CLASSES.colors[3]).round()).all()
    assert (draw_segments(black, ids, [], [], CLASSES) == 0).all()


# --- classes ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def metadata():
    found = MetadataCatalog.get(NAME)
    found.set(
        thing_classes=["cell", "débris"],
        stuff_classes=["things", "sky", "road"],
        thing_colors=[[1, 1, 1], [2, 2, 2]],
        stuff_colors=[[9, 9, 9], [3, 3, 3], [4, 4, 4]],
        thing_dataset_id_to_contiguous_id={7: 0, 300: 1},
        stuff_dataset_id_to_contiguous_id={0: 0, 2: 1, 90: 2},
    )
    yield found
    MetadataCatalog.remove(NAME)


def test_the_classes_of_a_data_set(metadata):
    cfg = small_instance_cfg(2, (*PANOPTIC, "DATASETS.TEST", (NAME,)))
    found = known_panoptic_classes(cfg, num_things=2, num_semantic=3)
    assert (found.names, found.ids) == (CLASSES.names, CLASSES.ids) and found.num_things == 2
    assert found.colors[:, 0].tolist() == [1, 2, 3, 4]
    coco = known_panoptic_classes(cfg, "coco_2017_val_panoptic", num_things=1, num_semantic=2)
    assert len(coco) == 133 and coco.num_things == 80
    first_stuff = (coco.names[80], coco.ids[80], coco.colors[80].tolist())
    assert first_stuff == ("banner", 92, [255, 255, 128])
    other = known_panoptic_classes(cfg, num_things=1, num_semantic=3)  # a model of other classes
    assert other.names == ("thing 0", "stuff 1", "stuff 2") and other.ids == (0, 1, 2)
    assert known_panoptic_classes(cfg, NAME, num_things=1, num_semantic=3).names == CLASSES.names


# --- the tool --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory, metadata):
    """A config, and weights of a random model whose segments are kept whatever they score."""
    root = tmp_path_factory.mktemp("panoptic")
    combine = "MODEL.PANOPTIC_FPN.COMBINE"
    opts = (
        *PANOPTIC,
        *("INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 128),
        *("DATASETS.TEST", (NAME,), "DATASETS.TRAIN", ()),
        *(f"{combine}.INSTANCES_CONFIDENCE_THRESH", 0.0, f"{combine}.STUFF_AREA_LIMIT", 1),
        *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 4),
    )
    cfg = small_instance_cfg(2, opts)
    torch.manual_seed(1)
    torch.save({"model": Trainer.build_model(cfg).state_dict()}, root / "model.pth")
    (root / "config.yaml").write_text(cfg.dump())
    return root


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        Image.fromarray(image()).save(tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.fixture
def predict(run_in_process, model, images, tmp_path):
    def run(*args, source=images):
        files = ("--config-file", model / "config.yaml", "--weights", model / "model.pth")
        output = ("--output", tmp_path / "out", "--confidence", "0", "MODEL.DEVICE", "cpu")
        return run_in_process("predict", *files, "--input", source, *args, *output)

    return run


def test_the_files_are_cocos_panoptic_format(predict, model, tmp_path):
    status, out, _ = predict()
    folder = tmp_path / "out"
    assert status == 0 and f"segments of all images: {folder / 'panoptic.json'}" in out
    content = json.loads((folder / "panoptic.json").read_text())
    assert content["categories"] == [
        {"id": number, "name": name, "isthing": int(k < 2), "color": [k + 1] * 3}
        for k, (number, name) in enumerate(zip(CLASSES.ids, CLASSES.names, strict=True))
    ]
    assert [each["file_name"] for each in content["images"]] == ["a.png", "sub/b.png"]
    predictor = Predictor(model / "config.yaml", model / "model.pth", confidence=0.0)
    found = predictor(image()[:, :, ::-1])
    expected, info = found["panoptic_seg"]
    again = combine_semantic_and_instance_outputs(
        found["instances"], found["sem_seg"].argmax(0), 0.5, 1, 0.0
    )
    assert torch.equal(expected, again[0]) and info == again[1]  # as Detectron2's
    assert any(each["isthing"] for each in info) and not all(each["isthing"] for each in info)
    for annotation in content["annotations"]:
        ids = decode_ids(np.asarray(Image.open(folder / "panoptic" / annotation["file_name"])))
        assert np.array_equal(ids, expected.numpy())
        written = annotation["segments_info"]
        assert [each["id"] for each in written] == [each["id"] for each in info]
        for each, source in zip(written, info, strict=True):
            stuff = (None, 2, 90)[source["category_id"]] if not source["isthing"] else None
            assert each["category_id"] == (stuff or (7, 300)[source["category_id"]])
            assert each["isthing"] == int(source["isthing"])
            assert each["area"] == (ids == each["id"]).sum()
            rows, columns = np.nonzero(ids == each["id"])
            x, y, width, height = each["bbox"]
            assert (x, y) == (columns.min(), rows.min())
            assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
            assert each.get("score") == source.get("score")


def test_a_run_is_continued(predict, tmp_path):
    assert predict()[0] == 0
    first = (tmp_path / "out" / "panoptic.json").read_text()
    (tmp_path / "out" / "panoptic" / "a.json").unlink()
    status, out, _ = predict("--skip-existing")
    assert status == 0 and "1 predicted, 1 were there already" in out
    assert (tmp_path / "out" / "panoptic.json").read_text() == first


def test_every_export(predict, tmp_path):
    status, out, _ = predict("--no-pictures", "--export", *EXPORTS)
    assert status == 0 and out.count("exported: ") == len(EXPORTS)
    ids = decode_ids(np.asarray(Image.open(tmp_path / "out" / "panoptic" / "a.png")))
    labels = np.asarray(Image.open(tmp_path / "out" / "instances" / "a.png"))
    assert np.array_equal(labels, ids)  # the segments are numbered in their order


def test_a_video(predict, tmp_path):
    assert predict(source=write_video(tmp_path / "clip.mp4"))[0] == 0
    content = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [each["file_name"] for each in content["annotations"]] == [
        "clip/000000.png",
        "clip/000001.png",
        "clip/000002.png",
    ]


@pytest.mark.parametrize("option", ["--points", "--steps", "--compare"])
def test_steps_are_not_drawn(predict, option):
    status, _, err = predict(option)
    assert status == 2 and "Leave out --points, --steps and --compare." in err


def test_tiles(predict, model):
    status, _, err = predict("--tile", "64", "--overlap", "8")
    assert status == 2 and "TEST.TILES.SIZE (--tile) is 64, but panoptic models see" in err
    predictor = Predictor(
        model / "config.yaml", model / "model.pth", scale=1.0
    )  # 2048 x 2052 pixels are seen in tiles
    with pytest.raises(InputError, match=r"is 2052 x 2048 pixels .*panoptic models do not see"):
        predictor(np.zeros((2048, 2052, 3), np.uint8))


def test_masks_of_a_size_of_their_own(model):
    predictor = Predictor(
        model / "config.yaml", model / "model.pth", mask_resolution="box", confidence=0.0
    )
    found = predictor(image()[:, :, ::-1])
    assert any(info["isthing"] for info in found["panoptic_seg"][1])
    assert found.plot().shape == (HEIGHT, WIDTH, 3)


def test_another_models_panoptic_output_is_left_alone():
    """Without the classes of a panoptic data set the instances are the result."""
    instances = torch.zeros(1)
    assert to_cpu({"panoptic_seg": None, "instances": instances})["instances"] is not None
