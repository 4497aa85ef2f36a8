"""Reading maps as rows, against `sample_points`, and its adjoint against autograd."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from mask_inputs import Allocated, seeded
from pointrend_seg.modeling.readers.fast.rows import (
    MapPlanes,
    RowTable,
    add_to_rows,
    as_rows,
    interpolation_weights,
    neighbours,
    open_map,
)
from pointrend_seg.points.interpolation import sample_points

STRIDE = 4
SIZES = [(6, 9), (9, 6), (1, 1), (1, 7), (5, 1), (25, 38)]
PADDINGS = ["zeros", "border"]
# From one channel to more than a vector register, and where planes are read one by one.
WIDTHS = [1, 3, 64, 70]


def a_map(size, width, dtype=torch.float32):
    return torch.randn(width, *size, generator=seeded()).to(dtype)


def some_points(size, number=600, dtype=torch.float32):
    """In and around a map, far away, at its very edges and corners, and at centres of cells."""
    extent = torch.tensor([size[1] * STRIDE, size[0] * STRIDE], dtype=dtype)
    points = torch.rand(number, 2, generator=seeded()).to(dtype) * 1.4 - 0.2
    special = [[0, 0], [1, 1], [0, 1], [1, 0.5], [0.5, 0], [-90, 0.5], [0.3, 1e4], [-1e6, 1e6]]
    points[: len(special)] = torch.tensor(special, dtype=dtype)
    points = points * extent
    centres = points[20:120].div(STRIDE).floor() * STRIDE + STRIDE / 2
    points[20:120], points[120:150] = centres, points[120:150].round()
    return points


def wanted(feature_map, points, padding_mode):
    height, width = feature_map.shape[-2:]
    coords = points / points.new_tensor([width * STRIDE, height * STRIDE])
    return sample_points(feature_map[None], coords[None], padding_mode=padding_mode)[0].t()


def row_table(feature_map, padding_mode):
    return RowTable(as_rows(feature_map), tuple(feature_map.shape[-2:]), STRIDE, padding_mode)


def planes(feature_map, padding_mode):
    return MapPlanes(feature_map, STRIDE, padding_mode)


# --- reading --------------------------------------------------------------------------------


def test_reading_by_hand():
    """A map of 2 x 2 cells of 4 pixels, with two channels; x first, channels beside one another."""
    feature_map = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[10.0, 20.0], [30.0, 40.0]]])
    expected = {
        (2.0, 2.0): [1, 10],
        (6.0, 2.0): [2, 20],
        (2.0, 6.0): [3, 30],
        (3.0, 2.0): [1.25, 12.5],
        (2.0, 3.0): [1.5, 15],
        (4.0, 4.0): [2.5, 25],
        (0.0, 2.0): [0.5, 5],
        (8.0, 8.0): [1, 10],
        (-2.0, 2.0): [0, 0],
    }
    points = torch.tensor(list(expected))
    for read in (row_table, planes):
        assert read(feature_map, "zeros").read(points).tolist() == list(expected.values())
    at_edge = {(0.0, 2.0): [1, 10], (8.0, 8.0): [4, 40], (-50.0, 90.0): [3, 30]}
    for read in (row_table, planes):
        values = read(feature_map, "border").read(torch.tensor(list(at_edge)))
        assert values.tolist() == list(at_edge.values())


@pytest.mark.parametrize("read", [row_table, planes])
@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_values_are_those_of_sample_points_to_the_bit(read, padding_mode, size):
    """In single precision; in double but for rounding."""
    points = some_points(size)
    for width in WIDTHS:
        feature_map = a_map(size, width)
        want = wanted(feature_map, points, padding_mode)
        got = read(feature_map, padding_mode).read(points)
        assert got.shape == (len(points), width) and got.dtype == torch.float32
        torch.testing.assert_close(got, want, atol=5e-7, rtol=0)
        # (Of a single channel the sum of four is taken in another order.)
        assert width == 1 or torch.equal(got, want), width
    feature_map, points = a_map(size, 70, torch.float64), some_points(size, dtype=torch.float64)
    want = wanted(feature_map, points, padding_mode)
    got = read(feature_map, padding_mode).read(points)
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("read", [row_table, planes])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_that_of_sample_points(read, dtype):
    """Summed in float32 and rounded once."""
    feature_map, points = a_map((6, 9), 70, dtype), some_points((6, 9))
    want = wanted(feature_map, points, "zeros")
    got = read(feature_map, "zeros").read(points)
    assert got.dtype == dtype and torch.equal(got, want)


def test_channels_last_maps_are_read_as_they_lie():
    plain = a_map((6, 9), 70)
    moved = plain[None].to(memory_format=torch.channels_last)[0]
    points = some_points((6, 9))
    assert type(open_map(plain, STRIDE, "zeros")) is MapPlanes
    with Allocated() as allocated:
        read = open_map(moved, STRIDE, "zeros")
    assert type(read) is RowTable and allocated.total == 0
    for padding_mode in PADDINGS:
        want = wanted(plain, points, padding_mode)
        assert torch.equal(open_map(plain, STRIDE, padding_mode).read(points), want)
        assert torch.equal(open_map(moved, STRIDE, padding_mode).read(points), want)


@given(
    st.lists(st.tuples(*[st.floats(width=32)] * 2), min_size=1, max_size=20),
    st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    st.sampled_from([1, 4, 32]),
    st.sampled_from(PADDINGS),
)
@example([(4096.0, 2048.0), (4094.0, 2046.0)], (512, 1024), torch.bfloat16, 4, "zeros")
@example([(float("nan"), 1.0), (float("inf"), -float("inf"))], (3, 4), torch.float32, 4, "border")
def test_neighbours_are_cells_that_are_there(points, size, dtype, stride, padding_mode):
    points = torch.tensor(points, dtype=torch.float64)
    points = torch.cat((points, points % 1 * torch.tensor([size[1], size[0]]) * stride)).to(dtype)
    cells, weights = neighbours(points, size, stride, padding_mode)
    assert cells.dtype == torch.int64 and cells.shape == weights.shape == (len(points), 4)
    assert (cells >= 0).all() and (cells < size[0] * size[1]).all()
    assert weights.dtype == torch.promote_types(dtype, torch.float32)
    assert weights.isfinite().all() and (weights >= 0).all()
    sums = weights.double().sum(1)
    assert (sums < 1 + 1e-5).all()
    if padding_mode == "border":
        assert (sums[points.isfinite().all(1)] > 1 - 1e-5).all()


def test_points_that_are_not_numbers_read_nothing():
    points = torch.tensor([[float("nan"), 1.0], [2.0, float("nan")], [2.0, float("inf")]])
    assert not row_table(a_map((6, 9), 3), "zeros").read(points).any()


def test_no_points():
    for read in (row_table, planes):
        assert read(a_map((3, 4), 5), "zeros").read(torch.zeros(0, 2)).shape == (0, 5)


# --- its adjoint ----------------------------------------------------------------------------


@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_adding_is_the_adjoint_of_reading(padding_mode, size):
    """<read(map), values> = <map, add(values)>, and what autograd makes of `sample_points`."""
    points, width = some_points(size, dtype=torch.float64), 5
    feature_map = a_map(size, width, torch.float64).requires_grad_()
    values = torch.randn(len(points), width, generator=seeded(1), dtype=torch.float64)
    read = wanted(feature_map, points, padding_mode)
    product = (read * values).sum()
    product.backward()
    table = torch.zeros(size[0] * size[1], width, dtype=torch.float64)
    add_to_rows(table, points, values, size, STRIDE, padding_mode)
    torch.testing.assert_close(table, as_rows(feature_map.grad), atol=1e-11, rtol=1e-11)
    torch.testing.assert_close((as_rows(feature_map) * table).sum(), product)


def test_adding_leaves_what_was_there():
    points, values = some_points((6, 9)), torch.randn(600, 3, generator=seeded())
    once, twice = torch.zeros(54, 3), torch.ones(54, 3)
    add_to_rows(once, points, values, (6, 9), STRIDE, "zeros")
    add_to_rows(twice, points, values, (6, 9), STRIDE, "zeros")
    torch.testing.assert_close(twice, once + 1)


def test_adding_values_in_half_precision():
    """The sums are taken in the precision of the table."""
    points = torch.full((5000, 2), 2.0)
    table = torch.zeros(54, 1)
    add_to_rows(table, points, torch.ones(5000, 1, dtype=torch.bfloat16), (6, 9), STRIDE, "zeros")
    assert table[0] == pytest.approx(5000) and table[1:].abs().max() < 0.01


# --- all cells of a small map ---------------------------------------------------------------


@pytest.mark.parametrize("padding_mode", PADDINGS)
@pytest.mark.parametrize("size", [(7, 7), (3, 5), (1, 1), (1, 4), (2, 1)], ids=str)
def test_interpolation_weights_read_what_sample_points_reads(padding_mode, size):
    coarse = torch.randn(4, 3, *size, generator=seeded())
    coords = (some_points(size, 4 * 60) / STRIDE / torch.tensor([size[1], size[0]])).view(4, 60, 2)
    weights = interpolation_weights(coords, size, padding_mode)
    assert weights.shape == (4, 60, size[0] * size[1])
    assert weights.min() >= 0 and weights.sum(2).max() <= 1 + 1e-6
    want = sample_points(coarse, coords, padding_mode=padding_mode)
    got = weights @ coarse.flatten(2).transpose(1, 2)
    torch.testing.assert_close(got.transpose(1, 2), want, atol=3e-6, rtol=0)
    if padding_mode == "border":
        torch.testing.assert_close(weights.sum(2), torch.ones(4, 60))
