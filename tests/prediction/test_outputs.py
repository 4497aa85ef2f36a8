"""Files of predictions: label images, objects, and when an image is done."""

import json

import numpy as np
import pytest
import tifffile
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from pointrend_seg.data.classes import Classes, palette
from pointrend_seg.data.images.tiff import read_georeference
from pointrend_seg.errors import InputError
from pointrend_seg.prediction.outputs import OutputFolder, save_image, to_cpu
from pointrend_seg.prediction.visualizations import Visualizations, draw_overlay


def classes_with(*ids):
    return Classes(tuple(f"class {k}" for k in ids), palette(len(ids)), ids)


def semantic(folder, *ids, contiguous=False):
    return OutputFolder(folder, classes_with(*ids), semantic=True, contiguous=contiguous)


@pytest.mark.parametrize(
    ("ids", "dtype"),
    [
        ((0, 255), np.uint8),
        ((0, 256), np.uint16),
        ((7, 65535), np.uint16),
    ],
)
def test_values_of_label_images(tmp_path, ids, dtype):
    output = semantic(tmp_path / "new/folder", *ids)
    output.write("sub/a", "sub/a.jpg", {"classes": np.array([[0, 1, 1]])})
    path = tmp_path / "new/folder/labels/sub/a.png"
    assert output.result_path("sub/a") == path and not list(path.parent.glob("*.part"))
    written = np.asarray(Image.open(path))
    assert written.tolist() == [[ids[0], ids[1], ids[1]]]
    assert written.dtype == dtype or (dtype == np.uint16 and written.max() > 255)


@pytest.mark.parametrize("ids", [(0, 65536), (-1, 3)])
def test_values_that_do_not_fit_in_a_png(tmp_path, ids):
    with pytest.raises(InputError, match="do not fit into a PNG.*--label-ids contiguous"):
        semantic(tmp_path, *ids)
    output = semantic(tmp_path, *ids, contiguous=True)
    output.write("a", "a.jpg", {"classes": np.array([[0, 1]])})
    assert np.asarray(Image.open(output.result_path("a"))).tolist() == [[0, 1]]
    OutputFolder(tmp_path, classes_with(*ids), semantic=False, contiguous=False)


def instances():
    found = Instances((4, 6), pred_boxes=Boxes(torch.tensor([[-1.0, 1, 3, 9], [2, 0, 4, 2]])))
    found.scores, found.pred_classes = torch.tensor([0.9, 0.6]), torch.tensor([1, 0])
    return found


def test_objects_without_masks(tmp_path):
    output = OutputFolder(tmp_path, classes_with(-5, 70000), semantic=False, contiguous=False)
    output.write("b", "b.jpg", {"instances": instances()})
    output.write("a", "a.jpg", {"instances": instances()[:0]})
    assert output.result_path("b") == tmp_path / "objects/b.json"
    content = json.loads(output.write_summary().read_text())
    assert [(each["id"], each["file_name"]) for each in content["images"]] == [
        (1, "a.jpg"),
        (2, "b.jpg"),
    ]
    assert content["annotations"] == [
        {"id": 1, "image_id": 2, "category_id": 70000,
         "category_name": "class 70000", "bbox": [-1, 1, 4, 8],
         "score": pytest.approx(0.9)},
        {"id": 2, "image_id": 2, "category_id": -5,
         "category_name": "class -5", "bbox": [2, 0, 2, 2],
         "score": pytest.approx(0.6)},
    ]  # fmt: skip
    assert [each["id"] for each in content["categories"]] == [-5, 70000]


def test_boxes_are_drawn_without_masks():
    image = np.full((120, 160, 3), 90, np.uint8)
    found = Instances((120, 160), pred_boxes=Boxes(torch.tensor([[-8.0, 60, 40, 999]])))
    found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
    changed = (draw_overlay(image, {"instances": found}, classes_with(0)) != image).any(axis=2)
    assert changed[64:, :36].mean() > 0.9 and not changed[:40].any()


@pytest.mark.parametrize(
    "picture",
    [
        np.array([[[200, 100, 50]]], np.uint8),  # RGB
        np.array([[7, 200]], np.uint8),
        np.array([[7, 60000]], np.uint16),
    ],
)
def test_pictures_are_written_as_they_are(tmp_path, picture):
    save_image(tmp_path / "new/folder/a.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new/folder/a.png")), picture)


def test_classes_of_logits():
    logits = torch.tensor([[[-1.0, 0.0, 0.5]]])
    assert to_cpu({"sem_seg": logits})["classes"].tolist() == [[0, 0, 1]]  # one logit: foreground
    logits = torch.cat([logits, -logits])
    assert to_cpu({"sem_seg": logits})["classes"].tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({}, ["a.png"]),
        ({"overlay": False}, []),
        ({"points": True}, ["a.png", "a.points-1.png"]),
        ({"overlay": False, "steps": True, "compare": True}, ["a.step-0.png", "a.compare.png"]),
    ],
)
def test_expected_pictures(tmp_path, chosen, names):
    files = Visualizations(**chosen).files(semantic(tmp_path, 0, 1), "a")
    assert files == [tmp_path / "pictures" / name for name in names]


def test_labels_of_a_geotiff_lie_on_the_map(tmp_path):
    """The label image is also a TIFF with the tags of the image; others stay without."""
    keys = (1, 1, 0, 1, 3072, 0, 1, 32632)
    tags = [
        (33550, "d", 3, (0.5, 0.5, 0.0), True),
        (33922, "d", 6, (0, 0, 0, 500000.0, 5000000.0, 0), True),
        (34735, "H", len(keys), keys, True),
    ]
    image = np.zeros((3, 5, 3), np.uint8)
    tifffile.imwrite(tmp_path / "map.tif", image, extratags=tags)
    tifffile.imwrite(tmp_path / "plain.tif", image)
    labels = np.arange(15, dtype=np.uint8).reshape(3, 5) % 2
    output = semantic(tmp_path / "out", 3, 300)
    for name in ("map", "plain"):
        path = str(tmp_path / f"{name}.tif")
        output.write(f"sub/{name}", f"{name}.tif", {"classes": labels}, path)
    written = tmp_path / "out/labels/sub"
    assert sorted(path.name for path in written.iterdir()) == ["map.png", "map.tif", "plain.png"]
    assert np.array_equal(tifffile.imread(written / "map.tif"), np.where(labels, 300, 3))
    assert read_georeference(str(written / "map.tif")) == read_georeference(
        str(tmp_path / "map.tif")
    )
    assert len(read_georeference(str(written / "map.tif"))) == 3
