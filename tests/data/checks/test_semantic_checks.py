import importlib.metadata
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_sem_seg
from detectron2.data.datasets.cityscapes import load_cityscapes_semantic

from cityscapes_tree import save, write_cityscapes_tree
from pointrend_seg.data import dataset_files
from pointrend_seg.data.checks.semantic import check_sem_seg_dataset
from pointrend_seg.errors import InputError

CLASSES = [f"class {i}" for i in range(19)]
STEM = "aa_000000_000001"


@pytest.fixture
def register():
    names = []

    def add(load, name="checked_set", **metadata):
        DatasetCatalog.register(name, load)
        MetadataCatalog.get(name).set(**metadata)
        names.append(name)
        return name

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def cityscapes(tmp_path, register):
    """Returns (the folder, the data set's name)."""
    root = write_cityscapes_tree(tmp_path, splits=("train",))
    image_dir, gt_dir = str(root / "leftImg8bit/train/"), str(root / "gtFine/train/")
    name = register(
        lambda: load_cityscapes_semantic(image_dir, gt_dir),
        image_dir=image_dir,
        gt_dir=gt_dir,
        evaluator_type="cityscapes_sem_seg",
        stuff_classes=CLASSES,
        ignore_label=255,
    )
    return root, name


@pytest.fixture
def folder_pair(tmp_path, register):
    """Returns (the folder with images/ and labels/, the data set's name)."""
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.mkdir()
    labels.mkdir()
    for i in range(4):
        save(images / f"{i}.jpg", np.zeros((8, 8, 3), np.uint8))
        save(labels / f"{i}.png", np.zeros((8, 8), np.uint8))
    name = register(
        lambda: load_sem_seg(str(labels), str(images)),
        image_root=str(images),
        sem_seg_root=str(labels),
        evaluator_type="sem_seg",
        ignore_label=255,
    )
    return tmp_path, name


def message(name, num_classes=19, ignore_value=255):
    with pytest.raises(InputError) as caught:
        check_sem_seg_dataset(name, num_classes, ignore_value)
    return str(caught.value)


def test_whole_cityscapes_passes(cityscapes):
    check_sem_seg_dataset(cityscapes[1], 19, 255)


def test_whole_folder_pair_passes(folder_pair):
    check_sem_seg_dataset(folder_pair[1], 5, 255)


