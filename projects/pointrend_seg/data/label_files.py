"""Read label images exactly: their numbers as the file stores them, with palettes and colours.

Pillow and OpenCV scale, cut or invert the values of some files for display: grey PNGs of 2 and 4
bits, RGB PNGs of 16 bits, signed TIFFs. Here each file is read as written, or refused.
"""

from typing import NamedTuple

import cv2
import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageOps

from ..errors import InputError
from ..files.regular import check_regular
from .images.decoding import UNREADABLE, check_size, open_with_pillow, reason
from .problems import Problem

_GRAY_SCALES = {2: 85, 4: 17}  # by which Pillow multiplies grey values of so many bits
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 259, 262, 339  # TIFF tags
_LOSSY_TIFF = {6: "JPEG", 7: "JPEG", 34712: "JPEG 2000", 50001: "WebP", 50002: "JPEG XL"}
_SIGNED, _FLOAT = 2, 3
_MODES = ("1", "L", "P", "I", "F", "LA", "RGB", "RGBA")
_TIFF_MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class LabelPixels(NamedTuple):
    """The pixels of a label image.

    Attributes:
        values: H x W, integer: numbers, or indices of the palette; or H x W x 3, uint8: RGB.
        palette: K x 3, uint8, of a palette image; else None.
    """

    values: np.ndarray
    palette: np.ndarray | None = None


def read_label_file(label_file: str) -> LabelPixels | Problem:
    """Read a label image, upright if it has an EXIF orientation.

    Files of bits are read as 0 and 1, floats as integers if all are whole. The alpha channel is
    left out if it is opaque, or 0 in places.
    """
    try:
        check_regular(label_file, "label file")
        with PathManager.open(label_file, "rb") as file:
            head = file.read(32)
            file.seek(0)
            try:
                image = open_with_pillow(file)
            except Image.UnidentifiedImageError:
                if not head.startswith(_TIFF_MARKS):
                    raise
                file.seek(0)
                return _read_with_opencv(file.read(), label_file)
            with image:
                check_size(label_file, image.height, image.width)
                if _bits(head, image) == 16 and image.mode in ("LA", "RGB", "RGBA"):
                    file.seek(0)  # Pillow would drop 8 bits
                    return _read_with_opencv(file.read(), label_file)
                return _read(image, head, label_file)
    except FileNotFoundError:
        found = f"The label file {label_file} does not exist"
        fix = "Complete the data set's copy (is DETECTRON2_DATASETS right?)."
    except InputError as error:
        found, fix = str(error).partition(". ")[::2]
    except (*UNREADABLE, cv2.error) as error:
        found = f"The label file {label_file} cannot be read: {reason(error)}"
        fix = "The file could not be decoded; export it again as PNG."
    return Problem("unreadable-labels", found, fix)


def read_palette(label_file: str) -> np.ndarray | None:
    """Return the palette of a label image, K x 3, uint8; None if it has none or is unreadable."""
    try:
        check_regular(label_file, "label file")
        with PathManager.open(label_file, "rb") as file, open_with_pillow(file) as image:
            return _palette(image)
    except (InputError, *UNREADABLE):
        return None


def _palette(image: Image.Image) -> np.ndarray | None:
    table = image.getpalette("RGB") if image.mode == "P" else None
    return None if table is None else np.array(table, np.uint8).reshape(-1, 3)


