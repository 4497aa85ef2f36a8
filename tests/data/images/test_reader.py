"""Files of every depth, band layout and compression are read right, or refused in a sentence."""

import io
import pickle

import numpy as np
import pytest
import tifffile
from detectron2.data.detection_utils import read_image
from PIL import Image

from pointrend_seg.data.images import reader as reader_module
from pointrend_seg.data.images.decoding import UNREADABLE
from pointrend_seg.data.images.reader import ImageReader, Stored
from pointrend_seg.data.images.tiff import read_georeference
from pointrend_seg.data.label_files import read_label_file
from pointrend_seg.data.problems import Problem
from pointrend_seg.errors import InputError

RNG = np.random.default_rng(0)
COLOR_8 = RNG.integers(0, 256, (30, 44, 3), dtype=np.uint8)
COLOR_16 = RNG.integers(0, 4000, (30, 44, 3), dtype=np.uint16)
SCALED = ImageReader().scaled(COLOR_16)
READER = ImageReader()


def grey(values):
    return np.repeat(values[:, :, :1], 3, axis=2)


def noisy(mode):
    image = Image.fromarray(COLOR_8)
    return image.convert(mode) if mode != "RGBA" else Image.fromarray(np.dstack([COLOR_8, COLOR_8]))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *[("RGB", e) for e in ("png", "jpg", "bmp", "webp", "gif", "ppm", "tif", "jp2", "avif")],
        *[("L", e) for e in ("png", "jpg", "bmp", "tif", "pgm", "jp2", "gif")],
        *[(mode, "png") for mode in ("1", "P", "LA")],
        *[(mode, "tif") for mode in ("1", "P", "CMYK", "YCbCr", "LA")],
        *[("CMYK", "jpg"), ("P", "gif")],
    ],
)
@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L", "YUV-BT.601"])
def test_8_bits_as_detectron2_reads_them(tmp_path, mode, kind, image_format):
    path = str(tmp_path / f"a.{kind}")
    image = noisy(mode)
    if mode == "YCbCr":
        image.save(path, compression="raw")
    else:
        image.save(path)
    assert np.array_equal(READER.read(path, image_format), read_image(path, image_format))


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_8_bits(tmp_path, kind, orientation):
    path, exif = str(tmp_path / f"a.{kind}"), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOR_8).save(path, exif=exif)
    assert np.array_equal(READER.read(path), read_image(path, "RGB"))
    assert READER.size(path) == READER.read(path).shape[:2]


def upright(values, orientation):
    """Turn an image by its EXIF orientation, written out for the test."""
    turns = {
        1: lambda v: v,
        2: lambda v: v[:, ::-1],
        3: lambda v: v[::-1, ::-1],
        4: lambda v: v[::-1],
        5: lambda v: v.swapaxes(0, 1),
        6: lambda v: np.rot90(v, -1),
        7: lambda v: np.rot90(v, 2).swapaxes(0, 1),
        8: lambda v: np.rot90(v),
    }
    return turns[orientation](values)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("values", [COLOR_8, COLOR_8[:, :, 0], COLOR_16, COLOR_16[:, :, 0]])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_orientation_of_a_tiff_is_applied_once(tmp_path, orientation, values, compression):
    path = str(tmp_path / "a.tif")
    photometric = "rgb" if values.ndim == 3 else "minisblack"
    tags = [(274, 3, 1, orientation, True)]
    options = {"compression": compression, "extratags": tags}
    tifffile.imwrite(path, values, photometric=photometric, **options)
    expected = upright(ImageReader().scaled(values), orientation)
    expected = expected if expected.ndim == 3 else np.stack([expected] * 3, axis=2)
    assert np.array_equal(READER.read(path), expected)
    assert READER.size(path) == expected.shape[:2]
    assert READER.stored(path).orientation == orientation


@pytest.mark.parametrize("kind", ["uint16", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize(
    "options", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"tile": (16, 16)}, {"compression": 8}]
)
def test_deep_tiffs(tmp_path, kind, bands, options):
    path = str(tmp_path / "a.tif")
    values = COLOR_16.astype(kind)[:, :, :bands].squeeze()
    photometric = "rgb" if bands == 3 else "minisblack"
    tifffile.imwrite(path, values, photometric=photometric, **options)
    expected = SCALED if bands == 3 else grey(ImageReader().scaled(COLOR_16[:, :, :1]))
    assert np.array_equal(READER.read(path), expected)
    assert np.array_equal(READER.read(path, "BGR"), expected[:, :, ::-1])
    assert READER.stored(path).kind == kind
    assert np.array_equal(READER.stored(path).numbers(), values)


def save_with_pillow(path, image, **options):
    image.save(path, **options)
    return path


