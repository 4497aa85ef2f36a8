"""Names in pictures: which are written, where, and in which letters."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch

from pointrend_seg.data.classes import Classes, palette
from pointrend_seg.drawing import fonts
from pointrend_seg.drawing.fonts import find_font
from pointrend_seg.drawing.labels import Label, drawn_name, numbered_names, write_labels
from pointrend_seg.drawing.predictions import draw_classes, draw_instances
from pointrend_seg.structures.rle_masks import RleMasks

RED = np.array([200, 30, 30])


def classes(*names, ids=None):
    return Classes(names, palette(len(names)), ids or tuple(range(len(names))))


def has_color(picture, color):
    return (picture == color).all(-1).sum()


def squares(count, side, size):
    """Masks of squares in a grid, and an image of grey."""
    masks = np.zeros((count, *size), bool)
    per_row = size[1] // (side + 4)
    for k, mask in enumerate(masks):
        y, x = divmod(k, per_row)
        mask[2 + y * (side + 4) :, 2 + x * (side + 4) :][:side, :side] = True
    return np.full((*size, 3), 128, np.uint8), masks


def labelled(image, masks, names):
    """The objects whose name is written: their colour changes within the mask."""
    count = len(masks)
    options = (image, masks, np.zeros(count, int), np.full(count, 0.5), classes("nucleus"))
    with_names, without = (draw_instances(*options, names=flag) for flag in (True, False))
    changed = (with_names != without).any(-1)
    return sum((changed & mask).any() for mask in masks), changed.mean()


def test_few_objects_have_their_names_however_small_they_are():
    found, _ = labelled(*squares(3, 12, (200, 200)), ("nucleus",))
    assert found == 3


def test_many_small_objects_have_none():
    found, share = labelled(*squares(300, 14, (512, 512)), ("nucleus",))
    assert found == 0 and share == 0


def test_many_large_objects_have_theirs_and_none_lies_on_another():
    image, masks = squares(25, 96, (512, 512))
    labels = [Label("nucleus", (50 + 100 * (k % 5), 50 + 100 * (k // 5)), (96, 96), RED)
              for k in range(25)]  # fmt: skip
    twice = [label for label in labels for _ in range(2)]
    assert has_color(write_labels(image, twice), RED) == has_color(write_labels(image, labels), RED)
    found, _ = labelled(image, masks, ("nucleus",))
    assert found == 25


def test_a_name_stays_inside_of_the_picture():
    image = np.full((60, 80, 3), 255, np.uint8)
    for position in ((0, 0), (79, 59), (0, 59), (79, 0)):
        picture = write_labels(image, [Label("a name that is too long", position, (9, 9), RED)])
        rows, columns = np.nonzero((picture == RED).all(-1))
        assert np.ptp(rows) > 8 and np.ptp(columns) > 60


def test_letters_of_other_scripts():
    assert find_font("Straße naïve", 12) is not None
    for name in ("дорога", "Ελλάδα"):  # DejaVu Sans comes with matplotlib
        font = find_font(name, 12)
        assert bytes(font.getmask(name[0])) != bytes(font.getmask("\U0010ffff"))


@pytest.fixture
def no_fonts(monkeypatch):
    """A machine with the font of Pillow alone."""
    monkeypatch.setattr(fonts, "_font_files", list)
    fonts._file_with.cache_clear()
    yield
    fonts._file_with.cache_clear()


def test_names_that_no_font_has_are_numbers_with_a_legend(no_fonts):
    found = classes("road", "道路", "tree", ids=(3, 7, 11))
    assert find_font("道路", 12) is None
    assert [drawn_name(found, k) for k in range(3)] == ["road", "#7", "tree"]
    note = numbered_names(found)
    assert "1 class name(s)" in note and ": #7 道路." in note and "road" not in note
    assert numbered_names(classes("road", "tree")) == ""
    image, masks = squares(1, 60, (100, 100))
    options = (image, masks, np.array([1]), np.array([0.5]))
    digits = classes("road", "#7")  # the same picture: no box in place of a letter
    assert np.array_equal(draw_instances(*options, found), draw_instances(*options, digits))


def test_right_to_left_needs_a_shaper(monkeypatch):
    monkeypatch.setattr(fonts.features, "check", lambda name: False)
    assert find_font("שלום", 12) is None and find_font("road", 12) is not None


def test_long_names_are_cut():
    name = drawn_name(classes("a" * 80), 0)
    assert len(name) == 28 and name.endswith("…")


@pytest.mark.parametrize(("names", "is_plain"), [
    (("background", "cell"), True), (("_background_", "cell", "wall"), True),
    (("sky", "road"), False),
])  # fmt: skip
def test_background_is_not_tinted(names, is_plain):
    image = np.full((60, 80, 3), 200, np.uint8)
    class_map = np.zeros((60, 80), int)
    class_map[20:40, 20:40] = 1
    picture = draw_classes(image, class_map, classes(*names), names=True)
    assert ((picture[:10] == 200).all() and (picture[50:] == 200).all()) == is_plain
    assert (picture[25:35, 25:35] != 200).any()


def test_objects_may_have_given_colors():
    image, masks = squares(2, 30, (64, 96))
    colors = np.array([[1, 2, 3], [250, 2, 3]])
    options = (image, masks, np.zeros(2, int), np.array([0.9, 0.5]), classes("a"))
    picture = draw_instances(*options, colors=colors, names=False)
    for mask, color in zip(masks, colors, strict=True):
        assert (picture[mask] == color).all(-1).any()
        assert (picture[mask] == colors[::-1][0]).all(-1).any() == (color == colors[::-1][0]).all()


def test_compact_masks_are_drawn_as_arrays_are():
    image, masks = squares(7, 30, (100, 150))
    masks[3] = False
    pixels = torch.from_numpy(masks)
    rles = [mask_util.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    compact = RleMasks([{**r, "counts": r["counts"].decode()} for r in rles], (100, 150))
    options = (np.zeros(7, int), np.linspace(0.1, 0.9, 7), classes("nucleus"))
    assert compact.shape == pixels.shape
    expected = draw_instances(image, masks, *options)
    assert np.array_equal(draw_instances(image, compact, *options), expected)
    assert (expected != image).any()