def test_unknown_name(monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", "/data/sets")
    text = message("cityscapes_fine_semseg_train")
    assert "There is no data set 'cityscapes_fine_semseg_train'" in text
    assert "cityscapes_fine_sem_seg_train" in text.split("Did you mean ")[1]
    assert "DatasetCatalog.register" in text
    assert "is /data/sets" in text
    monkeypatch.delenv("DETECTRON2_DATASETS")
    assert f"is not set, so that their root is {os.path.abspath('datasets')}" in message("nothing")


def test_missing_root(cityscapes):
    root, name = cityscapes
    shutil.rmtree(root)
    text = message(name)
    assert f"The data set {name} is not there: the folder {root}/leftImg8bit/train does" in text
    assert "DETECTRON2_DATASETS" in text


@pytest.mark.parametrize("folder", ["leftImg8bit", "gtFine"])
def test_empty_folder(cityscapes, folder):
    root, name = cityscapes
    shutil.rmtree(root / folder / "train")
    (root / folder / "train").mkdir()
    assert f"{root}/{folder}/train is empty" in message(name)


def test_cities_without_images(cityscapes):
    root, name = cityscapes
    for city in ("aa", "bb"):
        (root / f"leftImg8bit/train/{city}/{city}_000000_000001_leftImg8bit.png").unlink()
    assert "no images in" in message(name)


def test_missing_image(cityscapes):
    root, name = cityscapes
    image = root / f"leftImg8bit/train/aa/{STEM}_leftImg8bit.png"
    image.unlink()
    assert f"1 of 2 images are missing: {image}. Complete the copy." in message(name)


def test_missing_city_of_images(cityscapes):
    root, name = cityscapes
    shutil.rmtree(root / "leftImg8bit/train/bb")
    assert "1 of 2 images are missing" in message(name)


@pytest.mark.parametrize("suffix", ["labelIds.png", "instanceIds.png", "polygons.json"])
def test_missing_labels(cityscapes, suffix):
    root, name = cityscapes
    path = root / f"gtFine/train/aa/{STEM}_gtFine_{suffix}"
    path.unlink()
    assert f"1 of 2 {suffix} files are missing: {path}. Complete the copy." in message(name)


def test_missing_train_ids_name_the_command(cityscapes):
    root, name = cityscapes
    for path in root.glob("gtFine/*/*/*_labelTrainIds.png"):
        path.unlink()
    text = message(name)
    assert "2 of 2 labelTrainIds.png files are missing" in text
    assert f"CITYSCAPES_DATASET={root} csCreateTrainIdLabelImgs" in text
    assert 'pip install "pointrend-seg[cityscapes]"' in text


def test_the_command_named_is_one_of_cityscapesscripts():
    pytest.importorskip("cityscapesscripts")
    scripts = importlib.metadata.distribution("cityscapesscripts").entry_points
    assert "csCreateTrainIdLabelImgs" in {script.name for script in scripts}


def test_the_command_named_writes_what_was_missing(cityscapes, monkeypatch):
    preparation = pytest.importorskip("cityscapesscripts.preparation.createTrainIdLabelImgs")
    root, name = cityscapes
    for path in root.glob("gtFine/*/*/*_labelTrainIds.png"):
        path.unlink()
    monkeypatch.setenv("CITYSCAPES_DATASET", str(root))
    preparation.main()
    check_sem_seg_dataset(name, 19, 255)


def test_stray_files(cityscapes):
    root, name = cityscapes
    stray = root / "leftImg8bit/train/aa/Thumbs.db"
    stray.write_text("x")
    assert f"{stray} is not an image of Cityscapes" in message(name)
    stray.unlink()
    stray = root / "leftImg8bit/train/.DS_Store"
    stray.write_text("x")
    assert f"{stray} is a file where only folders" in message(name)


def test_files_of_zero_bytes(cityscapes):
    root, name = cityscapes
    path = root / f"gtFine/train/aa/{STEM}_gtFine_labelTrainIds.png"
    path.write_bytes(b"")
    text = message(name)
    assert "files of zero bytes" in text
    assert str(path) in text


def test_polygons_of_zero_bytes(cityscapes):
    """Evaluation reads them."""
    root, name = cityscapes
    path = root / f"gtFine/train/aa/{STEM}_gtFine_polygons.json"
    path.write_bytes(b"")
    assert str(path) in message(name)


def test_label_without_image(folder_pair):
    root, name = folder_pair
    for i in range(1, 3):
        (root / f"images/{i}.jpg").unlink()
    text = message(name)
    assert "2 of 4 labels" in text
    assert "have no image" in text
    assert ": 1, 2. Complete the copy" in text


def test_images_without_label_are_told_of(folder_pair, caplog):
    root, name = folder_pair
    (root / "labels/1.png").unlink()
    with caplog.at_level(logging.WARNING):
        check_sem_seg_dataset(name, 5, 255)
    assert "1 of 4 images" in caplog.text


def test_folder_pair_of_zero_bytes(folder_pair):
    root, name = folder_pair
    (root / "images/2.jpg").write_bytes(b"")
    assert str(root / "images/2.jpg") in message(name)


def test_missing_folder_of_a_pair(folder_pair):
    root, name = folder_pair
    shutil.rmtree(root / "labels")
    assert f"the folder {root}/labels does not exist" in message(name)


def test_folders_of_sub_folders_are_left_to_the_loader(tmp_path, register):
    for kind in ("images", "labels"):
        (tmp_path / kind / "sub").mkdir(parents=True)
        save(tmp_path / kind / "sub/a.png", np.zeros((4, 4), np.uint8))
    record = {
        "file_name": str(tmp_path / "images/sub/a.png"),
        "sem_seg_file_name": str(tmp_path / "labels/sub/a.png"),
    }
    roots = {"image_root": str(tmp_path / "images"), "sem_seg_root": str(tmp_path / "labels")}
    name = register(lambda: [record], **roots)
    check_sem_seg_dataset(name, 5, 255)
    os.remove(record["sem_seg_file_name"])
    assert "1 of 1 label files are missing" in message(name)


def test_missing_files_are_counted_and_three_are_named(tmp_path, register):
    save(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    path = str(tmp_path / "a.png")
    records = [{"file_name": path, "sem_seg_file_name": path}]
    for i in range(5):
        records.append({"file_name": path, "sem_seg_file_name": str(tmp_path / f"b{i}.png")})
    text = message(register(lambda: records))
    assert "5 of 6 label files are missing" in text
    assert f"{tmp_path}/b2.png, ..." in text
    assert "b3.png" not in text


def fail_with(error):
    def load():
        raise error

    return load


@pytest.mark.parametrize(
    "error",
    [AssertionError("nothing in x"), FileNotFoundError("x.json"), ImportError("no deeplearning")],
)
def test_loader_errors_are_wrapped(register, error):
    text = message(register(fail_with(error)))
    assert f"checked_set cannot be loaded: {type(error).__name__}: {error}." in text
    assert "DETECTRON2_DATASETS" in text


def test_loader_that_finds_nothing(register):
    assert "checked_set has no images" in message(register(list))


def test_instance_data_set(register):
    text = message(register(lambda: [{"file_name": "a.png", "annotations": []}]))
    assert "has no semantic labels" in text


def test_files_behind_a_url_are_not_looked_for(register):
    record = {"file_name": "s3://x/a.png", "sem_seg_file_name": "s3://x/b.png"}
    check_sem_seg_dataset(register(lambda: [record]), 5, 255)


def test_class_count(cityscapes):
    text = message(cityscapes[1], num_classes=54)
    assert "MODEL.SEM_SEG_HEAD.NUM_CLASSES is 54, but the data set checked_set has 19" in text
    assert "(class 0, class 1, class 2, ...)" in text
    assert "Set MODEL.SEM_SEG_HEAD.NUM_CLASSES 19" in text


@pytest.mark.parametrize("names", [["crack"], ["background", "crack"]])
def test_binary_class_names(folder_pair, names):
    MetadataCatalog.get(folder_pair[1]).set(stuff_classes=names)
    check_sem_seg_dataset(folder_pair[1], 1, 255)


@pytest.mark.parametrize(("num_classes", "names"), [(2, 1), (3, 2), (1, 3)])
def test_binary_exception_is_for_binary_models_alone(folder_pair, num_classes, names):
    MetadataCatalog.get(folder_pair[1]).set(stuff_classes=CLASSES[:names])
    text = message(folder_pair[1], num_classes)
    assert f"NUM_CLASSES is {num_classes}, but the data set checked_set has {names} " in text


def test_ignore_value(cityscapes):
    text = message(cityscapes[1], ignore_value=0)
    assert "IGNORE_VALUE is 0, but the data set checked_set marks ignored pixels with 255" in text


def test_masks_of_0_and_255_are_told_of(folder_pair, caplog):
    root, name = folder_pair
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5] = 255
    for i in range(4):
        save(root / f"labels/{i}.png", mask)
    check_sem_seg_dataset(name, 1, 255)
    assert "nothing is foreground" in caplog.text
    caplog.clear()
    mask[6] = 1
    save(root / "labels/3.png", mask)
    check_sem_seg_dataset(name, 1, 255)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("num_classes", "ignore_value", "levels", "told"),
    [
        (1, 255, (0, 255), True),
        (2, 255, (0, 255), True),
        (2, 255, (255, 255), True),
        (3, 255, (0, 255), False),
        (1, 7, (0, 255), False),  # another check's matter
        (1, 255, (0, 0), False),
        (1, 255, (1, 255), False),
    ],
)
def test_which_masks_are_told_of(folder_pair, caplog, num_classes, ignore_value, levels, told):
    root, name = folder_pair
    MetadataCatalog.pop(name)
    MetadataCatalog.get(name).set(image_root=f"{root}/images", sem_seg_root=f"{root}/labels")
    for i in range(4):
        save(root / f"labels/{i}.png", np.resize(np.array(levels, np.uint8), (8, 8)))
    check_sem_seg_dataset(name, num_classes, ignore_value)
    assert ("nothing is foreground" in caplog.text) is told


