"""Draw on arrays, and find what is worth enlarging. Pictures are RGB, (H, W, 3), uint8.

Shape legend: H, W size of an image; C classes; N masks; P points.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Left and top of a part of an image in pixels, and its mask (h, w), bool.
Crop = tuple[int, int, np.ndarray]


def color_classes(class_map: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Return a class map in the colours of its classes.

    Args:
        class_map: (H, W) integers, 0 to 255.
        colors: (C, 3) RGB; values of the map beyond C, such as the ignored one, are black.

    Example:
        >>> colors = np.array([[128, 64, 128], [70, 130, 180]], np.uint8)
        >>> color_classes(np.array([[0, 1, 255]]), colors).tolist()
        [[[128, 64, 128], [70, 130, 180], [0, 0, 0]]]
    """
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(colors)] = colors
    return table[class_map.astype(np.uint8)]


def draw_points(
    image: np.ndarray, points: np.ndarray, color: tuple[int, int, int] = (255, 40, 40)
) -> np.ndarray:
    """Return a copy of an image in which the pixel below each point has a colour.

    Args:
        image: (H, W, 3) RGB.
        points: (P, 2), (x, y) in pixels; those outside the image are left out.

    Example:
        >>> image = np.zeros((2, 3, 3), np.uint8)
        >>> draw_points(image, np.array([[1.5, 0.5]]))[0].tolist()
        [[0, 0, 0], [255, 40, 40], [0, 0, 0]]
    """
    picture = image.copy()
    column, row = np.floor(points).astype(int).T
    inside = (row >= 0) & (row < image.shape[0]) & (column >= 0) & (column < image.shape[1])
    picture[row[inside], column[inside]] = color
    return picture


def largest_gain(
    labels: np.ndarray,
    coarse: np.ndarray,
    refined: np.ndarray,
    size: tuple[int, int],
    ignore_value: int = 255,
) -> tuple[slice, slice]:
    """Find the window in which the refined prediction corrects the most pixels of the coarse one.

    Args:
        labels, coarse, refined: (H, W) class numbers.
        size: height and width of the window in pixels; at most those of the image are taken.

    Returns:
        rows and columns of the window, to index an image with.

    Example:
        >>> coarse = np.zeros((4, 6), int)
        >>> labels = np.eye(4, 6, dtype=int)
        >>> largest_gain(labels, coarse, labels, (2, 3))
        (slice(0, 2, None), slice(0, 3, None))
    """
    gain = (refined == labels).astype(np.float32) - (coarse == labels)
    gain[labels == ignore_value] = 0
    return densest_window(gain, size)