def _read(image: Image.Image, head: bytes, label_file: str) -> LabelPixels | Problem:
    tags = getattr(image, "tag_v2", {})
    lossy = _lossy_format(image, head)
    if lossy:
        found = f"{label_file} is compressed by {lossy}, which changes the values of pixels"
        return Problem("lossy-labels", found)
    pages, bits = getattr(image, "n_frames", 1), _bits(head, image)
    if pages > 1:
        return _refused(label_file, f"has {pages} pages or frames")
    image.load()
    image = ImageOps.exif_transpose(image)
    mode = image.mode
    if mode.partition(";")[0] not in _MODES:
        return _refused(label_file, f"is of the mode {mode}")
    values = np.asarray(image)
    if mode in ("LA", "RGBA"):
        return _without_alpha(values, label_file)
    if mode == "L":
        if bits in _GRAY_SCALES:
            values = values // _GRAY_SCALES[bits]
        if tags.get(_PHOTOMETRIC) == 0:
            return _refused(label_file, "stores its values inverted (WhiteIsZero)")
        if tags.get(_SAMPLE_FORMAT, (0,))[0] == _SIGNED:
            values = values.view(np.int8)
    if mode == "I" and tags.get(_SAMPLE_FORMAT, (_SIGNED,))[0] not in (_SIGNED, _FLOAT):
        values = values.view(np.uint32)
    if mode == "F":
        return _whole(values, label_file)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    return LabelPixels(values, _palette(image))


def _lossy_format(image: Image.Image, head: bytes) -> str:
    if image.format in ("JPEG", "MPO", "JPEG2000", "AVIF", "HEIF", "JXL"):
        return str(image.format)
    if image.format == "WEBP" and b"VP8L" not in head:
        return "WebP (lossy)" if b"VP8 " in head else "WebP"
    return _LOSSY_TIFF.get(getattr(image, "tag_v2", {}).get(_COMPRESSION, 1), "")


def _bits(head: bytes, image: Image.Image) -> int:
    """Return the bits of a channel of a PNG or TIFF; 8 for other formats and for palettes."""
    if head.startswith(b"\x89PNG"):
        bits, color_type = head[24], head[25]
        return 8 if color_type == 3 else bits
    tags = getattr(image, "tag_v2", {})
    return max(tags.get(_BITS, (8,))) if tags.get(_PHOTOMETRIC) != 3 else 8


def _read_with_opencv(content: bytes, label_file: str) -> LabelPixels | Problem:
    """Read a file that Pillow does not read exactly: 64-bit floats, colours of 16 bits."""
    values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("neither Pillow nor OpenCV can decode it")
    if values.ndim == 2:
        if np.issubdtype(values.dtype, np.floating):
            return _whole(values, label_file)
        return LabelPixels(values)
    if values.dtype != np.uint16 or values.shape[2] not in (3, 4):
        return _refused(label_file, f"has {values.shape[2]} channels of {values.dtype}")
    values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    if (values % 257).any():
        return _refused(label_file, f"has {values.shape[2]} channels of 16 bits")
    values = (values // 257).astype(np.uint8)
    return _without_alpha(values, label_file) if values.shape[2] == 4 else LabelPixels(values)


def _without_alpha(values: np.ndarray, label_file: str) -> LabelPixels | Problem:
    alpha = values[..., -1]
    if not alpha.any():
        return _refused(label_file, "is transparent everywhere")
    if alpha.min() != alpha.max() and ((alpha > 0) & (alpha < 255)).any():
        return _refused(label_file, "has pixels that are partly transparent, as smoothed edges are")
    values = values[..., :-1]
    return LabelPixels(values[..., 0] if values.shape[2] == 1 else values)


def _whole(values: np.ndarray, label_file: str) -> LabelPixels | Problem:
    """Return floats as integers; refuse fractions, NaN and numbers beyond 32 bits."""
    good = np.isfinite(values) & (np.abs(values) < 2**31)
    good &= values == np.floor(values)
    if not good.all():
        found = f"{label_file} has the value {values[~good][0]:g}, but labels are whole numbers"
        return Problem("label-value", found, "Save the labels as integers, in a PNG.")
    return LabelPixels(values.astype(np.int64))


def _refused(label_file: str, found: str) -> Problem:
    fix = "Save the labels as a PNG of one channel, or of opaque RGB colours."
    return Problem("label-value", f"{label_file} {found}", fix)
