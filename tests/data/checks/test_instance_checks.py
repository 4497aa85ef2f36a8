import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from cityscapes_tree import write_cityscapes_tree
from pointrend_seg.data.checks import instance as instance_checks
from pointrend_seg.data.checks.instance import check_instance_dataset
from pointrend_seg.errors import InputError

HEIGHT, WIDTH = 20, 30
SQUARE = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
LINE = [2.0, 2.0, 9.0, 9.0]


@pytest.fixture
def folder(tmp_path):
    for k in (7, 8):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"{k}.png")
    return tmp_path


@pytest.fixture
def register():
    """Registers and forgets data sets."""
    names = []

    def add(name, load):
        DatasetCatalog.register(name, load)
        names.append(name)

    yield add
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def message(name, num_classes=2, mask_on=True, **options):
    with pytest.raises(InputError) as caught:
        check_instance_dataset(name, num_classes, mask_on, **options)
    return str(caught.value)


def test_near_names_and_how_to_register():
    text = message("coco_2017_trian")
    assert "There is no data set 'coco_2017_trian'" in text
    assert "coco_2017_train" in text.split("Did you mean ")[1]
    assert "register_coco_instances(name, {}, json_file, image_folder)" in text


@pytest.fixture
def cityscapes(tmp_path, register):
    """Returns (the folder, the data set's name)."""
    root = write_cityscapes_tree(tmp_path, splits=("train",))
    name, metadata = "checked_cityscapes", MetadataCatalog.get("cityscapes_fine_instance_seg_val")
    register(name, lambda: pytest.fail("the folders are enough"))
    MetadataCatalog.get(name).set(
        image_dir=f"{root}/leftImg8bit/train/",
        gt_dir=f"{root}/gtFine/train/",
        evaluator_type="cityscapes_instance",
        thing_classes=metadata.thing_classes,
    )
    return root, name


def test_cityscapes(cityscapes, monkeypatch):
    prepared = []
    prepare = lambda *, instances: prepared.append(instances)  # noqa: E731
    monkeypatch.setattr(instance_checks, "ensure_cityscapes_importable", prepare)
    root, name = cityscapes
    for file in root.glob("gtFine/*/*/*_labelTrainIds.png"):
        file.unlink()  # instances do not need them
    check_instance_dataset(name, 8, True)
    assert prepared == [True]
    assert "has 8 classes (person, rider, car, ...)" in message(name, num_classes=80)
    for suffix in ("labelIds.png", "instanceIds.png", "polygons.json"):
        (root / f"gtFine/train/aa/aa_000000_000001_gtFine_{suffix}").unlink()
        assert f"1 of 2 {suffix} files are missing" in message(name, num_classes=8)


@pytest.mark.parametrize("suffix", ["instanceIds.png", "polygons.json"])
def test_cityscapes_files_of_zero_bytes(cityscapes, suffix):
    root, name = cityscapes
    path = root / f"gtFine/train/aa/aa_000000_000001_gtFine_{suffix}"
    path.write_bytes(b"")
    assert f"files of zero bytes, 1 or more: {path}" in message(name, num_classes=8)


@pytest.fixture
def dicts(folder, register):
    """Returns the dicts of a registered data set, to be changed."""
    records = [
        {
            "file_name": str(folder / f"{k}.png"),
            "image_id": k,
            "height": HEIGHT,
            "width": WIDTH,
            "annotations": [
                {
                    "bbox": [2, 2, 12, 12],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": 0,
                    "segmentation": [SQUARE],
                }
            ],
        }
        for k in (7, 8)
    ]
    register("checked_dicts", lambda: records)
    return records


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"category_id": 2}, "has category_id 2, but classes are 0 to 1"),
        ({"segmentation": np.zeros((WIDTH, HEIGHT))}, "has an array of 20 x 30 (width x height)"),
        ({"segmentation": [LINE]}, "has a polygon of 4 coordinates"),
        ({"segmentation": None}, "has no 'segmentation'"),
        ({"bbox": None}, "has no 'bbox'"),
    ],
)
def test_dicts(changes, said, dicts):
    check_instance_dataset("checked_dicts", 2, True)
    dicts[1]["annotations"][0] |= changes
    text = message("checked_dicts")
    assert f"Annotation number 0 (from 0) of image (id 8) {dicts[1]['file_name']} has" in text
    assert said in text
    dicts[1]["annotations"][0]["iscrowd"] = 1
    assert said in message("checked_dicts")  # crowds matter to evaluation


@pytest.mark.parametrize(
    "metadata",
    [
        {"evaluator_type": "own", "json_file": "gone.json", "image_root": "gone"},
        {"evaluator_type": "coco", "json_file": "gone.json"},
        {"evaluator_type": "coco", "image_root": "gone"},
    ],
)
def test_dicts_whose_metadata_are_not_of_a_json(metadata, dicts):
    """A JSON is read where the evaluator reads it; what its images are called must be known."""
    MetadataCatalog.get("checked_dicts").set(**metadata)
    check_instance_dataset("checked_dicts", 2, True)
    dicts[1]["annotations"][0]["category_id"] = 2
    assert "has category_id 2" in message("checked_dicts")


@pytest.mark.parametrize("key", ["height", "width"])
def test_dicts_with_one_side_of_the_size(key, dicts):
    del dicts[0][key]
    check_instance_dataset("checked_dicts", 2, True)


def test_dicts_without_what_is_needed(dicts, folder):
    del dicts[0]["height"], dicts[0]["width"]
    check_instance_dataset("checked_dicts", 2, True)
    (folder / "8.png").unlink()
    assert "1 of 2 images are missing" in message("checked_dicts")
    dicts[1]["file_name"] = "s3://there/8.png"
    check_instance_dataset("checked_dicts", 2, True)
    for record in dicts:
        del record["annotations"]
    check_instance_dataset("checked_dicts", 2, True, is_train=False)
    assert "There is nothing to train on in the data set checked_dicts" in message("checked_dicts")
    del dicts[1]["file_name"]
    assert "has no 'file_name', only image_id, height, width" in message("checked_dicts")