def densest_window(values: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """Find the window whose values have the largest sum.

    Args:
        values: (H, W), numbers or bool.
        size: height and width of the window in pixels; at most those of ``values`` are taken.

    Returns:
        rows and columns of the window; the first one of several.

    Example:
        >>> densest_window(np.diag([0, 0, 1, 1]), (2, 2))
        (slice(2, 4, None), slice(2, 4, None))
    """
    height, width = np.minimum(size, values.shape).tolist()
    sums = cv2.boxFilter(
        values.astype(np.float32), -1, (width, height), anchor=(0, 0), normalize=False
    )
    sums = sums[: values.shape[0] - height + 1, : values.shape[1] - width + 1]
    top, left = (int(i) for i in np.unravel_index(sums.argmax(), sums.shape))
    return slice(top, top + height), slice(left, left + width)


def enlarge(image: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """Scale an image to a height by repeating its pixels, so that their edges can be seen.

    Args:
        width: None for the one that keeps the proportions.

    Example:
        >>> enlarge(np.zeros((8, 10, 3), np.uint8), height=24).shape
        (24, 30, 3)
    """
    width = width or round(image.shape[1] * height / image.shape[0])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)


def tile(rows: list[list[np.ndarray]], titles: list[str], margin: int = 6) -> np.ndarray:
    """Arrange pictures in a table with a title over each column.

    Args:
        rows: as many pictures in each row as there are titles; those of a row have one height,
            those of a column one width.
        titles: of the columns.
        margin: pixels around each picture.

    Example:
        >>> picture = np.zeros((80, 100, 3), np.uint8)
        >>> tile([[picture, picture]], ["image", "prediction"]).shape
        (112, 218, 3)
    """
    beside = ((0, margin), (margin, 0), (0, 0))
    strips = [
        np.hstack([np.pad(each, beside, constant_values=255) for each in row]) for row in rows
    ]
    frame = ((26, 0), (0, margin), (0, 0))
    canvas = Image.fromarray(np.pad(np.vstack(strips), frame, constant_values=255))
    draw = ImageDraw.Draw(canvas)
    left = margin
    for title, picture in zip(titles, rows[0], strict=True):
        sizes = (size for size in range(15, 6, -1) if _title_width(title, size) <= picture.shape[1])
        font = ImageFont.load_default(size=next(sizes, 6))
        draw.text((left, 5), title, fill="black", font=font)
        left += picture.shape[1] + margin
    return np.asarray(canvas)


def _title_width(title: str, size: int) -> float:
    return ImageFont.load_default(size=size).getlength(title)


def draw_masks(
    image: np.ndarray, masks: Iterable[np.ndarray], colors: Iterable[np.ndarray]
) -> np.ndarray:
    """Return an image with coloured masks and their outlines over it.

    The outline is wider in large images, and narrow around small objects, which are also tinted
    less, so that they can be seen below their colour.

    Args:
        image: (H, W, 3) RGB.
        masks: (N, H, W) bool; later ones lie over earlier ones.
        colors: (N, 3) RGB, 0 to 255.

    Example:
        >>> image, masks = np.zeros((5, 5, 3), np.uint8), np.zeros((1, 5, 5), bool)
        >>> masks[0, 1:4, 1:4] = True
        >>> draw_masks(image, masks, np.array([[200, 0, 0]]))[2, :, 0].tolist()
        [0, 200, 60, 200, 0]
    """
    return draw_crops(image, mask_crops(masks), colors)


def draw_crops(
    image: np.ndarray, crops: Iterable[Crop], colors: Iterable[np.ndarray]
) -> np.ndarray:
    """Return an image with masks over it as `draw_masks` draws them.

    Args:
        image: (H, W, 3) RGB.
        crops: N masks, as `mask_crops` returns them.
        colors: (N, 3) RGB, 0 to 255.
    """
    picture = image.copy()
    for (x0, y0, inside), color in zip(crops, colors, strict=True):
        if not inside.size:
            continue
        window = picture[y0 : y0 + inside.shape[0], x0 : x0 + inside.shape[1]]
        side = float(np.sqrt(inside.sum()))
        width = min(outline_width(image.shape), 1 + int(side / 24))
        opacity = float(np.interp(side, (16, 80), (0.3, 0.55)))
        kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
        padded = np.pad(inside, width).astype(np.uint8)  # the image's edge is an outline, too
        eroded = cv2.erode(padded, kernel)[width:-width, width:-width]
        tinted = (1 - opacity) * window[inside] + opacity * np.asarray(color)
        window[inside] = tinted.astype(np.uint8)
        window[inside & (eroded == 0)] = color
    return picture


def outline_width(size: tuple[int, ...]) -> int:
    """Return how wide lines are in an image of a size (H, W, …), in pixels."""
    return int(np.clip(round(min(size[:2]) / 400), 1, 4))


def mask_crops(masks: Any) -> Iterator[Crop]:
    """Yield the smallest part of each mask that has all of it; an empty mask has no pixels.

    Args:
        masks: (N, H, W) bool, or compact masks that know their ``crops``, such as those of an image
            that was seen in tiles.
    """
    if hasattr(masks, "crops"):
        yield from masks.crops()
        return
    for mask in masks:
        rows, columns = bounding_box(mask) or (slice(0, 0), slice(0, 0))
        yield columns.start, rows.start, mask[rows, columns]


def bounding_box(mask: np.ndarray) -> tuple[slice, slice] | None:
    """Return rows and columns of the smallest box around a mask (H, W); None for an empty one."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return (slice(y, y + height), slice(x, x + width)) if width else None


def largest_mask_gain(
    truth: np.ndarray, before: np.ndarray, after: np.ndarray, margin: int = 8
) -> tuple[slice, slice]:
    """Find the window around the object whose mask improves most, in IoU.

    Args:
        truth, before, after: (N, H, W) bool masks of the objects and of two predictions; N of each
            is its own. The best mask of a prediction counts for an object.
        margin: pixels around the object.

    Returns:
        rows and columns of a window with the proportions of the image; of the whole image where
        nothing improves.
    """
    height, width = truth.shape[1:]
    gains = [_best_iou(mask, after) - _best_iou(mask, before) for mask in truth]
    if not gains or max(gains) <= 0:
        return slice(0, height), slice(0, width)
    rows, columns = np.nonzero(truth[int(np.argmax(gains))])
    tall = max(np.ptp(rows), np.ptp(columns) * height / width) + 2 * margin
    tall = min(height, round(tall))
    wide = min(width, round(tall * width / height))
    top = int(np.clip(rows.mean() - tall / 2, 0, height - tall))
    left = int(np.clip(columns.mean() - wide / 2, 0, width - wide))
    return slice(top, top + tall), slice(left, left + wide)


def _best_iou(mask: np.ndarray, predictions: np.ndarray) -> float:
    overlap = (predictions & mask).sum((1, 2)) / np.maximum((predictions | mask).sum((1, 2)), 1)
    return float(overlap.max(initial=0.0))
