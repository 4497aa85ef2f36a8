"""The Cityscapes layout: Cityscapes readers and scripts read it."""

import hashlib
import json

import numpy as np
import pytest
from detectron2.data.datasets.cityscapes import load_cityscapes_instances, load_cityscapes_semantic
from PIL import Image, ImageDraw

from pointrend_seg.data.synthetic import cityscapes_layout
from pointrend_seg.data.synthetic.cityscapes_layout import (
    CITIES,
    CLASSES,
    CityscapesParameters,
    label_images,
    polygon_annotation,
    write_cityscapes,
)
from pointrend_seg.data.synthetic.rendering import render_labels
from pointrend_seg.data.synthetic.scenes import KINDS, generate_scene
from pointrend_seg.errors import InputError

SMALL = CityscapesParameters(num_train=4, num_val=2, height=128, width=256, seed=7)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    assert write_cityscapes(root, SMALL)
    return root / "cityscapes"


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    content = [(str(path.relative_to(root)), path.read_bytes()) for path in files]
    return hashlib.sha256(repr(content).encode()).hexdigest()


def test_the_same_parameters_give_the_same_bytes(tree, tmp_path):
    write_cityscapes(tmp_path, SMALL, workers=2)
    assert digest(tmp_path / "cityscapes") == digest(tree)


def test_ids_are_those_of_cityscapes():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels")
    assert set(CLASSES) == set(KINDS)
    for label in CLASSES.values():
        table = labels.name2label[label.name]
        assert (label.id, label.train_id) == (table.id, table.trainId)
        assert (label.color, label.has_instances) == (table.color, table.hasInstances)


def test_label_images_agree_with_each_other_and_the_scene():
    scene = generate_scene(3)
    kinds, objects = render_labels(scene)
    images = label_images(scene)
    by_id = {label.id: label for label in CLASSES.values()}
    for label_id in np.unique(images["labelIds"]):
        where = images["labelIds"] == label_id
        assert set(images["labelTrainIds"][where]) == {by_id[label_id].train_id}
        assert (images["color"][where] == by_id[label_id].color).all()
        instances = np.unique(images["instanceIds"][where])
        assert all(i == label_id or i // 1000 == label_id for i in instances)
    cars = images["instanceIds"][images["labelIds"] == 26]
    number_of_cars = len(np.unique(objects[kinds == KINDS.index("car")]))
    assert len(np.unique(cars)) == number_of_cars > 0 and cars.min() >= 26000


def test_polygons_painted_in_their_order_give_the_labels():
    """PIL also paints pixels whose centre is near an outline, so edges may differ."""
    scene = generate_scene(4)
    annotation = polygon_annotation(scene)
    ids = {label.name: label.id for label in CLASSES.values()}
    canvas = Image.new("L", (scene.width, scene.height), 0)
    draw = ImageDraw.Draw(canvas)
    for item in annotation["objects"]:
        points = [(x - 0.5, y - 0.5) for x, y in item["polygon"]]
        draw.polygon(points, fill=ids[item["label"].removesuffix("group")])
    want = label_images(scene)["labelIds"]
    same = np.asarray(canvas) == want
    edge = np.zeros_like(same)
    edge[:, 1:] |= want[:, 1:] != want[:, :-1]
    edge[:, :-1] |= edge[:, 1:]
    edge[1:] |= want[1:] != want[:-1]
    edge[:-1] |= edge[1:]
    assert same[~edge].mean() > 0.995 and same.mean() > 0.93


def test_polygons_lie_within_the_image():
    scene = generate_scene(5)
    for item in polygon_annotation(scene)["objects"]:
        x, y = np.array(item["polygon"]).T
        assert x.min() >= 0 and x.max() <= 512 and y.min() >= 0 and y.max() <= 256


def test_detectron2_loads_it(tree):
    records = load_cityscapes_semantic(str(tree / "leftImg8bit/train"), str(tree / "gtFine/train"))
    assert len(records) == 4
    assert {record["height"] for record in records} == {128}
    cities = {path.name for path in (tree / "leftImg8bit/train").iterdir()}
    assert cities == set(CITIES["train"]) and not cities & set(CITIES["val"])
    labels = np.asarray(Image.open(records[0]["sem_seg_file_name"]))
    assert labels.dtype == np.uint8 and set(np.unique(labels)) <= {*range(19), 255}


def test_detectron2_loads_its_instances(tree):
    pytest.importorskip("shapely")
    pytest.importorskip("cityscapesscripts")
    folders = str(tree / "leftImg8bit/val"), str(tree / "gtFine/val")
    for how in ({"from_json": True}, {"from_json": False, "to_polygons": False}):
        records = load_cityscapes_instances(*folders, **how)
        assert len(records) == 2 and any(record["annotations"] for record in records)


def test_existing_folders_are_not_overwritten(tree, tmp_path):
    before = digest(tree)
    assert not write_cityscapes(tree.parent, SMALL)
    other = CityscapesParameters(num_train=1, num_val=1)
    with pytest.raises(InputError, match="generated with other parameters.*nothing was written"):
        write_cityscapes(tree.parent, other)
    assert digest(tree) == before

    real = tmp_path / "cityscapes" / "leftImg8bit"
    real.mkdir(parents=True)
    (real / "precious.png").write_bytes(b"1")
    with pytest.raises(InputError, match="not synthetic data.*nothing was written"):
        write_cityscapes(tmp_path, SMALL)
    assert (real / "precious.png").read_bytes() == b"1"


def test_an_interrupted_tree_does_not_look_complete(tmp_path, monkeypatch):
    def stop_at_the_third(seed, *size):
        if seed[-1] == 2:
            raise KeyboardInterrupt
        return generate_scene(seed, *size)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cityscapes_layout, "generate_scene", stop_at_the_third)
        write_cityscapes(tmp_path, SMALL)
    assert (tmp_path / "cityscapes.unfinished").exists()
    assert not (tmp_path / "cityscapes").exists()
    assert write_cityscapes(tmp_path, SMALL)
    assert json.loads((tmp_path / "cityscapes" / "synthetic.json").read_text())["seed"] == 7
    assert not (tmp_path / "cityscapes.unfinished").exists()
