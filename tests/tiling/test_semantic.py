"""The logits of tiles are blended: against the plain sum over the whole image, and no seam."""

import numpy as np
import pytest
import torch
from torch import nn

from pointrend_seg.tiling.layout import TileGrid, blending_weights
from pointrend_seg.tiling.semantic import ClassBlender


def blend(grid, tiles):
    blender = ClassBlender(grid, len(tiles[0]))
    for tile in tiles:
        blender.add(tile.clone())
    return blender.classes


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize(
    ("height", "width", "size", "overlap"),
    [
        (100, 130, 32, 8),
        (33, 200, 32, 16),
        (65, 64, 32, 16),
        (97, 33, 32, 0),
        (20, 30, 32, 8),
        (20, 99, 32, 8),
    ],
)
def test_a_rolling_strip_gives_what_the_whole_image_does(channels, height, width, size, overlap):
    grid = TileGrid.cover(height, width, size, overlap)
    generator = torch.Generator().manual_seed(0)
    tiles, whole = [], torch.zeros(channels, height, width, dtype=torch.float64)
    weights = blending_weights(grid.rows), blending_weights(grid.columns)
    for k, (x0, y0, x1, y1) in enumerate(grid.boxes()):
        row, column = divmod(k, len(grid.columns))
        tiles.append(torch.randn(channels, y1 - y0, x1 - x0, generator=generator))
        weight = torch.from_numpy(weights[0][row][:, None] * weights[1][column])
        whole[:, y0:y1, x0:x1] += weight * tiles[-1]
    expected = whole.argmax(0) if channels > 1 else (whole[0] > 0).long()
    found = blend(grid, tiles)
    assert found.dtype == np.uint8 and np.array_equal(found, expected.numpy())


def test_a_local_model_gives_the_same_classes_tiled_and_whole():
    """Away from the image's border, where it sees padding of its own."""
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)]
    model, image = nn.Sequential(*convolutions), torch.randn(3, 150, 170)
    with torch.no_grad():
        whole = model(image[None])[0].argmax(0).numpy()
        grid = TileGrid.cover(150, 170, 64, 24)
        parts = [image[:, y0:y1, x0:x1] for x0, y0, x1, y1 in grid.boxes()]
        tiled = blend(grid, [model(part[None])[0] for part in parts])
    # only pixels 2 from a tile's border have seen padding, and there the tile hardly counts
    assert (tiled != whole).mean() < 0.002
    inner = np.ones_like(whole, bool)
    for (y0, y1), (x0, x1) in zip(grid.rows, grid.columns, strict=False):
        inner[[y0, y0 + 1, y1 - 2, y1 - 1]] = inner[:, [x0, x0 + 1, x1 - 2, x1 - 1]] = False
    inner[:, [grid.columns[-1][0], grid.columns[-1][0] + 1]] = False
    assert np.array_equal(tiled[inner], whole[inner])


def test_tiles_that_disagree_fade_into_one_another():
    """The outline of two classes runs smoothly from where one tile has it to where the other has.

    A step at a tile's border would be as large as the tiles' disagreement.
    """
    grid = TileGrid.cover(64, 96, 64, 32)
    y = torch.arange(64.0)[:, None]
    # each tile has the outline at another height: 20 and 44
    tiles = [torch.stack([y - at, at - y]).expand(2, 64, 64) for at in (20.0, 44.0)]
    outline = (blend(grid, tiles) == 1).sum(0)
    assert outline[0] == pytest.approx(20, abs=1) and outline[-1] == pytest.approx(44, abs=1)
    assert np.abs(np.diff(outline)).max() <= 2


def test_more_classes_than_a_byte_holds():
    logits = torch.zeros(300, 4, 5)
    logits[299] = 1
    found = blend(TileGrid.cover(4, 5, 8, 2), [logits])
    assert found.dtype == np.uint16 and (found == 299).all()


def test_memory_does_not_grow_with_the_height():
    grid = TileGrid.cover(640, 64, 32, 8)
    blender = ClassBlender(grid, 3)
    for _ in range(len(grid) // 2):
        blender.add(torch.zeros(3, 32, 32))
    held = [value for value in vars(blender).values() if isinstance(value, torch.Tensor)]
    assert sum(value.numel() for value in held) <= 3 * (2 * 16 * 64 + 32 * 32)