def test_compressions_that_tifffile_leaves_to_others(tmp_path):
    """Those of LibTIFF, which both Pillow and OpenCV have."""
    image = Image.fromarray(COLOR_16[:, :, 0])
    expected = grey(ImageReader().scaled(COLOR_16[:, :, :1]))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "raw"):
        path = save_with_pillow(str(tmp_path / "a.tif"), image, compression=compression)
        assert np.array_equal(READER.read(path), expected), compression
    values = COLOR_16[:, :, 0].astype(np.float32) / 7
    path = save_with_pillow(
        str(tmp_path / "f.tif"), Image.fromarray(values), compression="tiff_lzw"
    )
    assert np.array_equal(READER.stored(path).numbers(), values)


def test_a_compression_that_nothing_reads_is_named(tmp_path, monkeypatch):
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(path, COLOR_16, photometric="rgb")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags["Compression"].valueoffset
    content[place : place + 2] = (34887).to_bytes(2, "little")  # LERC
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(InputError, match="is compressed with LERC, which needs the package imagec"):
        READER.read(path)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("bands", [2, 4, 5, 7])
def test_bands(tmp_path, kind, planar, bands):
    path = str(tmp_path / "a.tif")
    values = RNG.integers(0, 250, (30, 44, bands)).astype(kind)
    stored = values if planar == "contig" else np.ascontiguousarray(np.moveaxis(values, 2, 0))
    photometric = "rgb" if bands == 4 else "minisblack"
    tifffile.imwrite(path, stored, photometric=photometric, planarconfig=planar)
    if bands > 4:
        with pytest.raises(InputError, match=rf"has {bands} bands. Say which .* INPUT.BANDS \(3,2"):
            READER.read(path)
    else:
        shown = values[:, :, :1] if bands == 2 else values[:, :, :3]
        shown = ImageReader().scaled(shown)
        assert np.array_equal(READER.read(path), grey(shown) if bands == 2 else shown)
    chosen = (2, 1, bands)
    expected = ImageReader().scaled(values[:, :, [1, 0, bands - 1]])
    assert np.array_equal(ImageReader(bands=chosen).read(path), expected)
    one = ImageReader().scaled(values[:, :, 1:2])
    assert np.array_equal(ImageReader(bands=(2,)).read(path), grey(one))
    with pytest.raises(InputError, match=rf"but .* has {bands} bands. Choose bands from 1 to"):
        ImageReader(bands=(1, 2, 8)).read(path)


def test_bands_do_not_change_other_files(tmp_path):
    path = str(tmp_path / "a.png")
    Image.fromarray(COLOR_8).save(path)
    assert np.array_equal(ImageReader(bands=(3, 2, 1)).read(path), COLOR_8)


def test_deep_files_of_other_formats(tmp_path):
    cv2 = pytest.importorskip("cv2")
    alpha = np.dstack([COLOR_16, np.full((30, 44), 9, np.uint16)])
    for name, values in {
        "a.png": COLOR_16,
        "b.png": alpha,
        "a.ppm": COLOR_16,
        "a.jp2": COLOR_16,
        "a.hdr": COLOR_16.astype(np.float32),
        "a.pfm": COLOR_16.astype(np.float32),
    }.items():
        path = str(tmp_path / name)
        order = [2, 1, 0, 3][: values.shape[2]]
        # JPEG 2000 has a least size
        assert cv2.imwrite(path, np.tile(values[:, :, order], (2, 2, 1)))
        found = READER.read(path)
        difference = np.abs(found.astype(int) - READER.scaled(np.tile(COLOR_16, (2, 2, 1)))).mean()
        assert difference <= (12 if name in ("a.jp2", "a.hdr") else 0), name
    for name in ("g.png", "g.pgm", "g.jp2"):
        path = str(tmp_path / name)
        values = np.tile(COLOR_16[:, :, 0], (2, 2))
        assert cv2.imwrite(path, values)
        assert READER.stored(path).kind == "uint16"
        if name != "g.jp2":
            assert np.array_equal(READER.stored(path).numbers(), values)


