"""Pixels of more than 8 bits become 0..255 by a rule, the same whatever holds them."""

import numpy as np
import pytest

from pointrend_seg.config.pixel_range import fixed_range
from pointrend_seg.data.images.reader import ImageReader
from pointrend_seg.data.images.scaling import to_uint8, value_range
from pointrend_seg.errors import InputError

RAMP = np.arange(1001).reshape(7, 143)  # percentiles 1 and 99.8 are 10 and 998
KINDS = ("uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64", "float16")


@pytest.mark.parametrize("kind", KINDS)
def test_percentiles_do_not_depend_on_the_type(kind):
    values = RAMP.astype(kind)
    assert value_range(values) == (10, 998)
    scaled = to_uint8(values, (10, 998))
    expected = np.rint((RAMP - 10.0) * 255 / 988).clip(0, 255).astype(np.uint8)
    assert scaled.dtype == np.uint8 and np.array_equal(scaled, expected)
    assert scaled.flat[10] == 0 and scaled.flat[11] == 0 and scaled.flat[998] == 255


def test_percentiles_are_those_of_all_channels():
    values = np.stack([RAMP, RAMP + 1001, RAMP + 2002], axis=2).astype(np.uint16)
    assert value_range(values) == (30, 2996)


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "float32"])
def test_grey_as_three_channels_is_scaled_alike(kind):
    values = np.random.default_rng(0).normal(0, 50, (31, 17)).astype(kind)
    assert value_range(values) == value_range(np.stack([values] * 3, axis=2))


@pytest.mark.parametrize("kind", ["int8", "int16", "int32", "float32"])
def test_negative_values(kind):
    values = np.array([[-100, -50, 0, 50, 100]], kind)
    assert value_range(values) == (-100, 100)
    assert to_uint8(values, (-100, 100)).tolist() == [[0, 64, 128, 191, 255]]


@pytest.mark.parametrize("kind", ["uint16", "float32"])
def test_few_bright_pixels_are_not_lost(kind):
    values = np.full((100, 100), 7, kind)
    values[3, 4] = 900
    assert value_range(values) == (7, 900)


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32"])
@pytest.mark.parametrize(("value", "expected"), [(0, 0), (200, 200), (255, 255), (9000, 255)])
def test_an_image_of_one_value_keeps_it_clipped(kind, value, expected):
    values = np.full((3, 4), value, kind)
    assert value_range(values) is None
    assert ImageReader().scaled(values).tolist() == [[expected] * 4] * 3


def test_nan_and_infinity_do_not_count():
    values = RAMP.astype(np.float32)
    values.flat[[0, 1, 2]] = np.nan, np.inf, -np.inf
    low, high = value_range(values)
    assert (low, high) == (12, 999)
    assert to_uint8(values, (low, high)).flat[:3].tolist() == [0, 255, 0]
    assert to_uint8(np.full((2, 2), np.nan), None).tolist() == [[0, 0], [0, 0]]


def test_pixels_without_data_do_not_count():
    values = RAMP.astype(np.float64)
    values[:3] = -9999
    assert value_range(values)[0] == -9999
    low, high = value_range(values, nodata=-9999)
    assert low >= 429
    assert not to_uint8(values, (-20000, high), nodata=-9999)[:3].any()
    counts = np.where(RAMP < 500, 65535, RAMP).astype(np.uint16)
    assert value_range(counts, nodata=65535)[1] <= 1000
    assert not to_uint8(counts, (0, 1000), nodata=65535).flat[:500].any()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("uint16", (0, 65535)),
        ("int16", (-32768, 32767)),
        ("float32", (0, 1)),
        ("int8", (-128, 127)),
    ],
)
def test_full_range(kind, expected):
    assert value_range(np.zeros((2, 2), kind), "full") == expected


def test_fixed_range():
    assert fixed_range("0..4095") == (0, 4095) and fixed_range("-1.5..2e3") == (-1.5, 2000)
    for wrong in ("4095..0", "1..1", "0-4095", "..", "0..", "nan..1", "0..1e999", "percentile"):
        assert fixed_range(wrong) is None
    values = np.array([[0, 2048, 4095, 65535]], np.uint16)
    assert ImageReader("0..4095").scaled(values).tolist() == [[0, 128, 255, 255]]
    with pytest.raises(
        InputError, match="INPUT.PIXEL_RANGE is 'half'; it must be 'percentile', 'full'"
    ):
        ImageReader("half").scaled(values)


def test_8_bits_are_never_changed():
    values = np.arange(40, 60, dtype=np.uint8).reshape(4, 5)
    for rule in ("percentile", "full", "0..50"):
        assert ImageReader(rule).scaled(values) is values


def test_big_endian_and_views():
    values = RAMP.astype(">u2")[::-1, ::2]
    assert np.array_equal(
        ImageReader().scaled(values), ImageReader().scaled(values.astype(np.uint16).copy())
    )


def test_parts_of_an_image_scaled_with_its_range_are_those_of_the_whole():
    values = np.random.default_rng(0).normal(100, 30, (40, 50)).astype(np.float32)
    limits = value_range(values)
    whole = to_uint8(values, limits)
    assert np.array_equal(to_uint8(values[10:20, 5:25], limits), whole[10:20, 5:25])
