"""Read TIFF files of every depth and number of bands, with tifffile.

What tifffile needs imagecodecs for (LZW, JPEG, …) is decoded by OpenCV or Pillow where that package
is not installed.
"""

import functools
import io
import logging
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np
import tifffile
from PIL import Image

from ...errors import InputError
from .decoding import (
    UNREADABLE,
    decode_with_opencv,
    decode_with_pillow,
    open_with_pillow,
    turned,
)

P = ParamSpec("P")
T = TypeVar("T")
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong is raised as well

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ORIENTATION, _NODATA = 274, 42113
# What makes a TIFF a GeoTIFF: scale, tie points, transformation, keys, and the keys' values.
_GEOREFERENCE = (33550, 33922, 34264, 34735, 34736, 34737)
_OPENCV_READS = (1, 5, 7, 8, 32773, 32946)  # none, LZW, JPEG, deflate, PackBits, deflate
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE = 0, 1, 2, 3


def is_tiff(start: bytes) -> bool:
    """Tell whether a file begins like a TIFF or BigTIFF."""
    return start[:4] in _MAGIC


@dataclass(frozen=True)
class TiffPage:
    """A page of a TIFF file, as its tags describe it.

    Attributes:
        height, width: as stored, before the orientation is applied.
        bands: samples of a pixel.
        dtype: of a sample; None for one that NumPy does not have.
        orientation: of the EXIF standard, 1 to 8.
        nodata: the value of pixels without data (GDAL's tag), or None.
    """

    index: int
    height: int
    width: int
    bands: int
    dtype: np.dtype | None
    orientation: int
    nodata: float | None

    @property
    def is_8_bit(self) -> bool:
        return self.dtype is not None and self.dtype in (np.uint8, np.bool_)


def _decoder(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function raise `OSError` where tifffile or a codec raises anything else."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except (InputError, OSError, MemoryError):
            raise
        except Exception as error:
            is_clear = isinstance(error, tifffile.TiffFileError | zlib.error)
            raise OSError(str(error) if is_clear else "it is damaged") from error

    return wrapped


@_decoder
def read_pages(path: str) -> list[TiffPage]:
    """Describe the pages of a TIFF file, without thumbnails, overviews and masks."""
    with tifffile.TiffFile(path) as file:
        pages = [_describe(index, page) for index, page in enumerate(file.pages)]
    return [page for page in pages if page is not None]


def _describe(index: int, page: Any) -> TiffPage | None:
    page = page.aspage() if isinstance(page, tifffile.TiffFrame) else page
    if page.is_reduced or page.is_mask:
        return None
    orientation = page.tags.valueof(_ORIENTATION, 1)
    return TiffPage(
        index,
        *(page.imagelength, page.imagewidth, page.samplesperpixel),
        np.dtype(page.dtype) if page.dtype is not None else None,
        orientation if orientation in range(1, 9) else 1,
        _number(page.tags.valueof(_NODATA)),
    )


def _number(text: Any) -> float | None:
    try:
        return float(str(text).strip().strip("\0"))
    except ValueError:
        return None


def read_with_pillow(path: str, page: TiffPage) -> Image.Image | None:
    """Decode an 8-bit page with Pillow, as stored, not turned; None if Pillow cannot."""
    try:
        # Pillow would turn the page itself, and only pages of some modes.
        file = io.BytesIO(upright_bytes(path)) if page.orientation != 1 else path
        with open_with_pillow(file) as image:
            image.seek(page.index)
            image.load()
            return image if image.size == (page.width, page.height) else None
    except UNREADABLE:
        return None


@_decoder
def read_bands(path: str, page: TiffPage) -> np.ndarray:
    """Read the samples of a page, upright.

    Returns:
        (H, W, bands) of the page's dtype; the colours of palettes.

    Raises:
        InputError: the colours or the compression are not read.
    """
    with tifffile.TiffFile(path) as file:
        found = file.pages[page.index].aspage()
        photometric, bits = int(found.photometric), int(found.bitspersample)
        if photometric > _PALETTE and page.bands > 1:
            raise InputError(
                f"{path} has {page.dtype} pixels in {found.photometric.name}. Save it as RGB."
            )
        try:
            values = found.asarray()
            if page.bands > 1 and int(found.planarconfig) == 2:
                values = np.moveaxis(values.reshape(page.bands, page.height, page.width), 0, 2)
        except (ValueError, ImportError, NotImplementedError) as error:
            if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
                raise
            values = _decode_without_codecs(path, page, found)
        values = values.reshape(page.height, page.width, page.bands)
        if photometric == _MIN_IS_WHITE and np.issubdtype(page.dtype, np.unsignedinteger):
            values = np.array(2**bits - 1, page.dtype) - values
        if photometric == _PALETTE and found.colormap is not None:
            values = np.moveaxis(found.colormap[:, values[:, :, 0]], 0, 2)
    return turned(values, page.orientation)


def _decode_without_codecs(path: str, page: TiffPage, found: Any) -> np.ndarray:
    """Decode what tifffile needs imagecodecs for with OpenCV (the first page alone) or Pillow."""
    data = upright_bytes(path)
    is_known = found.compression in _OPENCV_READS  # of others it makes black images
    decoded = [decode_with_opencv(data) if is_known and not page.index else None]
    decoded.append(decode_with_pillow(data, page.index))
    for values in decoded:
        if values is None or values.size != page.height * page.width * page.bands:
            continue
        if values.dtype.newbyteorder("=") == page.dtype:
            return values
    raise InputError(
        f"{path} is compressed with {found.compression.name}, which needs the package imagecodecs "
        'for such pixels. Install it with: pip install "pointrend-seg[tiff]", or save the file '
        "with the compression deflate."
    )


def upright_bytes(path: str) -> bytes:
    """Return a TIFF file that says it is stored upright, so that no decoder turns it."""
    with tifffile.TiffFile(path) as file:
        byteorder = file.byteorder
        places = [
            page.tags[_ORIENTATION].valueoffset
            for page in (each.aspage() for each in file.pages)
            if _ORIENTATION in page.tags
        ]
    with open(path, "rb") as opened:
        data = bytearray(opened.read())
    for place in places:
        struct.pack_into(f"{byteorder}H", data, place, 1)
    return bytes(data)


def read_georeference(path: str) -> list[tuple]:
    """Return the georeference of a GeoTIFF.

    Returns:
        tags as `tifffile.imwrite(extratags=...)` takes them; empty for other files. They hold for
        an output of the same size.
    """
    try:
        with open(path, "rb") as opened:
            if not is_tiff(opened.read(4)):
                return []
        with tifffile.TiffFile(path) as file:
            page = file.pages[0].aspage()
            tags = [page.tags[code] for code in _GEOREFERENCE if code in page.tags]
            return [
                (
                    tag.code,
                    int(tag.dtype),
                    len(tag.value) + 1 if isinstance(tag.value, str) else tag.count,
                    tag.value,
                    True,
                )
                for tag in tags
            ]
    except Exception:  # tifffile raises anything for broken files
        return []
