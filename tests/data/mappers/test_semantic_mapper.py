# ruff: noqa: NPY002  (Detectron2 seeds NumPy's global state)
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper
from detectron2.projects.point_rend import add_pointrend_config
from PIL import Image

from pointrend_seg.data.labels import label_value_problem
from pointrend_seg.data.mappers.semantic import SemanticMapper
from pointrend_seg.errors import InputError

HEIGHT, WIDTH = 40, 60


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_pointrend_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN = (24, 32, 48)
    cfg.INPUT.MIN_SIZE_TEST = 32
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 5
    return cfg


@pytest.fixture
def record(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, (HEIGHT, WIDTH), dtype=np.uint8)
    labels[3] = 255
    save(tmp_path / "a.png", rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    save(tmp_path / "a_label.png", labels)
    return {
        "file_name": str(tmp_path / "a.png"),
        "sem_seg_file_name": str(tmp_path / "a_label.png"),
        "height": HEIGHT,
        "width": WIDTH,
        "image_id": "a",
    }


def save(path, array):
    Image.fromarray(array).save(path)


def write_labels(record, array):
    save(record["sem_seg_file_name"], array)


def message(cfg, record, is_train=True):
    with pytest.raises(InputError) as caught:
        SemanticMapper(cfg, is_train)(record)
    return str(caught.value)


@pytest.mark.parametrize("is_train", [True, False])
def test_same_as_detectron2s_mapper(cfg, record, is_train):
    for seed in range(4):
        np.random.seed(seed)
        expected = DatasetMapper(cfg, is_train=is_train)(record)
        np.random.seed(seed)
        ours = SemanticMapper(cfg, is_train)(record)
        assert ours["image"].dtype == expected["image"].dtype
        assert torch.equal(ours["image"], expected["image"])
        if is_train:
            assert ours["sem_seg"].dtype == torch.int64
            assert torch.equal(ours["sem_seg"], expected["sem_seg"])
        for key in ("file_name", "height", "width", "image_id"):
            assert ours[key] == expected[key]


def test_the_data_set_dict_stays_as_it_is(cfg, record):
    record["annotations"] = [{"bbox": [0, 0, 1, 1]}]
    before = dict(record)
    result = SemanticMapper(cfg, True)(record)
    assert record == before
    assert "annotations" not in result
    assert "sem_seg_file_name" not in result


def test_height_and_width_are_filled_in(cfg, record):
    del record["height"], record["width"]
    result = SemanticMapper(cfg, False)(record)
    assert (result["height"], result["width"]) == (HEIGHT, WIDTH)


def test_evaluation_reads_no_labels(cfg, record):
    record["sem_seg_file_name"] = "/nowhere.png"
    assert "sem_seg" not in SemanticMapper(cfg, False)(record)


def test_palette_labels_are_read_as_indices(cfg, record):
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (HEIGHT,), "none"
    labels = np.random.default_rng(1).integers(0, 5, (HEIGHT, WIDTH), dtype=np.uint8)
    picture = Image.fromarray(labels).convert("P")
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 80, 80, 80])
    picture.putdata(labels.ravel().tolist())
    picture.save(record["sem_seg_file_name"])
    assert (SemanticMapper(cfg, True)(record)["sem_seg"].numpy() == labels).all()