def test_a_pgm_of_12_bits_keeps_its_values(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5\n3 1\n4095\n" + np.array([1, 100, 4095], ">u2").tobytes())
    found = ImageReader("0..4095").read(str(tmp_path / "a.pgm"), "L")
    assert found.squeeze().tolist() == [0, 6, 255]


def test_white_is_zero(tmp_path):
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(path, COLOR_16[:, :, 0], photometric="miniswhite")
    assert np.array_equal(READER.stored(path).numbers(), 65535 - COLOR_16[:, :, 0])


def test_no_data_of_gdal(tmp_path):
    path = str(tmp_path / "a.tif")
    values = COLOR_16[:, :, 0].astype(np.float32)
    values[:10] = -9999
    tifffile.imwrite(path, values, extratags=[(42113, 2, 6, "-9999", True)])
    found = READER.read(path, "L")[:, :, 0]
    assert not found[:10].any()
    assert np.array_equal(found[10:], ImageReader().scaled(values[10:]))


def test_georeference_is_carried_over(tmp_path):
    scale, tie = (0.5, 0.5, 0.0), (0.0, 0.0, 0.0, 4e5, 5.8e6, 0.0)
    keys = (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)
    text = "WGS 84 / UTM zone 33N|"
    tags = [
        (33550, 12, 3, scale, True),
        (33922, 12, 6, tie, True),
        (34735, 3, len(keys), keys, True),
        (34737, 2, len(text) + 1, text, True),
    ]
    tifffile.imwrite(tmp_path / "a.tif", COLOR_8, photometric="rgb", extratags=tags)
    found = read_georeference(str(tmp_path / "a.tif"))
    tifffile.imwrite(tmp_path / "b.tif", COLOR_8[:, :, 0], extratags=found)
    for name in ("a.tif", "b.tif"):
        with tifffile.TiffFile(tmp_path / name) as file:
            assert file.pages[0].tags[33922].value == tie
            assert file.pages[0].tags[34735].value == keys
            assert file.pages[0].tags[34737].value == text
    Image.fromarray(COLOR_8).save(tmp_path / "a.png")
    assert read_georeference(str(tmp_path / "a.png")) == []


FRAMES = [RNG.integers(0, 256, (30, 44, 3), dtype=np.uint8) for _ in range(3)]


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tif", "avif"])
def test_frames(tmp_path, kind):
    path, one = str(tmp_path / f"a.{kind}"), str(tmp_path / f"one.{kind}")
    first, *rest = map(Image.fromarray, FRAMES)
    options = {"lossless": True} if kind == "webp" else {}
    first.save(path, save_all=True, append_images=rest, **options)
    first.save(one, save_all=True, **options)
    assert READER.count_frames(path) == 3 and READER.count_frames(one) == 1
    found = list(READER.frames(path))
    assert [each.shape for each in found] == [(30, 44, 3)] * 3
    if kind in ("png", "webp", "tif"):
        assert np.array_equal(found, FRAMES)
    else:
        for each, frame in zip(found, FRAMES, strict=True):  # palette, or lossy
            errors = [np.abs(each.astype(int) - other).mean() for other in FRAMES]
            assert np.argmin(errors) == [f is frame for f in FRAMES].index(True)
    problem = READER.stored(path)
    assert isinstance(problem, Problem) and problem.kind == "several-frames"
    with pytest.raises(InputError, match="has 3 frames or pages, and one image is expected. Save"):
        READER.read(path)
    assert np.array_equal(READER.read(one), read_image(one, "RGB"))
    assert len(list(READER.frames(one))) == 1


def test_pages_of_a_deep_tiff_without_overviews(tmp_path):
    path = str(tmp_path / "a.tif")
    with tifffile.TiffWriter(path) as file:
        for number in range(2):
            file.write(COLOR_16[: 30 - number], photometric="rgb")
        file.write(COLOR_16[::2, ::2], photometric="rgb", subfiletype=1)  # an overview
    assert READER.count_frames(path) == 2
    found = list(READER.frames(path))
    assert np.array_equal(found[0], SCALED)
    assert np.array_equal(found[1], ImageReader().scaled(COLOR_16[:29]))


def test_a_photo_of_two_pictures_is_one_image(tmp_path):
    path = str(tmp_path / "a.jpg")
    first, second, _ = map(Image.fromarray, FRAMES)
    first.save(path, "MPO", save_all=True, append_images=[second])
    assert READER.count_frames(path) == 1
    assert np.array_equal(READER.read(path), read_image(path, "RGB"))


def test_what_is_too_large_is_refused_before_it_is_decoded(tmp_path):
    small = ImageReader(max_pixels=30 * 44 - 1)
    for name, values in {"a.png": COLOR_8, "a.tif": COLOR_8, "b.tif": COLOR_16}.items():
        tifffile.imwrite(tmp_path / name, values) if name == "b.tif" else Image.fromarray(
            values
        ).save(tmp_path / name)
        with pytest.raises(InputError, match=r"is 44 x 30 pixels, more than INPUT.MAX_PIXELS \("):
            small.read(str(tmp_path / name))
        assert ImageReader(max_pixels=30 * 44).read(str(tmp_path / name)).shape == (30, 44, 3)
    bomb = Image.new("1", (20000, 20000))
    bomb.save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="is 20000 x 20000 pixels, more than INPUT.MAX_PIXELS"):
        READER.read(str(tmp_path / "bomb.png"))


