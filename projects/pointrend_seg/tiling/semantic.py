"""Blend the logits of tiles into one class map, holding only what is not final yet.

Shapes:
    C: number of channels, H, W: of the image, h, w: of a tile
"""

import numpy as np
import torch
from torch import Tensor

from .layout import TileGrid, blending_weights


class ClassBlender:
    """Collect the logits of tiles, in the order of the grid, and decide each pixel's class.

    The logits of a pixel are the weighted mean of those of the tiles that cover it. A pixel is
    decided as soon as no later tile covers it. Until then its sum waits: in the columns that the
    next tile covers as well, and in the rows that the next row of tiles covers as well, across the
    image. So the memory is C x overlap x W, and one byte for each pixel.

    Example:
        >>> grid = TileGrid.cover(1, 5, size=3, overlap=1)
        >>> blender = ClassBlender(grid, channels=2)
        >>> blender.add(torch.tensor([[[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]]))
        >>> blender.add(torch.tensor([[[4.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]]))
        >>> blender.classes.tolist()
        [[1, 1, 0, 1, 1]]
    """

    def __init__(self, grid: TileGrid, channels: int):
        """
        Args:
            grid: the tiles.
            channels: C; with one, class 1 is where the logit is above 0.
        """
        self.grid, self.channels = grid, channels
        height, width = grid.rows[-1][1], grid.columns[-1][1]
        self.classes = np.zeros((height, width), np.uint8 if channels <= 256 else np.uint16)
        self._weights = blending_weights(grid.rows), blending_weights(grid.columns)
        self._number = 0
        self._below = torch.zeros(channels, 0, width)  # sums of rows that the next row covers
        self._right = torch.zeros(channels, 0, 0)  # sums of columns that the next tile covers

    def add(self, logits: Tensor) -> None:
        """Add the next tile.

        Args:
            logits: C x h x w of the tile; changed in place where it is float32 on the CPU.
        """
        row, column = divmod(self._number, len(self.grid.columns))
        self._number += 1
        (y0, y1), (x0, x1) = self.grid.rows[row], self.grid.columns[column]
        rows, columns = self._weights[0][row], self._weights[1][column]
        sums = logits.detach().to("cpu", torch.float32)
        sums *= torch.from_numpy(rows[:, None] * columns)
        if column == 0:
            self._above, self._below = self._below, self._rows_below(row)
        else:
            sums[:, :, : self._right.shape[2]] += self._right
        is_last = column + 1 == len(self.grid.columns)
        stop = x1 if is_last else self.grid.columns[column + 1][0]
        self._right = sums[:, :, stop - x0 :].clone()
        # What is left of `stop` has the sum of this row of tiles; add that of the rows above.
        sums = sums[:, :, : stop - x0]
        sums[:, : self._above.shape[1]] += self._above[:, :, x0:stop]
        waiting = self._below.shape[1]
        self._below[:, :, x0:stop] = sums[:, y1 - y0 - waiting :]
        decided = sums[:, : y1 - y0 - waiting]
        if decided.shape[1]:
            classes = decided.argmax(0) if self.channels > 1 else decided[0] > 0
            self.classes[y0 : y1 - waiting, x0:stop] = classes.numpy()

    def _rows_below(self, row: int) -> Tensor:
        """Return room for the sums of the rows that are also in the next row of tiles."""
        (_, stop), is_last = self.grid.rows[row], row + 1 == len(self.grid.rows)
        height = 0 if is_last else stop - self.grid.rows[row + 1][0]
        return torch.zeros(self.channels, height, self.classes.shape[1])
