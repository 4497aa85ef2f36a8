"""The one reader of images: training, checks, evaluation, pictures and prediction call it.

8-bit images are read as `detectron2.data.detection_utils.read_image` reads them, to the bit, except
that the orientation of a TIFF is applied once. Other images are scaled to 8 bits (`scaling`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from PIL import Image, UnidentifiedImageError

from ...config.keys import KEYS
from ...errors import InputError
from ...files.regular import check_regular
from ..problems import Problem
from . import decoding, tiff
from .decoding import UNREADABLE
from .scaling import to_uint8, value_range

T = TypeVar("T")
_NUMBERS = {"F": np.float32, "I": np.int32}  # image formats that are not scaled
_MOST_BANDS = 4
_HEIF = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


class SeveralFrames(InputError):
    """A file has several frames or pages where one image is expected."""


@dataclass(frozen=True)
class Stored:
    """An image as its file holds it, upright.

    Attributes:
        pixels: a Pillow image of 8 bits or fewer; or (H, W) or (H, W, C) of any dtype.
        orientation: of the EXIF standard, 1 to 8, which was applied.
        nodata: the value of pixels without data, or None.
    """

    pixels: Image.Image | np.ndarray
    orientation: int = 1
    nodata: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        if isinstance(self.pixels, Image.Image):
            return self.pixels.height, self.pixels.width
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def kind(self) -> str:
        """Return Pillow's mode, such as "RGB", or the type of the samples, such as "uint16"."""
        image = self.pixels
        return image.mode if isinstance(image, Image.Image) else image.dtype.name

    def numbers(self) -> np.ndarray:
        """Return what the file holds, for label images: of palette images the indices."""
        if isinstance(self.pixels, Image.Image):
            return np.asarray(self.pixels)
        is_grey = self.pixels.ndim == 3 and self.pixels.shape[2] == 1
        return self.pixels[:, :, 0] if is_grey else self.pixels