def test_pillows_own_limit_is_passed_without_being_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(COLOR_8).save(tmp_path / "a.png")
    assert np.array_equal(READER.read(str(tmp_path / "a.png")), COLOR_8)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_heic_names_the_package(tmp_path):
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
        with pytest.raises(InputError, match="is a HEIC image, which needs the package pillow-hei"):
            READER.read(str(tmp_path / "a.heic"))


def test_complex_numbers_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", COLOR_16[:, :, 0].astype(np.complex64))
    with pytest.raises(InputError, match="has pixels of complex64. Save it with real numbers"):
        READER.read(str(tmp_path / "a.tif"))


def test_numbers_that_a_model_wants_as_they_are(tmp_path):
    """With INPUT.FORMAT "F" and "I", as Detectron2 reads them."""
    path = str(tmp_path / "a.png")
    Image.fromarray(COLOR_16[:, :, 0]).save(path)
    found = READER.read(path, "F")
    assert found.dtype == np.float32 and np.array_equal(found, read_image(path, "F"))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "b.tif", "c.tif", "a.webp", "a.gif"])
def test_truncated_files(tmp_path, name):
    path = tmp_path / name
    if name in ("b.tif", "c.tif"):
        options = {"tile": (16, 16), "compression": "zlib"} if name == "c.tif" else {}
        tifffile.imwrite(path, COLOR_16, photometric="rgb", **options)
    else:
        Image.fromarray(COLOR_8).save(path)
    whole = path.read_bytes()
    refused = 0
    for part in (0, 3, 20, len(whole) // 3, 2 * len(whole) // 3, len(whole) - 30):
        path.write_bytes(whole[:part])
        problem = READER.stored(str(path))
        refused += isinstance(problem, Problem) and problem.kind == "unreadable-image"
    assert refused >= (5 if name == "a.gif" else 6)


def test_memory_that_is_not_enough_is_said(tmp_path, monkeypatch):
    Image.fromarray(COLOR_8).save(tmp_path / "a.png")

    def no_memory(*_):
        raise MemoryError

    monkeypatch.setattr(reader_module.decoding, "turned_image", no_memory)
    with pytest.raises(InputError, match="a.png cannot be read: not enough memory"):
        READER.read(str(tmp_path / "a.png"))


def test_it_travels_to_workers():
    assert pickle.loads(pickle.dumps(ImageReader("0..5", (1,), 7))) == ImageReader("0..5", (1,), 7)


def test_pillow_images_are_read_as_their_files(tmp_path):
    for values in (COLOR_8, COLOR_16[:, :, 0], COLOR_16[:, :, 0].astype(np.float32)):
        Image.fromarray(values).save(tmp_path / "a.tif")
        stored = READER.stored(str(tmp_path / "a.tif"))
        assert isinstance(stored, Stored)
        with Image.open(tmp_path / "a.tif") as image:
            assert np.array_equal(READER.convert(image), READER.read(str(tmp_path / "a.tif")))
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOR_8).save(buffer, "PNG", exif=exif)
    assert np.array_equal(READER.convert(Image.open(buffer)), np.rot90(COLOR_8, -1))


def test_large_label_images_are_read_up_to_the_limit(tmp_path, monkeypatch):
    """Pillow's own limit does not count, and says nothing."""
    Image.fromarray(COLOR_8[:, :, 0]).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    found = read_label_file(str(tmp_path / "a.png"))
    assert np.array_equal(found.values, COLOR_8[:, :, 0])
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    problem = read_label_file(str(tmp_path / "bomb.png"))
    assert "bomb.png is 20000 x 20000 pixels, more than INPUT.MAX_PIXELS" in str(problem)


def test_an_image_without_pixels(tmp_path):
    """A spoiled width or height of 0, which fuzzing found."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COLOR_16, photometric="rgb")
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags["ImageWidth"].valueoffset
    content = bytearray(path.read_bytes())
    content[place : place + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(InputError, match="a.tif cannot be read: it has no pixels"):
        READER.read(str(path))
    with pytest.raises(InputError, match="The PIL image cannot be read: it has no pixels"):
        READER.convert(Image.new("F", (0, 3)))


def test_the_size_of_what_pillow_cannot_open(tmp_path):
    cv2 = pytest.importorskip("cv2")
    path = str(tmp_path / "a.hdr")
    assert cv2.imwrite(path, COLOR_16.astype(np.float32))
    assert READER.size(path) == (30, 44)
    with pytest.raises(UNREADABLE):
        READER.size(str(tmp_path / "gone.png"))
