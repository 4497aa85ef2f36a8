"""Pictures of what PointRend does. Every function returns arrays: RGB, (H, W, 3), uint8.

Shape shorthand: H, W size of an image; C classes; P points.
"""

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont


def color_classes(classes: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """A class map (H, W) in colours.

    Args:
        colors: (C, 3) RGB; values of ``classes`` beyond C, such as the ignored one, are black.
    """
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(colors)] = colors
    return table[classes.astype(np.uint8)]


def draw_points(image: np.ndarray, points: np.ndarray, color=(255, 40, 40)) -> np.ndarray:
    """Mark places (P, 2), (x, y) in pixels, in a copy of an image: a pixel each."""
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
    """Find the window in which the refined prediction mends the most pixels of the coarse one.

    Args:
        labels, coarse, refined: (H, W) int, class numbers.
        size: height and width of the window, in pixels; at most those of the image are taken.

    Returns:
        rows and columns of the window, to index an image with.
    """
    gain = (refined == labels).astype(np.float32) - (coarse == labels)
    gain[labels == ignore_value] = 0
    height, width = np.minimum(size, labels.shape).tolist()
    sums = cv2.boxFilter(gain, -1, (width, height), anchor=(0, 0), normalize=False)
    sums = sums[: labels.shape[0] - height + 1, : labels.shape[1] - width + 1]
    top, left = (int(i) for i in np.unravel_index(sums.argmax(), sums.shape))
    return slice(top, top + height), slice(left, left + width)


def enlarge(image: np.ndarray, height: int) -> np.ndarray:
    """Scale to a height by repeating pixels, so that their edges can be seen."""
    width = round(image.shape[1] * height / image.shape[0])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST)


def tile(rows: list[list[np.ndarray]], titles: list[str], margin: int = 6) -> np.ndarray:
    """Pictures in a table with a title over each column.

    Args:
        rows: as many pictures in each row as there are titles; in a row all of one height, in a
            column all of one width.
    """
    font = ImageFont.load_default(size=15)
    head = 26
    widths = [picture.shape[1] for picture in rows[0]]
    heights = [row[0].shape[0] for row in rows]
    size = (
        sum(widths) + margin * (len(widths) + 1),
        head + sum(heights) + margin * len(heights),
    )
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    left = margin
    for column, title in enumerate(titles):
        draw.text((left, 5), title, fill="black", font=font)
        top = head
        for row, height in zip(rows, heights, strict=True):
            canvas.paste(Image.fromarray(row[column]), (left, top))
            top += height + margin
        left += widths[column] + margin
    return np.asarray(canvas)


def draw_masks(image: np.ndarray, masks: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Masks in colours over a copy of an image, each with its outline.

    Args:
        masks: (N, H, W), bool; later ones lie over earlier ones.
        colors: (N, 3) RGB, 0 to 255.
    """
    picture = image.astype(np.float32)
    for mask, color in zip(masks, colors, strict=True):
        inside = mask.astype(np.uint8)
        outline = inside > cv2.erode(inside, np.ones((3, 3), np.uint8))
        picture[mask] = 0.45 * picture[mask] + 0.55 * np.asarray(color)
        picture[outline] = color
    return picture.astype(np.uint8)


def largest_mask_gain(
    truth: np.ndarray, before: np.ndarray, after: np.ndarray, margin: int = 8
) -> tuple[slice, slice]:
    """The window around the object whose mask gets better the most, in IoU.

    Args:
        truth, before, after: (N, H, W) bool masks of the objects and of two predictions, each with
            a number of masks of its own; the best of them counts for an object.
        margin: pixels around the object.

    Returns:
        rows and columns of a window with the proportions of the image; of the whole image where
        nothing gets better.
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