@dataclass(frozen=True)
class ImageReader:
    """Read images as 8-bit pixels.

    Attributes:
        pixel_range: as ``INPUT.PIXEL_RANGE``: how pixels of more than 8 bits are scaled.
        bands: as ``INPUT.BANDS``: which bands of a TIFF are red, green and blue, from 1.
        max_pixels: as ``INPUT.MAX_PIXELS``: images with more are refused.

    Example:
        >>> ImageReader().scaled(np.array([[0, 500, 1000]], np.uint16))
        array([[  0, 128, 255]], dtype=uint8)
    """

    pixel_range: str = "percentile"
    bands: tuple[int, ...] = ()
    max_pixels: int = decoding.MAX_PIXELS

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ImageReader":
        """Return the reader that a config asks for; keys that it lacks have their defaults."""
        pixel_range, bands, max_pixels = (
            cfg.INPUT.get(name, KEYS[f"INPUT.{name}"].default)
            for name in ("PIXEL_RANGE", "BANDS", "MAX_PIXELS")
        )
        return cls(pixel_range, tuple(bands), max_pixels)

    def read(self, path: str, image_format: str | None = "RGB", what: str = "image") -> np.ndarray:
        """Read an image file of one frame, upright.

        Args:
            path: of the file.
            image_format: as `detectron2.data.detection_utils.read_image` takes it: "RGB", "BGR",
                "L", …; "F" and "I" give the values in the file, not scaled.
            what: names the file in messages.

        Returns:
            (H, W, 3) uint8 for "RGB" and "BGR".

        Raises:
            InputError: the file is missing, unreadable or too large, or has several frames.
        """
        stored = self.stored(path, what)
        if isinstance(stored, Problem):
            raise InputError(str(stored))
        found: np.ndarray | Problem = _attempt(
            path, what, lambda: self.pixels(stored, image_format, path)
        )
        if isinstance(found, Problem):
            raise InputError(str(found))
        return found

    def numbers(self, path: str) -> np.ndarray:
        """Read the values in an image file, upright and not scaled, as `Stored.numbers` says.

        Raises:
            InputError: as `read` does.
        """
        stored = self.stored(path)
        if isinstance(stored, Problem):
            raise InputError(str(stored))
        return stored.numbers()

    def stored(self, path: str, what: str = "image") -> Stored | Problem:
        """Read an image of one frame as the file holds it, or return what is wrong with it.

        Args:
            what: names the file in messages; the problem of a "label file" has a kind of its own.
        """

        def only_frame() -> Stored:
            found = list(islice(self._frames(path), 2))
            if len(found) > 1:
                raise SeveralFrames(
                    f"The {what} {path} has {self.count_frames(path)} frames or pages, and one "
                    "image is expected. Save each as a file of its own."
                )
            return found[0]

        return _attempt(path, what, only_frame)

    def pixels(self, stored: Stored, image_format: str | None, path: str) -> np.ndarray:
        """Return a stored image as 8-bit pixels in an image format, as `read` does.

        Raises:
            InputError: it has too many bands, or is complex; the message names `path`.
        """
        image = stored.pixels
        if isinstance(image, np.ndarray):
            image = self._colors(image, path)
            if image_format in _NUMBERS and image.ndim == 2:
                image = Image.fromarray(image.astype(_NUMBERS[image_format]))
            else:
                scaled = self.scaled(image, stored.nodata)
                if image_format in ("RGB", "BGR"):  # without a copy in Pillow
                    return decoding.as_color(scaled, image_format)
                image = Image.fromarray(scaled)
        return decoding.converted(image, image_format)

    def explain_scaling(self, stored: Stored, path: str) -> str | None:
        """Return in words how a stored image is scaled to 8 bits; None if it is not.

        Raises:
            InputError: as `pixels` does.
        """
        if isinstance(stored.pixels, Image.Image):
            return None
        colors = self._colors(stored.pixels, path)
        if colors.dtype in (np.uint8, np.bool_):
            return None
        limits = value_range(colors, self.pixel_range, stored.nodata)
        rule = self.pixel_range
        if limits is None:
            return f"{colors.dtype}, all pixels have one value"
        shown = " to ".join(f"{value:.6g}" for value in limits)
        return f"{colors.dtype}, values from {shown} become 0 to 255 ({rule})"

    def convert(self, image: Image.Image, image_format: str = "RGB") -> np.ndarray:
        """Return a Pillow image as 8-bit pixels, as a file of the same pixels is read.

        Raises:
            InputError: it cannot be decoded, or has too many pixels.
        """
        try:
            decoding.check_size("The image", image.height, image.width, self.max_pixels)
            orientation = decoding.orientation(image)
            if image.mode[0] in "IF":
                stored = Stored(decoding.turned(np.asarray(image), orientation))
            else:
                stored = Stored(decoding.turned_image(image, orientation))
            return self.pixels(stored, image_format, "The image")
        except InputError:
            raise
        except UNREADABLE as error:
            raise InputError(f"The PIL image cannot be read: {decoding.reason(error)}.") from error

    def size(self, path: str) -> tuple[int, int]:
        """Return height and width of an image, upright, decoding it only if Pillow cannot open it.

        Raises:
            OSError, ValueError, …: one of `UNREADABLE`, of which `InputError` is one.
        """
        if tiff.is_tiff(_start(path)):
            page = tiff.read_pages(PathManager.get_local_path(path))[0]
            sides, turn = (page.height, page.width), page.orientation
        else:
            with PathManager.open(path, "rb") as file:
                try:
                    image = decoding.open_with_pillow(file)
                except UnidentifiedImageError:
                    return next(self._frames(path)).size
                sides, turn = (image.height, image.width), decoding.orientation(image)
        return sides[::-1] if turn >= 5 else sides

    def count_frames(self, path: str) -> int:
        """Return the number of frames or pages of a file; 1 for one that cannot be read."""
        try:
            check_regular(path, "image")
            if tiff.is_tiff(_start(path)):
                return max(1, len(tiff.read_pages(PathManager.get_local_path(path))))
            with PathManager.open(path, "rb") as file, decoding.open_with_pillow(file) as image:
                return decoding.count_frames(image)
        except (InputError, *UNREADABLE):
            return 1

    def frames(self, path: str, what: str = "image") -> Iterator[np.ndarray]:
        """Read the frames or pages of an image file, one after the other.

        Yields:
            RGB, (H, W, 3) uint8; pages may differ in size, and each is scaled by itself.

        Raises:
            InputError: the file is missing, unreadable or too large.
        """
        stored = self._frames(path)

        def following() -> np.ndarray | None:
            found = next(stored, None)
            return None if found is None else self.pixels(found, "RGB", path)

        while (pixels := _attempt(path, what, following)) is not None:
            if isinstance(pixels, Problem):
                raise InputError(str(pixels))
            yield pixels

    def scaled(self, values: np.ndarray, nodata: float | None = None) -> np.ndarray:
        """Scale pixels to 8 bits as those of a file; uint8 pixels stay as they are.

        Args:
            values: (H, W) or (H, W, C), integers or floating point.
            nodata: the value of pixels without data, which become 0.

        Returns:
            uint8, of the same shape.
        """
        if values.dtype == np.uint8:
            return values
        if values.dtype == bool:
            return values.astype(np.uint8) * 255
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        return to_uint8(values, value_range(values, self.pixel_range, nodata), nodata)

    def _colors(self, values: np.ndarray, path: str) -> np.ndarray:
        """Return the grey or the three colour bands of a file's samples, (H, W) or (H, W, 3)."""
        if values.dtype.kind not in "uifb":
            raise InputError(f"{path} has pixels of {values.dtype}. Save it with real numbers.")
        bands = values.shape[2] if values.ndim == 3 else 1
        if bands == 1:
            return values.reshape(values.shape[:2])
        if self.bands:
            if max(self.bands) > bands:
                raise InputError(
                    f"INPUT.BANDS is {list(self.bands)}, but {path} has {bands} bands. "
                    f"Choose bands from 1 to {bands}."
                )
            values = values[:, :, [band - 1 for band in self.bands]]
        elif bands > _MOST_BANDS:
            raise InputError(
                f"{path} has {bands} bands. Say which of them are red, green and blue, counted "
                "from 1, for example INPUT.BANDS (3,2,1)."
            )
        return values[:, :, 0] if values.shape[2] < 3 else values[:, :, :3]

    def _frames(self, path: str) -> Iterator[Stored]:
        """Yield the frames of a file, decoded, upright."""
        if tiff.is_tiff(_start(path)):
            yield from self._tiff_pages(PathManager.get_local_path(path))
            return
        with PathManager.open(path, "rb") as file:
            try:
                image = decoding.open_with_pillow(file)
            except UnidentifiedImageError as error:
                yield self._read_otherwise(path, error)
                return
            with image:
                decoding.check_size(path, image.height, image.width, self.max_pixels)
                has_8_bits = decoding.has_8_bits(image)  # before EXIF data make Pillow load it
                orientation = decoding.orientation(image)
                if not has_8_bits:
                    yield self._deep(path, image, orientation)
                    return
                count = decoding.count_frames(image)
                for number in range(count):
                    image.seek(number)
                    image.load()
                    frame = image if count == 1 else image.copy()
                    yield Stored(decoding.turned_image(frame, orientation), orientation)

    def _deep(self, path: str, image: Image.Image, orientation: int) -> Stored:
        """Decode an image of more than 8 bits that Pillow opened."""
        with PathManager.open(path, "rb") as file:
            values = decoding.decode_with_opencv(file.read())
        if values is None and image.mode[0] not in "IF":
            raise OSError("the pixels cannot be decoded")
        values = np.asarray(image) if values is None else values
        return Stored(decoding.turned(values, orientation), orientation)

    def _read_otherwise(self, path: str, error: Exception) -> Stored:
        """Read a file that Pillow does not know.

        Args:
            error: what Pillow said.
        """
        if _start(path)[4:8] == b"ftyp" and _start(path)[8:12] in _HEIF:
            try:
                import pillow_heif
            except ImportError:
                raise InputError(
                    f"{path} is a HEIC image, which needs the package pillow-heif. Install it "
                    "with: pip install pillow-heif"
                ) from None
            return Stored(pillow_heif.open_heif(path).to_pillow())
        with PathManager.open(path, "rb") as file:
            values = decoding.decode_with_opencv(file.read())
        if values is None:
            raise error
        decoding.check_size(path, values.shape[0], values.shape[1], self.max_pixels)
        return Stored(values)

    def _tiff_pages(self, path: str) -> Iterator[Stored]:
        pages = tiff.read_pages(path)
        if not pages:
            raise OSError("it has no page")
        for page in pages:
            decoding.check_size(path, page.height, page.width, self.max_pixels)
            if page.is_8_bit and page.bands <= _MOST_BANDS and not (self.bands and page.bands > 1):
                image = tiff.read_with_pillow(path, page)
                if image is not None:
                    yield Stored(decoding.turned_image(image, page.orientation), page.orientation)
                    continue
            yield Stored(tiff.read_bands(path, page), page.orientation, page.nodata)


def _start(path: str) -> bytes:
    with PathManager.open(path, "rb") as file:
        return file.read(16)


def _attempt(path: str, what: str, read: Callable[[], T]) -> T | Problem:
    """Return what a function reads, or the problem of the file."""
    kind = "unreadable-labels" if what == "label file" else "unreadable-image"
    is_file = False
    try:
        check_regular(path, what)
        is_file = True
        return read()
    except FileNotFoundError:
        found = f"The {what} {path} does not exist"
        fix = "Complete the data set's copy (is DETECTRON2_DATASETS right?)."
    except InputError as error:
        found, fix = str(error).partition(". ")[::2]
        if is_file and kind == "unreadable-image":
            is_several = isinstance(error, SeveralFrames)
            kind = "several-frames" if is_several else "unsupported-image"
    except UNREADABLE as error:
        reason = decoding.reason(error)
        found = f"The {what} {path} cannot be read: {reason}"
        fix = "The file could not be decoded; export it again as PNG or JPEG."
    return Problem(kind, found, fix)