@pytest.fixture
def loaded(tmp_path, register):
    """Records that only a loader knows, all whole, and the name of their data set."""
    records = []
    for k in range(2):
        files = {"file_name": tmp_path / f"{k}.png", "sem_seg_file_name": tmp_path / f"{k}_l.png"}
        for file in files.values():
            save(file, np.zeros((8, 8), np.uint8))
        records.append({key: str(file) for key, file in files.items()})
    return records, register(lambda: records)


@pytest.mark.parametrize("kind", ["file_name", "sem_seg_file_name"])
def test_loaded_files_are_there_and_not_empty(loaded, kind):
    records, name = loaded
    check_sem_seg_dataset(name, 5, 255)
    Path(records[1][kind]).write_bytes(b"")
    assert Path(records[1][kind]).name in message(name)
    Path(records[1][kind]).unlink()
    what = "images" if kind == "file_name" else "label files"
    assert f"1 of 2 {what} are missing: {records[1][kind]}" in message(name)


@pytest.mark.parametrize("root", ["image_root", "sem_seg_root"])
def test_one_root_alone_is_no_pair_of_folders(loaded, root):
    records, name = loaded
    MetadataCatalog.get(name).set(**{root: "gone"})
    check_sem_seg_dataset(name, 5, 255)


def test_large_sets_are_listed_not_looked_at_file_by_file(folder_pair, monkeypatch):
    calls = []
    monkeypatch.setattr(dataset_files, "MOST_SIZES", 3)
    monkeypatch.setattr(dataset_files.os.path, "getsize", lambda path: calls.append(path) or 1)
    check_sem_seg_dataset(folder_pair[1], 5, 255)
    assert len(calls) == 3
