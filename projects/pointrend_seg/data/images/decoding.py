"""Decode image files with Pillow and OpenCV: what each returns, before any scaling."""

import io
import os
import struct
import threading
import warnings
import zlib
from typing import IO, Any

import cv2
import numpy as np
from detectron2.data import detection_utils
from PIL import Image, UnidentifiedImageError

from ...errors import InputError

# What a folder is searched for. Files of other types are read where they are named.
IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".tif", ".tiff", ".webp"),
    *(".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".tga", ".hdr"),
    *(".avif", ".heic", ".heif"),
)
MAX_PIXELS = 2**28  # the default of INPUT.MAX_PIXELS, and the limit of label images
# What Pillow's decoders raise for broken files
UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError, MemoryError),
    *(ArithmeticError, AttributeError, LookupError, TypeError, struct.error, zlib.error),
    *(RuntimeError, NotImplementedError, AssertionError),
)
# Formats with frames. Others with several images in a file (MPO, ICO, PSD, …) hold one picture.
_WITH_FRAMES = ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
_ORIENTATION = 274
# By the EXIF orientation: whether rows become columns first, and what is then mirrored.
_TURNS: dict[int, tuple[bool, Any]] = {
    2: (False, np.s_[:, ::-1]),
    3: (False, np.s_[::-1, ::-1]),
    4: (False, np.s_[::-1]),
    5: (True, np.s_[:]),
    6: (True, np.s_[:, ::-1]),
    7: (True, np.s_[::-1, ::-1]),
    8: (True, np.s_[::-1]),
}
_METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_LOCK = threading.Lock()


def open_with_pillow(file: str | os.PathLike | IO[bytes]) -> Image.Image:
    """Open an image file, also one with more pixels than Pillow's own limit allows."""
    with _LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def check_size(path: str, height: int, width: int, max_pixels: int = MAX_PIXELS) -> None:
    """Check that an image has pixels, and not more than ``INPUT.MAX_PIXELS``.

    Raises:
        InputError: it is too large; the message names `path`.
        OSError: it has no pixels.
    """
    if height * width == 0:
        raise OSError("it has no pixels")
    if height * width > max_pixels:
        raise InputError(
            f"{path} is {width} x {height} pixels, more than INPUT.MAX_PIXELS ({max_pixels}) "
            "allows. Split the image, or raise INPUT.MAX_PIXELS if the memory is enough."
        )


def reason(error: BaseException) -> str:
    """Return in words why an image cannot be decoded.

    Args:
        error: one of `UNREADABLE`.
    """
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, UnidentifiedImageError):
        return "its contents are not those of an image"
    is_clear = isinstance(error, OSError | SyntaxError | EOFError | zlib.error) and str(error)
    return str(error) if is_clear else "it is damaged"  # what a decoder stumbled over


def count_frames(image: Image.Image) -> int:
    """Return the number of frames of an opened image; 1 for a single picture."""
    return getattr(image, "n_frames", 1) if image.format in _WITH_FRAMES else 1


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1 to 8; 1 if it cannot be read."""
    try:
        found = image.getexif().get(_ORIENTATION)
    except Exception:  # Pillow raises anything for broken EXIF data
        return 1
    return found if found in _TURNS else 1


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image upright.

    Args:
        values: (H, W, ...).
        orientation: of the EXIF standard; 1 is upright.
    """
    if orientation not in _TURNS:
        return values
    swap, mirror = _TURNS[orientation]
    return (values.swapaxes(0, 1) if swap else values)[mirror]


def turned_image(image: Image.Image, orientation: int) -> Image.Image:
    """Return a loaded image upright."""
    method = _METHODS.get(orientation)
    return image if method is None else image.transpose(method)


def has_8_bits(image: Any) -> bool:
    """Tell whether Pillow reads an image as it is stored, with 8 bits or fewer per sample.

    Pillow reads grey images of more bits in full (modes I and F), and of colour images the upper 8
    bits, which only the format's own name for the pixels shows.
    """
    if image.mode[0] in "IF":
        return False
    if image.format == "JPEG2000":
        return _jpeg_2000_bits(image) <= 8
    arguments = image.tile[0].args if image.tile else None
    if image.format == "PPM" and isinstance(arguments, tuple):
        return arguments[-1] <= 255
    raw_mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return not (isinstance(raw_mode, str) and ";16" in raw_mode)


def _jpeg_2000_bits(image: Any) -> int:
    file = image.fp
    place = file.tell()
    file.seek(0)
    start = file.read(2**16)
    file.seek(place)
    size_marker = start.find(b"\xff\x4f\xff\x51") + 2
    sample = start[size_marker + 40 : size_marker + 41]  # the first component's
    return (sample[0] & 0x7F) + 1 if size_marker > 1 and sample else 8


def decode_with_pillow(data: bytes, frame: int = 0) -> np.ndarray | None:
    """Decode with Pillow; None if it cannot, or reads 8 of more bits."""
    try:
        with open_with_pillow(io.BytesIO(data)) as image:
            image.seek(frame)
            return np.asarray(image) if has_8_bits(image) or image.mode[0] in "IF" else None
    except UNREADABLE:
        return None


def decode_with_opencv(data: bytes) -> np.ndarray | None:
    """Decode with OpenCV at the depth that is stored, not turned; None if it cannot.

    Returns:
        (H, W) or (H, W, C), in the order RGB or RGBA.
    """
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if values is None or values.ndim < 3 or values.shape[2] < 3:
        return values
    return values[:, :, [2, 1, 0, *range(3, values.shape[2])]]


def as_color(values: np.ndarray, image_format: str) -> np.ndarray:
    """Return grey or RGB pixels, (H, W) or (H, W, 3), as "RGB" or "BGR", (H, W, 3)."""
    if values.ndim == 2:
        return np.repeat(values[:, :, None], 3, axis=2)
    return values[:, :, ::-1] if image_format == "BGR" else values


def converted(image: Image.Image, image_format: str | None) -> np.ndarray:
    """Convert a decoded image as `detectron2.data.detection_utils.read_image` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transparent palettes: their colours count
        return detection_utils.convert_PIL_to_numpy(image, image_format)