def test_labels_of_16_bits(cfg, record):
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (HEIGHT // 2,), "none"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = 900, 65535
    labels = np.full((HEIGHT, WIDTH), 899, np.uint16)
    labels[:, :20] = 65535
    write_labels(record, labels)
    found = SemanticMapper(cfg, True)(record)["sem_seg"]
    assert found[:, :10].unique().tolist() == [65535]
    assert found[:, 10:].unique().tolist() == [899]


@pytest.mark.parametrize("highest", [254, 256])
def test_no_label_is_cut_to_8_bits(cfg, record, highest):
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 300
    labels = np.full((40, 60), highest, np.uint16)
    write_labels(record, labels)
    assert SemanticMapper(cfg, is_train=True)(record)["sem_seg"].unique().tolist() == [highest]


def test_missing_files(cfg, record):
    for key, what in (("file_name", "image"), ("sem_seg_file_name", "label file")):
        text = message(cfg, record | {key: "/nowhere/x.png"})
        assert f"The {what} /nowhere/x.png does not exist" in text
        assert "DETECTRON2_DATASETS" in text


@pytest.mark.parametrize("content", ["empty", "text", "truncated"])
@pytest.mark.parametrize("key", ["file_name", "sem_seg_file_name"])
def test_unreadable_files(cfg, record, content, key):
    with open(record[key], "rb") as file:
        whole = file.read()
    broken = {"empty": b"", "text": b"no image", "truncated": whole[: len(whole) // 2]}[content]
    with open(record[key], "wb") as file:
        file.write(broken)
    text = message(cfg, record)
    assert f"{record[key]} cannot be read" in text
    formats = "PNG or JPEG" if key == "file_name" else "PNG"
    assert f"The file could not be decoded; export it again as {formats}." in text


def test_truncated_jpeg(cfg, record, tmp_path):
    path = str(tmp_path / "a.jpg")
    Image.open(record["file_name"]).save(path)
    with open(path, "rb") as file:
        whole = file.read()
    with open(path, "wb") as file:
        file.write(whole[: len(whole) // 2])
    assert f"{path} cannot be read" in message(cfg, record | {"file_name": path})


def test_image_of_another_size_than_the_data_set_says(cfg, record):
    text = message(cfg, record | {"width": 61}, is_train=False)
    assert (
        f"{record['file_name']} is 60 x 40 (width x height), but the data set says 61 x 40" in text
    )


def test_labels_of_another_size_than_the_image(cfg, record):
    write_labels(record, np.zeros((WIDTH, HEIGHT), np.uint8))
    text = message(cfg, record)
    assert "Image and labels differ in size" in text
    assert f"{record['file_name']} is 60 x 40" in text
    assert f"{record['sem_seg_file_name']} is 40 x 60" in text


def test_colour_coded_labels(cfg, record):
    write_labels(record, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    text = message(cfg, record)
    assert f"{record['sem_seg_file_name']} has 3 channels: it looks colour-coded" in text
    assert "labelTrainIds" in text


def test_no_labels_in_the_data_set(cfg, record):
    del record["sem_seg_file_name"]
    text = message(cfg, record)
    assert f"no labels for {record['file_name']}" in text
    assert "'sem_seg_file_name'" in text


def test_bad_label_is_found_before_augmentation_can_lose_it(cfg, record):
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[0, 0] = 77
    write_labels(record, labels)
    cfg.INPUT.MIN_SIZE_TRAIN = (8,)
    text = message(cfg, record)
    assert f"{record['sem_seg_file_name']} has value 77" in text
    assert "labels must be 0 to 4 (MODEL.SEM_SEG_HEAD.NUM_CLASSES is 5) or 255" in text


@pytest.mark.parametrize(
    ("values", "file", "num_classes", "ignore", "hint"),
    [
        ([7, 26, 33], "x_gtFine_labelIds.png", 19, 255, "use the _labelTrainIds.png files"),
        ([7, 26001], "x_gtFine_instanceIds.png", 19, 255, "csCreateTrainIdLabelImgs"),
        ([0, 255], "mask.png", 1, 254, "write the foreground as 1"),
        ([0, 255], "mask.png", 2, 254, "write the foreground as 1"),
        ([0, 255], "x.png", 5, 0, "set MODEL.SEM_SEG_HEAD.IGNORE_VALUE to 255"),
        ([1, 5], "x.png", 5, 255, "subtract 1 from the labels if they count from 1"),
        ([1, 2], "x.png", 1, 255, "set NUM_CLASSES to 3"),
        ([0, 9, 12], "x.png", 5, 255, "set these two keys to what the data set has"),
        ([-1, 0], "x.png", 5, 255, "x.png has value -1,"),
    ],
)
def test_hints_for_bad_labels(values, file, num_classes, ignore, hint):
    assert hint in str(label_value_problem(np.array([values], np.int32), file, num_classes, ignore))


def test_many_bad_values_are_shortened():
    problem = label_value_problem(np.arange(30, dtype=np.uint8)[None], "x.png", 5, 255)
    assert "values 5, 6, 7, 8, 9, 10, 11, 12, ..., but" in str(problem)


@pytest.mark.parametrize(
    ("labels", "num_classes", "ignore"),
    [
        (np.array([[0, 4, 255]], np.uint8), 5, 255),
        (np.array([[0, 1]], bool), 1, 255),
        (np.array([[0, 1, 255]], np.uint8), 1, 255),
        (np.array([[-1, 3]], np.int32), 5, -1),
        (np.array([[255, 255]], np.uint8), 5, 255),
    ],
)
def test_good_labels_pass(labels, num_classes, ignore):
    assert label_value_problem(labels, "x.png", num_classes, ignore) is None
