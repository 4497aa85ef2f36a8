"""Points from masks, against the decoded masks of pycocotools."""

import json

import numpy as np
import pycocotools.mask as mask_util
import pytest

from pointrend_seg.data.point_labels import draw_points, with_points
from pointrend_seg.errors import InputError
from pointrend_seg.structures.run_lengths import values_at

HEIGHT, WIDTH = 24, 32
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
RING = abs(np.hypot(ROWS - 11, COLUMNS - 15) - 7) < 3
POLYGONS = [[2.5, 3.0, 14.0, 2.0, 9.0, 17.3], [16.0, 8.0, 29.7, 8.0, 20.0, 21.0]]


def compressed(mask):
    return mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))


def text(rle):
    return {**rle, "counts": rle["counts"].decode()}


def uncompressed(mask):
    flat = np.concatenate([[False], mask.ravel(order="F"), [not mask[-1, -1]]])
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat.astype(int)))])
    return {"size": list(mask.shape), "counts": np.diff(edges).tolist()}


def drawn(mask, box, count=200, number=1, seed=0):
    annotation = {"id": number, "bbox": box, "segmentation": mask}
    return draw_points(annotation, (HEIGHT, WIDTH), count, seed)


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]


def polygon_mask():
    return mask_util.decode(mask_util.merge(mask_util.frPyObjects(POLYGONS, HEIGHT, WIDTH)))


FORMS = {
    "bytes": (compressed(RING), RING),
    "text": (text(compressed(RING)), RING),
    "counts": (uncompressed(RING), RING),
    "begins with 1": (uncompressed(~RING), ~RING),
    "polygons": (POLYGONS, polygon_mask()),
    "a short polygon, too": ([*POLYGONS, [1.0, 1.0, 2.0, 2.0]], polygon_mask()),
    "overlapping": ([*POLYGONS, POLYGONS[0]], polygon_mask()),
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_the_bits_of_the_mask(form):
    segmentation, mask = FORMS[form]
    (x, y), labels = (
        drawn(segmentation, [0, 0, WIDTH, HEIGHT], 2000)[0].T,
        drawn(segmentation, [0, 0, WIDTH, HEIGHT], 2000)[1],
    )
    np.testing.assert_array_equal(labels, mask[y, x].astype(int))
    assert 0 < labels.sum() < 2000


def test_every_pixel_of_a_mask():
    y, x = ROWS.ravel(), COLUMNS.ravel()
    np.testing.assert_array_equal(values_at(compressed(RING), x, y), RING.ravel())


def test_pixels_of_the_box_are_drawn_alike():
    coords, _ = drawn(compressed(RING), [4, 3, 3, 2], 60_000)
    counts = np.zeros((HEIGHT, WIDTH), int)
    np.add.at(counts, (coords[:, 1], coords[:, 0]), 1)
    assert counts[3:5, 4:7].sum() == 60_000
    assert abs(counts[3:5, 4:7] - 10_000).max() < 400


@pytest.mark.parametrize(
    ("box", "low", "high"),
    [
        ([-5, -4, 8, 7], (0, 0), (2, 2)),
        ([30, 20, 50, 50], (30, 20), (31, 23)),
        ([-9, -9, 90, 90], (0, 0), (31, 23)),
        ([3.2, 5.9, 0.3, 0.05], (3, 5), (3, 5)),
        ([31.5, 23.5, 0.5, 0.5], (31, 23), (31, 23)),
    ],
)
def test_boxes_are_clipped_to_the_image(box, low, high):
    coords, _ = drawn(compressed(RING), box, 3000)
    assert (coords.min(0) == low).all()
    assert (coords.max(0) == high).all()
    last = (coords == high).mean(0)  # no point of outside was moved to the edge
    assert (last < 0.1 + 1 / (np.array(high) - low + 1)).all()


def test_points_follow_from_seed_and_id():
    mask, box = compressed(RING), box_of(RING)
    first = drawn(mask, box, 10)[0]
    np.testing.assert_array_equal(first, drawn(mask, box, 20)[0][:10])
    others = [drawn(mask, box, 10, number, seed)[0] for number, seed in ((2, 0), (1, 1), ("1", 0))]
    others += [drawn(mask, box, 10, number)[0] for number in (-1, 2**70, "\ud800", "é")]
    assert len({each.tobytes() for each in [first, *others]}) == 8


def content(*annotations):
    return {
        "info": {"year": 2026},
        "images": [{"id": 7, "file_name": "7.png", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 3, "name": "ring"}],
        "annotations": [
            {"id": n, "image_id": 7, "category_id": 3, "iscrowd": 0, "area": 9, **each}
            for n, each in enumerate(annotations, 1)
        ],
    }


@pytest.fixture
def write(tmp_path):
    def write(*annotations):
        path = tmp_path / "a.json"
        path.write_text(json.dumps(content(*annotations)))
        return str(path)

    return write


def test_a_file(write):
    ring = {"bbox": box_of(RING), "segmentation": text(compressed(RING)), "score": 0.5}
    crowd = {**ring, "iscrowd": 1}
    beside = {"bbox": [100, 3, 5, 5], "segmentation": [[100, 3, 105, 3, 105, 8]]}
    empty = {"bbox": [3, 3, 4, 4], "segmentation": uncompressed(np.zeros_like(RING))}
    corner = {**ring, "bbox": [0, 0, 3, 3]}
    made = with_points(write(ring, crowd, beside, empty, corner), 10, seed=0)
    assert (made.objects, made.left_out, made.without_ones) == (3, 2, 1)
    annotations = made.content.pop("annotations")
    assert [each["id"] for each in annotations] == [1, 2, 5]
    assert not any("segmentation" in each for each in annotations)
    assert annotations[0]["score"] == 0.5
    assert annotations[1]["iscrowd"] == 1
    for each in annotations:
        x, y = np.array(each["point_coords"]).T
        assert each["point_labels"] == RING[y, x].astype(int).tolist()
    assert made.ones == sum(sum(each["point_labels"]) for each in annotations)
    everything = content()
    del everything["annotations"]
    assert made.content == everything


def test_an_annotation_of_no_image_is_left_out(write):
    ring = {"bbox": box_of(RING), "segmentation": text(compressed(RING))}
    made = with_points(write(ring, {**ring, "image_id": 8}), 10, seed=0)
    assert (made.objects, made.left_out) == (1, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bbox": [1, 2, 3, 4]}, "has no 'segmentation'"),
        ({"segmentation": POLYGONS}, "has no 'bbox'"),
        ({"bbox": [1, 2, 3, 4], "segmentation": compressed(RING[1:])["size"]}, "a polygon should"),
        ({"bbox": [1, 2, 3, 4], "segmentation": uncompressed(RING[1:])}, "of 32 x 23"),
    ],
)
def test_masks_that_are_none(write, wrong, message):
    with pytest.raises(InputError, match="Annotation id 1 of") as raised:
        with_points(write(wrong), 10, seed=0)
    assert message in str(raised.value)
