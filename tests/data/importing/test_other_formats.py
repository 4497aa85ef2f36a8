"""labelme, YOLO and Pascal VOC become COCO; what they cannot mean is refused."""

import base64
import io
import json
import shutil

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image
from test_instance_masks import save, save_image

from pointrend_seg.data.importing import labelme, pascal_voc, yolo
from pointrend_seg.data.importing.writing import write_dataset
from pointrend_seg.errors import InputError

SIZE = (60, 80)  # height, width
TRIANGLE = [[10.5, 10], [40, 12.25], [20, 50]]


def shape(kind, points, label="cat", **other):
    return {"label": label, "shape_type": kind, "points": points, "group_id": None, **other}


def labelme_file(path, items, size=SIZE, image="a.jpg", **other):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"shapes": items, "imagePath": image, "imageHeight": size[0], "imageWidth": size[1]}
    path.write_text(json.dumps(content | other))
    return path.parent


def objects(source, folder, name="train", **options):
    """Write a data set, and return (class, segmentation, decoded mask) of each object."""
    write_dataset(source, folder, **{"val_share": 0} | options)
    content = json.loads((folder / f"{name}.json").read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    sizes = {each["id"]: (each["height"], each["width"]) for each in content["images"]}
    found = []
    for each in content["annotations"]:
        mask, size = each["segmentation"], sizes[each["image_id"]]
        runs = (
            mask if isinstance(mask, dict) else mask_util.merge(mask_util.frPyObjects(mask, *size))
        )
        decoded = mask_util.decode(runs).astype(bool)
        assert each["area"] == decoded.sum()
        found.append((names[each["category_id"]], mask, decoded))
    return found


def png_text(mask):
    content = io.BytesIO()
    Image.fromarray(mask).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def test_shapes_of_labelme(tmp_path):
    save_image(tmp_path / "in/a.jpg", SIZE)
    save_image(tmp_path / "in/b.jpg", SIZE)
    crop = np.random.default_rng(0).random((5, 7)) < 0.5
    folder = labelme_file(
        tmp_path / "in/a.json",
        [
            shape("polygon", TRIANGLE),
            shape("rectangle", [[50, 40], [30.5, 20]], "dog"),
            shape("circle", [[40, 30], [40, 40]], "hen"),
            shape("mask", [[3, 50], [9, 54]], "ant", mask=png_text(crop.astype(np.uint8) * 255)),
            shape("polygon", [[0, 0], [4, 0], [4, 4]], "two", group_id=1),
            shape("polygon", [[10, 0], [14, 0], [14, 4]], "two", group_id=1),
            shape("polygon", [[10, 0], [14, 0], [14, 4]], "other", group_id=1),
            shape("point", [[1, 1]]),
            shape("linestrip", [[1, 1], [2, 2]]),
        ],
        imageData="A" * 1000,
    )
    source = labelme.find(str(folder))
    assert source.notes[0] == "2 points and lines have no area and are left out."
    assert source.notes[1].startswith("1 images have no JSON file") and "b.jpg" in source.notes[1]
    found = {name: (mask, pixels) for name, mask, pixels in objects(source, tmp_path / "out")}
    assert found["cat"][0] == [[10.5, 10, 40, 12.25, 20, 50]]
    assert found["dog"][0] == [[50, 40, 30.5, 40, 30.5, 20, 50, 20]]
    assert found["two"][0] == [[0, 0, 4, 0, 4, 4], [10, 0, 14, 0, 14, 4]]
    assert len(found) == 6 and abs(found["hen"][1].sum() / (np.pi * 100) - 1) < 0.03
    expected = np.zeros(SIZE, bool)
    expected[50:55, 3:10] = crop
    assert np.array_equal(found["ant"][1], expected)


def test_images_of_labelme_in_another_folder(tmp_path):
    save_image(tmp_path / "photos/a.jpg", SIZE)
    folder = labelme_file(tmp_path / "json/x.json", [shape("polygon", TRIANGLE)],
                          image="..\\photos\\a.jpg")  # fmt: skip
    assert labelme.find(str(folder)).images[0].name == "x.jpg"
    shutil.move(tmp_path / "photos", tmp_path / "moved")
    with pytest.raises(InputError, match=r"x.json: its image .* is not at .*--images"):
        labelme.find(str(folder))
    source = labelme.find(str(folder), str(tmp_path / "moved"))
    assert source.images[0].path == str(tmp_path / "moved/a.jpg")


@pytest.mark.parametrize(
    ("shapes", "other", "text"),
    [
        ([shape("polygon", TRIANGLE[:2])], {}, "shape 0 .from 0. is a polygon of 2 points"),
        ([shape("circle", TRIANGLE)], {}, "is a circle of 3 points; it needs 2"),
        ([shape("circle", [[1, 1], [1, 1]])], {}, "is a circle of the radius 0"),
        ([shape("blob", TRIANGLE)], {}, "is a 'blob', which is not known. Known are polygon"),
        ([shape("polygon", TRIANGLE, "")], {}, "has the label ''; it must be the name of a class"),
        ([shape("polygon", TRIANGLE, 7)], {}, "has the label 7"),
        ([shape("polygon", TRIANGLE, group_id=[])], {}, r"has the group_id \[\]"),
        ([shape("polygon", [[1, None]] * 3)], {}, r"'points' that are not a list of \[x, y\]"),
        ([shape("polygon", [[1, float("nan")]] * 3)], {}, "'points' that are not a list"),
        ([shape("polygon", [[1, 1e9]] * 3)], {}, "1000000 pixels away"),
        ([shape("mask", [[1, 1], [2, 2]], mask="?")], {}, "has a mask that cannot be decoded"),
        ([shape("mask", [[1, 1], [2, 2]])], {}, "has a mask that cannot be decoded"),
        ([], {"imageHeight": 61}, "image of 80 x 61 .width x height., but its image is 80 x 60. R"),
        ([], {"imageHeight": 80, "imageWidth": 60}, "after its EXIF orientation was applied"),
        ([], {"imagePath": 7}, "'imagePath' is 7; it must be the path"),
        ([], {"shapes": None}, "is not a file of labelme: it has no list of 'shapes'"),
        ([3], {}, "is not a file of labelme"),
    ],
)
def test_what_is_no_labelme(tmp_path, shapes, other, text):
    save_image(tmp_path / "in/a.jpg", SIZE)
    folder = labelme_file(tmp_path / "in/a.json", shapes, **other)
    with pytest.raises(InputError, match=text):
        write_dataset(labelme.find(str(folder)), tmp_path / "out", val_share=0)


def yolo_tree(root, yaml_text=None, lines="0 0.1 0.2 0.5 0.25 0.3 0.9\n", splits=("train", "val")):
    for split in splits:
        for name in "ab":
            save_image(root / f"images/{split}/{name}.jpg", SIZE)
        label = root / f"labels/{split}/a.txt"
        label.parent.mkdir(parents=True)
        label.write_text(lines)
    text = yaml_text or "train: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n"
    (root / "data.yaml").write_text(text)
    return str(root / "data.yaml")


def test_yolo(tmp_path):
    source = yolo.find(yolo_tree(tmp_path / "in"))
    assert source.notes[0].startswith("2 images have no label file, so no objects")
    found = objects(source, tmp_path / "out")
    assert [each[:2] for each in found] == [("cat", [[8, 12, 40, 15, 24, 54]])]
    content = json.loads((tmp_path / "out/val.json").read_text())
    assert [each["file_name"] for each in content["images"]] == ["val/a.jpg", "val/b.jpg"]
    assert [each["name"] for each in content["categories"]] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("path: .\ntrain: images/train\nnames: [cat, dog]\n", ["a.jpg", "b.jpg"]),
        ("train: ../images/train\nval: ../images/train\nnames: [cat]\n", ["a.jpg", "b.jpg"]),
        ("train: list.txt\nnames: [cat]\n", ["images/train/b.jpg"]),
        ("\ufefftrain: [images/train]\nval:\nnames: [cat]\n", ["a.jpg", "b.jpg"]),
    ],
)
def test_splits_of_yolo(tmp_path, text, names):
    file = yolo_tree(tmp_path, text, splits=("train",))
    (tmp_path / "list.txt").write_text("./images/train/b.jpg\n\n")
    (tmp_path / "labels/train/b.txt").write_text("")
    source = yolo.find(file)
    assert [image.name for image in source.images] == names
    assert {image.split for image in source.images} == {""}


