"""What a prediction can do: pictures, polygons, COCO, supervision, exports, for both tasks."""

import json
import sys
import types

import numpy as np
import pycocotools.mask as mask_util
import pytest
import tifffile
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools.coco import COCO

from pointrend_seg.data.classes import Classes, palette
from pointrend_seg.data.importing.instance_masks import find
from pointrend_seg.data.importing.writing import write_dataset
from pointrend_seg.errors import InputError
from pointrend_seg.prediction.exports import EXPORTS, check_exports, export
from pointrend_seg.prediction.exports.label_studio import encode_brush
from pointrend_seg.prediction.outputs import OutputFolder
from pointrend_seg.prediction.results import Prediction
from pointrend_seg.structures.regions import Region

HEIGHT, WIDTH = 60, 90
CLASSES = Classes(("cell", "débris"), palette(2), (7, 300))


def masks():
    """Make a disc with a hole, an object in two parts, one that overlaps the disc, an empty one."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = (x - 30) ** 2 + (y - 30) ** 2
    found = np.zeros((4, HEIGHT, WIDTH), bool)
    found[0] = (distance <= 20**2) & (distance > 8**2)
    found[1, 5:15, 60:80] = found[1, 40:55, 70:90] = True
    found[2, 30:60, 0:25] = True
    return found


def instances(with_masks=True):
    found = Instances((HEIGHT, WIDTH))
    boxes = [[10, 10, 51, 51], [60, 5, 90, 55], [0, 30, 25, 60], [3, 3, 3, 3]]
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32))
    found.scores = torch.tensor([0.75, 0.5, 0.625, 0.25])
    found.pred_classes = torch.tensor([0, 1, 0, 1])
    if with_masks:
        found.pred_masks = torch.from_numpy(masks())
    return found


def image():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def prediction(**options):
    return Prediction({"instances": instances(**options)}, image=image(), classes=CLASSES)


def class_map():
    found = np.zeros((HEIGHT, WIDTH), np.int64)
    found[masks()[0]] = 1
    return found


def semantic():
    logits = torch.nn.functional.one_hot(torch.from_numpy(class_map()), 2).permute(2, 0, 1)
    return Prediction({"sem_seg": logits.float()}, image=image(), classes=CLASSES)


def filled(polygons):
    """Fill polygons, with their holes, by pycocotools."""
    drawn = np.zeros((HEIGHT, WIDTH), bool)
    for polygon in polygons:
        for ring in (polygon.outline, *polygon.holes):
            runs = mask_util.frPyObjects([ring.ravel().tolist()], HEIGHT, WIDTH)
            drawn ^= mask_util.decode(runs)[:, :, 0].astype(bool)
    return drawn


def test_it_is_the_dict_of_the_model():
    found = prediction()
    assert isinstance(found, dict) and list(found) == ["instances"] and not found.is_semantic
    assert found.class_names == ["cell", "débris", "cell", "débris"]
    assert repr(found) == "<Prediction: cell, débris, cell, débris>"
    with pytest.raises(InputError, match="for objects use label_image"):
        found.class_map  # noqa: B018
    assert np.array_equal(semantic().class_map, class_map())
    assert semantic().class_names == ["cell", "débris"]


def test_polygons():
    found = prediction().polygons()
    assert [len(each) for each in found] == [1, 2, 1, 0] and len(found[0][0].holes) == 1
    for polygons, mask in zip(found, masks(), strict=True):
        assert np.array_equal(filled(polygons), mask)
    simple = prediction().polygons(tolerance=1.0)
    assert len(simple[0][0].outline) < len(found[0][0].outline)
    drawn = filled(simple[0])
    assert (drawn & masks()[0]).sum() / (drawn | masks()[0]).sum() > 0.93
    background, disc = semantic().polygons()
    assert np.array_equal(filled(disc), class_map() == 1)
    assert np.array_equal(filled(background), class_map() == 0)


def test_coco():
    found = prediction().to_coco(image_id=5)
    json.dumps(found)
    for item, mask, score in zip(found, masks(), (0.75, 0.5, 0.625, 0.25), strict=True):
        assert np.array_equal(mask_util.decode(item["segmentation"]), mask)
        assert item["area"] == mask.sum() and item["score"] == score and item["image_id"] == 5
    assert [each["id"] for each in found] == [1, 2, 3, 4]
    assert found[0]["bbox"] == [10, 10, 41, 41]
    assert [(each["category_id"], each["category_name"]) for each in found][:2] == [
        (7, "cell"), (300, "débris")
    ]  # fmt: skip
    second = semantic().to_coco()[1]
    assert np.array_equal(mask_util.decode(second["segmentation"]), class_map())
    assert second["category_id"] == 300 and "score" not in second


def test_without_masks_boxes_are_filled():
    found = prediction(with_masks=False).to_coco()
    assert [each["area"] for each in found] == [41 * 41, 30 * 50, 25 * 30, 0]


def test_label_images():
    expected = np.zeros((HEIGHT, WIDTH), int)
    for k in (3, 1, 2, 0):  # by score
        expected[masks()[k]] = k + 1
    labels = prediction().label_image()
    assert np.array_equal(labels, expected) and labels.dtype == np.uint16
    assert np.array_equal(semantic().label_image(), np.where(class_map(), 300, 7))


@pytest.mark.parametrize("make", [prediction, semantic])
@pytest.mark.parametrize("name", ["a.png", "new/b.jpg", "c.webp", "d.TIF", "e.bmp"])
def test_pictures(tmp_path, make, name):
    found = make()
    picture = found.plot()
    assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.uint8
    assert (picture != found.image).any()
    found.save(tmp_path / name)
    written = np.asarray(Image.open(tmp_path / name)).astype(int)
    lossy = name.endswith(("jpg", "webp"))  # the image is noise
    assert np.abs(written - picture).mean() <= (45 if lossy else 0)
    with pytest.raises(InputError, match="no extension of a picture; use one of .png"):
        found.save(tmp_path / "a.svg")


def test_supervision(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)  # cannot be imported
    with pytest.raises(InputError, match="needs the package supervision: pip install supervision"):
        prediction().to_supervision()
    fake = types.SimpleNamespace(Detections=lambda **fields: fields)
    monkeypatch.setitem(sys.modules, "supervision", fake)
    found = prediction().to_supervision()
    assert np.array_equal(found["mask"], masks()) and found["class_id"].tolist() == [7, 300, 7, 300]
    assert found["confidence"].tolist() == [0.75, 0.5, 0.625, 0.25]
    assert found["xyxy"].shape == (4, 4) and found["xyxy"].dtype == np.float32
    assert found["data"]["class_name"].tolist() == ["cell", "débris", "cell", "débris"]
    assert semantic().to_supervision()["confidence"] is None


def test_supervision_itself():
    supervision = pytest.importorskip("supervision")
    found = prediction().to_supervision()
    assert isinstance(found, supervision.Detections) and np.array_equal(found.mask, masks())
    assert found[found.confidence > 0.6].data["class_name"].tolist() == ["cell", "cell"]


def written(folder, *formats, tolerance=0.0, path="", make=prediction):
    """Write a prediction as the tool does and export it; return the folder."""
    output = OutputFolder(folder, CLASSES, semantic=make is semantic, contiguous=False)
    found = make()
    content = {"classes": found.class_map} if found.is_semantic else {"instances": instances()}
    output.write("day/a", "day/a.jpg", content, path)
    paths = export(output.images(), formats, folder, output.categories(), tolerance)
    assert all(each.exists() for each in paths)
    return folder


def test_coco_polygons_give_the_masks_again(tmp_path):
    coco = COCO(written(tmp_path, "coco-polygons") / "predictions_polygons.json")
    for item, mask in zip(coco.imgToAnns[1], masks()[:3], strict=False):
        assert isinstance(item["segmentation"], list)
        assert np.array_equal(coco.annToMask(item), mask)
        assert item["category_name"] in ("cell", "débris") and item["score"]
    assert coco.dataset["categories"][1] == {"id": 300, "name": "débris"}
    simple = COCO(written(tmp_path, "coco-polygons", tolerance=1) / "predictions_polygons.json")
    drawn = simple.annToMask(simple.imgToAnns[1][0]).astype(bool)
    assert (drawn & masks()[0]).sum() / (drawn | masks()[0]).sum() > 0.93
    assert len(json.dumps(simple.dataset)) < len(json.dumps(coco.dataset)) / 1.5


def test_coco_polygons_of_a_semantic_model(tmp_path):
    coco = COCO(written(tmp_path, "coco-polygons", make=semantic) / "predictions_polygons.json")
    found = {item["category_id"]: coco.annToMask(item) for item in coco.imgToAnns[1]}
    assert np.array_equal(found[300], class_map()) and np.array_equal(found[7], 1 - class_map())


@pytest.mark.parametrize(("name", "file"), [("png", "a.png"), ("tiff", "a.tif")])
def test_instance_images_are_imported_again(tmp_path, name, file):
    folder = written(tmp_path / "out", f"instance-{name}") / "instances/day"
    assert np.array_equal(np.asarray(Image.open(folder / file)), prediction().label_image())
    Image.fromarray(image()).save(tmp_path / "a.jpg")
    source = find(str(tmp_path / "a.jpg"), str(folder / file))
    write_dataset(source, tmp_path / "again", val_share=0)
    coco = COCO(tmp_path / "again/train.json")
    labels = prediction().label_image()
    expected = {(labels == value).tobytes() for value in (1, 2, 3)}
    assert {coco.annToMask(each).astype(bool).tobytes() for each in coco.anns.values()} == expected


def test_instance_images_of_a_semantic_model():
    with pytest.raises(InputError, match="instance-png is of objects, but the model is semantic"):
        check_exports(["geojson", "instance-png"], semantic=True)
    check_exports(EXPORTS, semantic=False)


def geojson_masks(features, to_pixels=lambda points: points):
    for feature in features:
        geometry = feature["geometry"]
        drawn = np.zeros((HEIGHT, WIDTH), bool)
        if geometry:
            parts = geometry["coordinates"]
            for part in parts if geometry["type"] == "MultiPolygon" else [parts]:
                for ring in part:
                    assert ring[0] == ring[-1]
                    points = to_pixels(np.array(ring))[:-1].ravel().tolist()
                    runs = mask_util.frPyObjects([points], HEIGHT, WIDTH)
                    drawn ^= mask_util.decode(runs)[:, :, 0].astype(bool)
        yield drawn


def signed_area(ring):
    x, y = np.array(ring).T
    return ((x[:-1] * y[1:]) - (x[1:] * y[:-1])).sum() / 2


def test_geojson_in_pixels(tmp_path):
    folder = written(tmp_path, "geojson")
    content = json.loads((folder / "geojson/day/a.geojson").read_text())
    assert content["type"] == "FeatureCollection" and "crs" not in content
    for drawn, mask in zip(geojson_masks(content["features"]), masks(), strict=True):
        assert np.array_equal(drawn, mask)
    assert [each["geometry"] and each["geometry"]["type"] for each in content["features"]] == [
        "Polygon", "MultiPolygon", "Polygon", None
    ]  # fmt: skip
    assert content["features"][1]["properties"] == {
        "name": "débris", "category_id": 300, "score": 0.5, "area_pixels": 500
    }  # fmt: skip


@pytest.mark.parametrize("is_point", [False, True])
def test_geojson_on_the_map(tmp_path, is_point):
    """0.5 m a pixel; the upper left corner of the image is at (500000, 5000000)."""
    shift = 0.25 if is_point else 0.0  # the tie point is the first pixel's centre
    keys = (1, 1, 0, 2, 1025, 0, 1, 2 if is_point else 1, 3072, 0, 1, 32632)
    tags = [
        (33550, "d", 3, (0.5, 0.5, 0.0), True),
        (33922, "d", 6, (0, 0, 0, 500000.0 + shift, 5000000.0 - shift, 0), True),
        (34735, "H", len(keys), keys, True),
    ]
    tifffile.imwrite(tmp_path / "a.tif", image(), extratags=tags)
    folder = written(tmp_path / "out", "geojson", path=str(tmp_path / "a.tif"))
    content = json.loads((folder / "geojson/day/a.geojson").read_text())
    assert content["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32632"

    def to_pixels(points):
        return (points - [500000, 5000000]) * [2, -2]

    for drawn, mask in zip(geojson_masks(content["features"], to_pixels), masks(), strict=True):
        assert np.array_equal(drawn, mask)
    outline, hole = content["features"][0]["geometry"]["coordinates"]
    assert signed_area(outline) > 0 > signed_area(hole)  # as RFC 7946 asks


def test_label_studio_polygons(tmp_path):
    (task,) = json.loads((written(tmp_path, "label-studio") / "label_studio.json").read_text())
    assert task["data"] == {"image": "day/a.jpg"}
    (found,) = task["predictions"]
    assert found["score"] == pytest.approx(2.125 / 4)
    drawn = np.zeros((4, HEIGHT, WIDTH), bool)
    for result in found["result"]:
        assert result["type"] == "polygonlabels" and result["value"]["closed"]
        assert (result["from_name"], result["to_name"]) == ("label", "image")
        assert (result["original_width"], result["original_height"]) == (WIDTH, HEIGHT)
        assert result["image_rotation"] == 0
        points = np.array(result["value"]["points"]) / 100 * [WIDTH, HEIGHT]
        assert points.min() >= 0 and points.max() <= WIDTH
        runs = mask_util.frPyObjects([points.round(6).ravel().tolist()], HEIGHT, WIDTH)
        drawn[int(result["id"].split("-")[0])] |= mask_util.decode(runs)[:, :, 0].astype(bool)
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[22:39, 22:39] = True
    assert np.array_equal(drawn[1:], masks()[1:])
    assert np.array_equal(drawn[0] & ~hole, masks()[0] & ~hole) and drawn[0][30, 30]
    names = {each["id"]: each["value"]["polygonlabels"] for each in found["result"]}
    assert names == {"0-0": ["cell"], "1-0": ["débris"], "1-1": ["débris"], "2-0": ["cell"]}
    assert [each["score"] for each in found["result"]] == [0.75, 0.5, 0.5, 0.625]


def decode_brush(numbers):
    """Decode by the description of the format."""
    bits = "".join(f"{number:08b}" for number in numbers)
    place = 0

    def take(count):
        nonlocal place
        place += count
        return int(bits[place - count : place], 2)

    total, value_bits = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values = []
    while len(values) < total:
        is_run = take(1)
        length = take(sizes[take(2)]) + 1
        values += (
            [take(value_bits)] * length if is_run else [take(value_bits) for _ in range(length)]
        )
    return np.array(values)


def test_label_studio_brushes_are_exact(tmp_path):
    file = written(tmp_path, "label-studio-brush") / "label_studio_brush.json"
    found = json.loads(file.read_text())[0]["predictions"][0]["result"]
    for result, mask in zip(found, masks(), strict=True):
        assert result["type"] == "brushlabels" and result["value"]["format"] == "rle"
        pixels = decode_brush(result["value"]["rle"]).reshape(HEIGHT, WIDTH, 4)
        assert np.array_equal(pixels, np.repeat(mask[:, :, None] * 255, 4, axis=2))


def test_brushes_of_whole_rows_and_long_runs():
    """Runs that go on in the next row, and more values than the longest run holds."""
    for height, width, first, end in ((300, 200, 50, 250), (3, 5, 0, 3), (2, 4, 0, 0)):
        mask = np.zeros((height, width), bool)
        mask[first:end] = True
        region = Region(np.ascontiguousarray(mask.T).view(np.uint8), 0, 0)
        runs = encode_brush(region, height, width)
        pixels = decode_brush(runs).reshape(height, width, 4)
        assert np.array_equal(pixels, np.repeat(mask[:, :, None] * 255, 4, axis=2))


def test_masks_as_run_lengths(tmp_path):
    """A compact mask type, as of images in tiles, is never decoded at full size."""

    class Compact:
        rles = [mask_util.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks()]

        def __len__(self):
            return len(self.rles)

        def to(self, device):
            return self

    compact = instances(with_masks=False)
    compact.pred_masks = Compact()
    found = Prediction({"instances": compact}, image=image(), classes=CLASSES)
    assert found.to_coco() == prediction().to_coco()
    assert np.array_equal(found.label_image(), prediction().label_image())
