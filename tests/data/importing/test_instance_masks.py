"""Instance masks become objects, exact to the pixel; what is no instance mask is refused."""

import json
import re

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from pointrend_seg.data.importing.instance_masks import find, read_values
from pointrend_seg.data.importing.objects import ImportedObject
from pointrend_seg.data.importing.tiling import Window, cut_objects
from pointrend_seg.data.importing.writing import write_dataset
from pointrend_seg.errors import InputError
from pointrend_seg.structures.regions import Region

# Objects 1 and 2 touch, 3 has a hole and a part apart, 300 needs 16 bits.
VALUES = np.zeros((24, 40), np.int64)
VALUES[2:8, 2:8], VALUES[2:8, 8:14] = 1, 2
VALUES[10:20, 2:12], VALUES[13:16, 5:8], VALUES[0:4, 30:40] = 3, 0, 3
VALUES[22:24, 38:40] = 300


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    elif values.dtype == np.uint32:
        Image.fromarray(values.astype(np.int32)).save(path, tiffinfo={339: 1})  # without a sign
    else:
        Image.fromarray(values).save(path)
    return str(path)


def save_image(path, size=(24, 40), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def decoded(folder, name="train"):
    """Return the masks of a written file, by the place of each in it, and the content."""
    content = json.loads((folder / f"{name}.json").read_text())
    return [mask_util.decode(each["segmentation"]) for each in content["annotations"]], content


def as_rgb(values):
    return np.stack([values % 256, values // 256, values * 7 % 256], -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "convert"),
    [
        ("m.png", lambda v: v.astype(np.uint16)),
        ("m.tif", lambda v: v.astype(np.uint16)),
        ("m.tif", lambda v: v.astype(np.uint32)),
        ("m.tif", lambda v: v.astype(np.float32)),
        ("m.npy", lambda v: v.astype(np.int64)),
        ("m.npy", lambda v: v.astype(np.float64)),
        ("m.png", as_rgb),
        ("m.tif", as_rgb),
        ("m.png", lambda v: np.dstack([as_rgb(v), np.full(v.shape, 255, np.uint8)])),
    ],
)
def test_masks_are_exact(tmp_path, name, convert):
    labels = save(tmp_path / name, convert(VALUES))
    source = find(save_image(tmp_path / "i.jpg"), labels, category="cell")
    write_dataset(source, tmp_path / "out", val_share=0)
    masks, content = decoded(tmp_path / "out")
    expected = {(value == VALUES).tobytes() for value in (1, 2, 3, 300)}
    assert {mask.astype(bool).tobytes() for mask in masks} == expected and len(masks) == 4
    assert content["categories"] == [{"id": 1, "name": "cell"}]
    assert content["images"] == [{"id": 1, "file_name": "i.jpg", "height": 24, "width": 40}]
    for mask, each in zip(masks, content["annotations"], strict=True):
        assert each["area"] == mask.sum() and each["category_id"] == 1 and each["iscrowd"] == 0
        assert each["bbox"] == mask_util.toBbox(each["segmentation"]).tolist()
    assert (tmp_path / "out/images/i.jpg").read_bytes() == (tmp_path / "i.jpg").read_bytes()


def test_palette_indices_are_the_values(tmp_path):
    picture = Image.fromarray((VALUES % 256).astype(np.uint8)).convert("P")
    picture.putdata((VALUES % 256).ravel().tolist())
    picture.putpalette([10, 20, 30] * 256)
    picture.save(tmp_path / "m.png")
    assert np.array_equal(read_values(str(tmp_path / "m.png"), (24, 40)), VALUES % 256)


def mask_tree(root, names):
    for name in names:
        save_image(root / "images" / f"{name}.jpg")
    return str(root / "images"), str(root / "masks")


def test_folders_give_the_classes(tmp_path):
    images, labels = mask_tree(tmp_path, ["day1/a", "b"])
    for name, values in (("cell/day1/a", 1), ("cell/b", 2), ("dirt/b", 3)):
        save(tmp_path / f"masks/{name}.png", ((values == VALUES) * values).astype(np.uint8))
    write_dataset(find(images, labels), tmp_path / "out", val_share=0)
    _, content = decoded(tmp_path / "out")
    names = [each["name"] for each in content["categories"]]
    files = {each["id"]: each["file_name"] for each in content["images"]}
    found = sorted(
        (files[each["image_id"]], names[each["category_id"] - 1], each["area"])
        for each in content["annotations"]
    )
    assert found == [("b.jpg", "cell", 36), ("b.jpg", "dirt", 131), ("day1/a.jpg", "cell", 36)]


def test_folders_of_the_images_are_no_classes(tmp_path):
    images, labels = mask_tree(tmp_path, ["day1/a", "day2/a"])
    for name in ("day1/a", "day2/a"):
        save(tmp_path / f"masks/{name}.png", VALUES.astype(np.uint16))
    write_dataset(find(images, labels), tmp_path / "out", val_share=0.5, seed=1)
    assert decoded(tmp_path / "out")[1]["categories"] == [{"id": 1, "name": "object"}]
    assert len(decoded(tmp_path / "out", "val")[1]["images"]) == 1


def test_masks_beside_their_images(tmp_path):
    folder = tmp_path / "both"
    for name in "ab":
        save_image(folder / f"{name}.tif")
        save(folder / f"{name}_cp_masks.tif", VALUES.astype(np.uint16))
    with pytest.raises(InputError, match="--label-suffix _masks"):
        find(str(folder), str(folder))
    source = find(str(folder), str(folder), label_suffix="_cp_masks")
    assert [image.name for image in source.images] == ["a.tif", "b.tif"]


def test_the_same_seed_gives_the_same_split(tmp_path):
    images, labels = mask_tree(tmp_path, [f"{k}" for k in range(10)])
    for k in range(10):
        save(tmp_path / f"masks/{k}.png", VALUES.astype(np.uint16))
    splits = []
    for run, seed in enumerate((0, 0, 1)):
        write_dataset(find(images, labels), tmp_path / f"out{run}", val_share=0.3, seed=seed)
        files = [
            [each["file_name"] for each in decoded(tmp_path / f"out{run}", split)[1]["images"]]
            for split in ("train", "val")
        ]
        assert len(files[1]) == 3 and not set(files[0]) & set(files[1])
        splits.append(files)
    assert splits[0] == splits[1] != splits[2]


def test_tiles_share_no_pixel_and_are_scaled_as_the_whole_image(tmp_path):
    pixels = np.arange(40 * 100, dtype=np.uint16).reshape(40, 100) * 16
    eight_bits = np.clip((pixels / 16 - 40) / (3991 - 40) * 255, 0, 255)  # percentiles 1 and 99.8
    labels = np.kron(np.arange(1, 11).reshape(2, 5), np.ones((20, 20))).astype(np.uint16)
    image = save(tmp_path / "i.tif", pixels)
    source = find(image, save(tmp_path / "m.tif", labels), category="cell")
    write_dataset(source, tmp_path / "out", tile=16, val_share=0.3)
    seen = np.zeros((40, 100), int)
    for name, bit in (("train", 1), ("val", 2)):
        masks, content = decoded(tmp_path / "out", name)
        for each in content["images"]:
            tile = cv2.imread(
                str(tmp_path / "out/images" / each["file_name"]), cv2.IMREAD_UNCHANGED
            )
            assert tile.dtype == np.uint8 and tile.shape == (16, 16)
            x, y = map(int, re.fullmatch(r"i_x(\d+)_y(\d+).png", each["file_name"]).groups())
            assert np.abs(tile - eight_bits[y : y + 16, x : x + 16]).max() < 0.6
            seen[y : y + 16, x : x + 16] |= bit
            part = labels[y : y + 16, x : x + 16]
            own = [m for m, a in zip(masks, content["annotations"], strict=True)
                   if a["image_id"] == each["id"]]  # fmt: skip
            assert {m.tobytes() for m in own} == {
                (part == v).astype(np.uint8).T.copy().T.tobytes()
                for v in np.unique(part)
                if (part == v).sum() >= 10
            }
    assert (seen[:, :64] == 1).all() and (seen[:, 64:] == 2).all()


def test_tiles_of_colours_and_palettes_and_a_fixed_range(tmp_path):
    colors = np.zeros((20, 40, 3), np.uint8)
    colors[:, :20], colors[:, 20:] = (10, 120, 240), (240, 10, 120)  # BGR
    picture = Image.fromarray(colors[:, :, ::-1]).convert("P", palette=Image.Palette.ADAPTIVE)
    picture.save(tmp_path / "p.png")
    cv2.imwrite(str(tmp_path / "c.png"), colors)
    cv2.imwrite(str(tmp_path / "r.png"), colors.astype(np.uint16) * 16)
    masks = save(tmp_path / "m.png", np.ones((20, 40), np.uint8))
    for name in "cpr":
        source = find(tmp_path / f"{name}.png", masks, category="cell")
        folder = tmp_path / f"out_{name}"
        write_dataset(source, folder, tile=20, val_share=0.5, pixel_range="0..4080")
        for x in (0, 20):
            tile = cv2.imread(str(folder / f"images/{name}_x{x}_y0.png"))
            assert np.array_equal(tile, colors[:, x : x + 20])


@pytest.mark.parametrize(
    ("values", "name", "text"),
    [
        (
            VALUES.astype(np.float32) + 0.5,
            "m.tif",
            "has the value 0.5, but labels are whole numbers",
        ),
        (VALUES + 0.5, "m.npy", "has the value 0.5. Each object is a whole number"),
        (np.where(VALUES > 2, np.nan, 0), "m.npy", "infinite or NaN"),
        (-VALUES, "m.npy", "values from -300 to 0. Background is 0"),
        (np.zeros((24, 40, 2), np.uint8), "m.npy", r"has the shape \(24, 40, 2\)"),
        (np.zeros((24, 41), np.uint8), "m.png", "is 41 x 24 .width x height., but its image is 40"),
        (np.zeros((40, 24), np.uint8), "m.png", "EXIF orientation was applied. Save the image upr"),
        (np.arange(960).reshape(24, 40).astype(np.uint16), "m.png", "like a photograph"),
        (np.full((24, 40), "a"), "m.npy", "values of type <U1"),
        (
            np.zeros((24, 40), np.uint8),
            "m.jpg",
            "compressed by JPEG, which changes the values of pixels",
        ),
        (np.zeros((24, 40), np.uint8), "m.png", "There is no object in 1 images"),
    ],
)
def test_what_is_no_instance_mask(tmp_path, values, name, text):
    labels = save(tmp_path / name, values)
    source = find(save_image(tmp_path / "i.png"), labels)
    with pytest.raises(InputError, match=text):
        write_dataset(source, tmp_path / "out", val_share=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.png", name]


def test_several_pages(tmp_path):
    pages = [Image.fromarray(VALUES.astype(np.uint16)) for _ in range(3)]
    pages[0].save(tmp_path / "m.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="m.tif has 3 pages or frames"):
        read_values(str(tmp_path / "m.tif"), (24, 40))


@pytest.mark.parametrize(
    ("missing", "text"),
    [
        ("images/a.jpg", "1 masks have no image: a. Add the images or remove them."),
        ("masks/a.png", r"1 images have no mask: a. Add masks \(all 0 where"),
    ],
)
def test_what_has_no_partner(tmp_path, missing, text):
    images, labels = mask_tree(tmp_path, "ab")
    for name in "ab":
        save(tmp_path / f"masks/{name}.png", VALUES.astype(np.uint16))
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=text):
        find(images, labels)


def test_lossy_masks_of_a_folder(tmp_path):
    images, labels = mask_tree(tmp_path, "a")
    save(tmp_path / "masks/a.jpg", np.zeros((24, 40), np.uint8))
    with pytest.raises(InputError, match="masks/a.jpg is compressed by JPEG, which changes"):
        write_dataset(find(images, labels), tmp_path / "out", val_share=0)


def test_refusals(tmp_path):
    images, labels = mask_tree(tmp_path, "a")
    save(tmp_path / "masks/b.png", VALUES.astype(np.uint16))
    with pytest.raises(
        InputError, match=r"No mask in .* \(b\) has the name of an image in .* \(a\)"
    ):
        find(images, labels)
    with pytest.raises(InputError, match="--labels: .*/gone is not there. Give two folders"):
        find(images, str(tmp_path / "gone"))
    save(tmp_path / "masks/b.tif", VALUES.astype(np.uint16))
    with pytest.raises(InputError, match="differ only in the extension"):
        find(images, labels)
    (tmp_path / "masks/b.tif").rename(tmp_path / "masks/a.tif")
    (tmp_path / "masks/b.png").unlink()
    source = find(images, labels)
    with pytest.raises(InputError, match="One image cannot be split.*--tile.*--val 0"):
        write_dataset(source, tmp_path / "out")
    with pytest.raises(InputError, match="40 x 24 pixels cannot be split into tiles of 32"):
        write_dataset(source, tmp_path / "out", tile=32)
    with pytest.raises(InputError, match=r"overlap \(16\) must be smaller than the tile \(16\)"):
        write_dataset(source, tmp_path / "out", tile=16, overlap=16)
    (tmp_path / "out").mkdir()
    write_dataset(source, tmp_path / "out", val_share=0, link=True)
    assert (tmp_path / "out/images/a.jpg").is_symlink()
    with pytest.raises(InputError, match="out is not empty"):
        write_dataset(source, tmp_path / "out", val_share=0)


def test_slivers_at_the_edge_of_a_tile_are_left_out():
    """Parts of fewer than 10 pixels of objects that the edge cuts; small objects stay."""
    pixels = {"part of 9": (3, 3), "part of 10": (2, 5), "whole": (1, 2)}
    regions = [
        (ImportedObject(name, []), Region(np.ones((w, h + (name != "whole") * 4), np.uint8), 0, 0))
        for name, (w, h) in pixels.items()
    ]
    kept = [
        (item.category, part.area)
        for (item, region), (_, h) in zip(regions, pixels.values(), strict=True)
        for item, part in cut_objects([(item, region)], Window(0, 0, 8, h))
    ]
    assert kept == [("part of 10", 10), ("whole", 2)]