def test_folders_of_yolo(tmp_path):
    yolo_tree(tmp_path)
    images, labels = str(tmp_path / "images/val"), str(tmp_path / "labels/val")
    with pytest.raises(InputError, match="also give --images FOLDER, and --classes FILE"):
        yolo.find(labels, images)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    for classes in ("data.yaml", "classes.txt"):
        source = yolo.find(labels, images, str(tmp_path / classes))
        assert source.categories == ["cat", "dog"] and source.images[0].name == "a.jpg"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("\n0 0.5 0.5 0.1 0.1", "a.txt, line 2 is a box, not a polygon: the labels are for detec"),
        ("0 0.5 0.5 0.1 0.1 0.3 0.4 0.2", "line 1 has 7 coordinates; a polygon has an even number"),
        ("2 0 0 1 0 1 1", "has the class 2, but there are 2 classes, 0 to 1"),
        ("0.5 0 0 1 0 1 1", "has the class 0.5"),
        ("0 0 0 30 0 30 30", "has the coordinate 30; it must be from 0 to 1"),
        ("0 0 0 nan 0 1 1", "has the coordinate nan"),
        ("cat 0 0 1 0 1 1", "expected numbers, found 'cat 0 0 1 0 1 1'"),
    ],
)
def test_what_is_no_label_of_yolo(tmp_path, lines, text):
    source = yolo.find(yolo_tree(tmp_path / "in", lines=lines))
    with pytest.raises(InputError, match=text):
        write_dataset(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a]", "has no 'train'"),
        ("train: images/train", "has no 'names'"),
        ("train: gone\nnames: [a]", "'train' is gone, which is not at"),
        ("train: 7\nnames: [a]", "'train' is 7; it must be a folder"),
        ("train: images/train\nnames: {0: a, 2: b}", "the keys of 'names' are not 0, 1, 2"),
        ("train: images/train\nnames: [a, a]", "two classes have the name 'a'"),
        ("- a", "is not a data.yaml of YOLO"),
        ("a: [", "data.yaml cannot be read"),
    ],
)
def test_what_is_no_yaml_of_yolo(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        yolo.find(yolo_tree(tmp_path, text))


def voc_palette():
    return [part for number in range(256) for part in pascal_voc.voc_color(number)]


def voc_tree(root, *, colored):
    """Write an image with a cat (in two parts), a dog that touches it, and void around."""
    save_image(root / "JPEGImages/a.jpg", SIZE)
    numbers, classes = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    numbers[10:20, 10:20], numbers[30:32, 10:20], numbers[10:20, 20:30] = 1, 1, 2
    numbers[9, 10:30] = 255
    classes[numbers == 1], classes[numbers == 2], classes[numbers == 255] = 8, 12, 255
    for name, values in (("SegmentationObject", numbers), ("SegmentationClass", classes)):
        (root / name).mkdir()
        picture = Image.fromarray(values)
        if colored:
            picture = picture.convert("P")
            picture.putdata(values.ravel().tolist())
            picture.putpalette(voc_palette())
        if colored == "RGB":
            picture = picture.convert("RGB")
        picture.save(root / f"{name}/a.png")
    return numbers


@pytest.mark.parametrize("colored", ["", "P", "RGB"])
def test_voc(tmp_path, colored):
    numbers = voc_tree(tmp_path / "voc", colored=colored)
    source = pascal_voc.find(str(tmp_path / "voc"))
    found = {name: mask for name, _, mask in objects(source, tmp_path / "out")}
    assert found.keys() == {"cat", "dog"} and len(source.notes) == 1
    assert np.array_equal(found["cat"], numbers == 1)
    assert np.array_equal(found["dog"], numbers == 2)


def test_palettes_of_voc_in_another_order_are_read_by_colour(tmp_path):
    numbers = voc_tree(tmp_path / "voc", colored="P")
    others = "".join(f"other {k}:{k},{k},{k}::\n" for k in range(1, 13))
    (tmp_path / "voc/labelmap.txt").write_text(
        f"# label:color_rgb:parts:actions\nbackground:0,0,0::\n{others}hen:64,0,128::\n"
        "owl:64,0,0::\n"
    )  # 12 (dog) has the colour 64, 0, 128; 8 (cat) has 64, 0, 0
    found = {n: m for n, _, m in objects(pascal_voc.find(str(tmp_path / "voc")), tmp_path / "out")}
    assert np.array_equal(found["owl"], numbers == 1) and np.array_equal(found["hen"], numbers == 2)


def test_lists_of_voc(tmp_path):
    voc_tree(tmp_path, colored="P")
    for name in ("JPEGImages/{}.jpg", "SegmentationObject/{}.png", "SegmentationClass/{}.png"):
        for other in "bc":
            shutil.copy(tmp_path / name.format("a"), tmp_path / name.format(other))
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("b\n")
    (lists / "val.txt").write_text("a\n")
    source = pascal_voc.find(str(tmp_path))
    assert [(image.name, image.split) for image in source.images] == [
        ("b.jpg", "train"), ("a.jpg", "val")
    ]  # fmt: skip
    assert source.notes[0].startswith("1 labelled images are in none of the lists")
    (lists / "val.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="'b' is in both lists"):
        pascal_voc.find(str(tmp_path))
    (lists / "val.txt").write_text("d\n")
    with pytest.raises(InputError, match="names 'd', which has no label file"):
        pascal_voc.find(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("SegmentationClass", np.full(SIZE, 8, np.uint8), None),
        ("SegmentationClass", np.zeros(SIZE, np.uint8), "Object 1 of .* is background in"),
        ("SegmentationClass", np.full(SIZE, 21, np.uint8), "has the value 21, which is no class"),
        (
            "SegmentationClass",
            np.full((*SIZE, 3), 9, np.uint8),
            r"has the colour \(9, 9, 9\), which",
        ),
        ("SegmentationClass", np.zeros((60, 81), np.uint8), "is 81 x 60 .width x height., but its"),
        ("SegmentationObject", np.ones(SIZE, np.uint8), "is several classes|is background"),
    ],
)
def test_what_is_no_voc(tmp_path, name, values, text):
    voc_tree(tmp_path / "voc", colored="")
    save(tmp_path / f"voc/{name}/a.png", values)
    source = pascal_voc.find(str(tmp_path / "voc"))
    if text is None:
        write_dataset(source, tmp_path / "out", val_share=0)
        return
    with pytest.raises(InputError, match=text):
        write_dataset(source, tmp_path / "out", val_share=0)


XML = (
    "<annotation><size><width>80</width><height>60</height></size><object><name>cat</name>{}"
    "</object></annotation>"
)
POLYGON = "<polygon><x1>11</x1><y1>11</y1><x2>41.5</x2><y2>11</y2><x3>21</x3><y3>51</y3></polygon>"


@pytest.mark.parametrize(
    ("xml", "text"),
    [
        (XML.format(POLYGON), None),
        (XML.format(""), "object 0 .from 0., 'cat', has a box but no polygon"),
        (XML.format("<polygon><x1>1</x1></polygon>"), "a polygon of fewer than 3 points"),
        (XML.format(POLYGON).replace("41.5", "x"), "expected a number, found 'x'"),
        (XML.format(POLYGON).replace("41.5", "nan"), "expected a number, found 'nan'"),
        (XML.format(POLYGON).replace("80", "81"), "for an image of 81 x 60"),
        (XML.format(POLYGON).replace("cat", " "), "object 0 .from 0. has no name"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + XML.format(POLYGON), "defines entities"),
        ("<a>", "a.xml cannot be read"),
    ],
)
def test_xml_of_voc(tmp_path, xml, text):
    save_image(tmp_path / "voc/JPEGImages/a.jpg", SIZE)
    (tmp_path / "voc/Annotations").mkdir()
    (tmp_path / "voc/Annotations/a.xml").write_text(xml)
    source = pascal_voc.find(str(tmp_path / "voc"))
    if text is None:
        found = objects(source, tmp_path / "out")
        assert [each[:2] for each in found] == [("cat", [[10, 10, 40.5, 10, 20, 50]])]
        return
    with pytest.raises(InputError, match=text):
        write_dataset(source, tmp_path / "out", val_share=0)


def test_no_layout_of_voc(tmp_path):
    with pytest.raises(InputError, match="neither SegmentationObject nor Annotations"):
        pascal_voc.find(str(tmp_path))
