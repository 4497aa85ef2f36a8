"""Label images of every kind are read exactly, or refused with the reason."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from pointrend_seg.data.label_files import read_label_file, read_palette
from pointrend_seg.data.problems import Problem

VALUES = np.array([[0, 1, 2], [3, 1, 0]], np.uint8)
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]


def pillow(array, suffix="png", palette=None, **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    if palette is not None:
        image.putpalette(palette)
    file = io.BytesIO()
    image.save(file, {"tif": "TIFF", "jpg": "JPEG"}.get(suffix, suffix.upper()), **options)
    return suffix, file.getvalue()


def opencv(array, suffix):
    return suffix, cv2.imencode(f".{suffix}", array)[1].tobytes()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def pages(suffix):
    image = Image.fromarray(VALUES)
    return pillow(image, suffix, save_all=True, append_images=[Image.fromarray(VALUES + 1)])


def with_alpha(*alpha):
    alpha = np.resize(np.array(alpha, np.uint8), VALUES.shape)
    return np.dstack([VALUES, VALUES, VALUES, alpha])


def gray_and_alpha(*alpha):
    alpha = np.resize(np.array(alpha, np.uint8), VALUES.shape)
    return pillow(Image.fromarray(np.dstack([VALUES, alpha])))


RGB = np.dstack([VALUES, VALUES * 2, VALUES * 3])
WIDE = VALUES.astype(np.int64) * 300
READ = {
    "8 bits": (lambda: pillow(VALUES), VALUES),
    "palette": (lambda: pillow(VALUES, palette=PALETTE), VALUES),
    "palette of 4 bits": (lambda: pillow(VALUES, palette=PALETTE, bits=4), VALUES),
    "palette with a transparent colour": (
        lambda: pillow(VALUES, palette=PALETTE, transparency=0),
        VALUES,
    ),
    "grey with a transparent value": (lambda: pillow(VALUES, transparency=1), VALUES),
    "grey of 4 bits": (lambda: pillow(VALUES, bits=4), VALUES),
    "grey of 2 bits": (lambda: pillow(VALUES, bits=2), VALUES),
    "bits": (lambda: pillow(VALUES > 1), (VALUES > 1).astype(int)),
    "16 bits": (lambda: pillow(WIDE.astype(np.uint16)), WIDE),
    "TIFF": (lambda: pillow(VALUES, "tif"), VALUES),
    "TIFF of bits": (lambda: pillow(VALUES > 1, "tif"), (VALUES > 1).astype(int)),
    "TIFF of 16 bits": (lambda: pillow(WIDE.astype(np.uint16), "tif"), WIDE),
    "big-endian TIFF": (lambda: pillow(Image.fromarray(WIDE.astype(">u2")), "tif"), WIDE),
    "TIFF of 32 bits": (lambda: pillow((WIDE * 300).astype(np.int32), "tif"), WIDE * 300),
    "TIFF of signed bytes": (
        lambda: opencv(VALUES.astype(np.int8) - 1, "tiff"),
        VALUES.astype(int) - 1,
    ),
    "TIFF of floats": (lambda: pillow(WIDE.astype(np.float32), "tif"), WIDE),
    "TIFF of doubles": (lambda: opencv(WIDE.astype(np.float64), "tiff"), WIDE),
    "BMP": (lambda: pillow(VALUES, "bmp", palette=PALETTE), VALUES),
    "lossless WebP": (lambda: pillow(RGB, "webp", lossless=True), RGB),
    "RGB": (lambda: pillow(RGB), RGB),
    "RGB of 16 bits": (lambda: opencv(RGB[..., ::-1].astype(np.uint16) * 257, "png"), RGB),
    "opaque RGBA": (lambda: pillow(with_alpha(255)), np.dstack([VALUES] * 3)),
    "RGBA, transparent in places": (lambda: pillow(with_alpha(0, 255)), np.dstack([VALUES] * 3)),
    "grey and alpha": (lambda: gray_and_alpha(255), VALUES),
    "turned PNG": (lambda: pillow(VALUES, exif=turned(6)), np.rot90(VALUES, -1)),
    "turned palette": (
        lambda: pillow(VALUES, palette=PALETTE, exif=turned(3)),
        VALUES[::-1, ::-1],
    ),
    "turned TIFF": (lambda: pillow(VALUES, "tif", exif=turned(6)), np.rot90(VALUES, -1)),
}
HALVES = np.array([[0.5, 1], [2, 3]], np.float32)
REFUSED = {
    "JPEG": (lambda: pillow(VALUES, "jpg"), "lossy-labels", "compressed by JPEG"),
    "JPEG named PNG": (
        lambda: ("png", pillow(VALUES, "jpg")[1]),
        "lossy-labels",
        "compressed by JPEG",
    ),
    "JPEG in TIFF": (
        lambda: pillow(np.resize(VALUES, (16, 16)), "tif", compression="jpeg"),
        "lossy-labels",
        "compressed by JPEG",
    ),
    "lossy WebP": (lambda: pillow(RGB, "webp"), "lossy-labels", "compressed by WebP"),
    "fractions": (lambda: pillow(HALVES, "tif"), "label-value", "has the value 0.5, but labels"),
    "NaN": (lambda: pillow(HALVES * np.nan, "tif"), "label-value", "has the value nan"),
    "64-bit fractions": (
        lambda: opencv(HALVES.astype(np.float64), "tiff"),
        "label-value",
        "has the value 0.5",
    ),
    "two pages": (lambda: pages("tif"), "label-value", "has 2 pages or frames"),
    "animated PNG": (lambda: pages("png"), "label-value", "has 2 pages or frames"),
    "RGB of 16 bits": (
        lambda: opencv(RGB.astype(np.uint16), "png"),
        "label-value",
        "3 channels of 16 bits",
    ),
    "smoothed edges": (lambda: pillow(with_alpha(0, 99, 255)), "label-value", "partly transparent"),
    "nothing to see": (lambda: pillow(with_alpha(0)), "label-value", "transparent everywhere"),
    "CMYK": (
        lambda: pillow(Image.new("CMYK", (3, 2)), "tif"),
        "label-value",
        "is of the mode CMYK",
    ),
    "text": (lambda: ("png", b"<annotation/>"), "unreadable-labels", "cannot be read"),
    "NumPy": (lambda: ("png", b"\x93NUMPY\x01\0v\0"), "unreadable-labels", "cannot be read"),
    "cut PNG": (lambda: ("png", pillow(VALUES)[1][:45]), "unreadable-labels", "cannot be read"),
    "cut TIFF": (
        lambda: ("tif", opencv(HALVES.astype(np.float64), "tiff")[1][:60]),
        "unreadable-labels",
        "cannot be read",
    ),
}


def write(folder, made):
    suffix, content = made
    path = folder / f"labels.{suffix}"
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("kind", READ)
def test_read_as_written(kind, tmp_path):
    make, expected = READ[kind]
    pixels = read_label_file(write(tmp_path, make()))
    assert not isinstance(pixels, Problem), pixels
    assert np.issubdtype(pixels.values.dtype, np.integer) and pixels.values.dtype.isnative
    assert pixels.values.tolist() == np.asarray(expected).tolist()
    assert (pixels.palette is not None) == ("palette" in kind or kind == "BMP")
    if pixels.palette is not None:
        assert pixels.palette[:4].ravel().tolist() == PALETTE


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_the_reason(kind, tmp_path):
    make, code, text = REFUSED[kind]
    path = write(tmp_path, make())
    problem = read_label_file(path)
    assert isinstance(problem, Problem), problem
    assert problem.kind == code and text in problem.found and path in problem.found


def test_a_missing_file(tmp_path):
    problem = read_label_file(str(tmp_path / "gone.png"))
    assert isinstance(problem, Problem) and "gone.png does not exist" in problem.found


def test_the_palette_alone(tmp_path):
    palette = read_palette(write(tmp_path, pillow(VALUES, palette=PALETTE)))
    assert palette is not None and palette[1].tolist() == [128, 0, 0]
    assert read_palette(write(tmp_path, pillow(VALUES))) is None
    assert read_palette(write(tmp_path, ("png", b"no image"))) is None
