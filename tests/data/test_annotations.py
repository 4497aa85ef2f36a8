import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.structures import BoxMode

from pointrend_seg.data.annotations import (
    CheckedAnnotation,
    box_problem,
    checked_annotations,
    decode_mask,
    is_degenerate,
    mask_problem,
)
from pointrend_seg.data.problems import Problem, ProblemLog
from pointrend_seg.errors import InputError

HEIGHT, WIDTH = 40, 60
SIZE = HEIGHT, WIDTH
SQUARE = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
MASK = np.arange(HEIGHT * WIDTH).reshape(SIZE) % 7 < 3


def compressed(mask):
    return mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))


def uncompressed(mask):
    """By hand: lengths of runs in column order, the first of them of 0."""
    counts, value = [0], False
    for bit in mask.ravel(order="F"):
        if bit != value:
            counts, value = [*counts, 0], bit
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def as_text(rle):
    return rle | {"counts": rle["counts"].decode()}


@pytest.mark.parametrize(
    "segmentation",
    [
        [SQUARE],
        [SQUARE, [3] * 6],
        [tuple(SQUARE)],
        [np.array(SQUARE)],
        [np.array(SQUARE).reshape(-1, 2)],
        [[-5.0, 0.0, 70.0, 0.0, 70.0, 90.0]],
        compressed(MASK),
        as_text(compressed(MASK)),
        uncompressed(MASK),
        MASK,
        np.zeros(SIZE, np.int64),
    ],
)
def test_valid_masks(segmentation):
    assert mask_problem(segmentation, SIZE) is None
    assert mask_problem(segmentation, None) is None


@pytest.mark.parametrize("segmentation", [None, [], {}, ()])
def test_no_mask(segmentation):
    said = "has no 'segmentation'. Annotate its mask, or set MODEL.MASK_ON False to train boxes"
    assert said in str(mask_problem(segmentation, SIZE))


@pytest.mark.parametrize(
    ("polygon", "said"),
    [
        ([], "has a polygon of 0 coordinates."),
        ([1.0, 2.0, 3.0, 4.0], "has a polygon of 4 coordinates."),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], "has a polygon of 7 coordinates."),
        (np.zeros((2, 2)), "has a polygon of 4 coordinates."),
        ([1.0, 2.0, 3.0, float("nan"), 5.0, 6.0], "has a polygon with nan, not a finite number."),
        (np.array([1.0, 2.0, 3.0, np.inf, 5.0, 6.0]), "not a finite number."),
        (["1", "2", "3", "4", "5", "6"], "has a polygon with '1', not a finite number."),
        ([[1.0, 2.0]] * 6, "has a polygon with [1.0, 2.0], not a finite number."),
        (7.5, "has 7.5 where a polygon should be."),
    ],
)
def test_invalid_polygons(polygon, said):
    text = str(mask_problem([SQUARE, polygon], SIZE))
    assert said in text
    assert "A polygon is a flat list x1, y1, x2, y2, ... of 3 points or more. Correct" in text


@pytest.mark.parametrize("form", [compressed, uncompressed, np.asarray])
def test_masks_of_another_size_than_the_image(form):
    text = str(mask_problem(form(MASK.T), SIZE))
    assert "of 40 x 60 (width x height) as its mask, but the image is 60 x 40." in text
    assert "Correct the mask, or the width and height that the data set states" in text


@pytest.mark.parametrize(
    ("segmentation", "said"),
    [
        ({"size": [HEIGHT, WIDTH]}, "has a run-length mask with no 'counts'. A mask is"),
        ({"counts": [HEIGHT * WIDTH]}, "has a run-length mask with no 'size'. A mask is"),
        ({"size": [HEIGHT, WIDTH], "counts": [10, 20]}, "do not add up to its 2400 pixels, but to"),
        ({"size": [HEIGHT, WIDTH], "counts": ["a"]}, "are not whole numbers from 0. Write"),
        ("file.png", "has a 'segmentation' of type str. A mask is a list of polygons"),
        (np.zeros((1, HEIGHT, WIDTH)), "has an array of 3 dimensions as its mask. A mask is"),
    ],
)
def test_invalid_masks(segmentation, said):
    assert said in str(mask_problem(segmentation, SIZE))


@pytest.mark.parametrize("form", [compressed, uncompressed, np.asarray])
def test_masks_are_decoded(form):
    mask = decode_mask(form(MASK))
    assert mask.dtype == np.uint8 and (mask == MASK).all()


@pytest.mark.parametrize(
    ("polygon", "degenerate"),
    [(SQUARE, False), (SQUARE[:6], False), (SQUARE[:4], True), (SQUARE[:7], True), (3.0, False)],
)
def test_degenerate_polygons(polygon, degenerate):
    assert is_degenerate(polygon) == degenerate
    assert is_degenerate(np.array(polygon)) == degenerate or polygon == 3.0


@pytest.mark.parametrize(
    ("box", "said"),
    [
        (None, "has no 'bbox'."),
        ([], "has no 'bbox'."),
        ([1.0, 2.0, 3.0], "has the 'bbox' [1.0, 2.0, 3.0]."),
        ([1.0, 2.0, float("nan"), 4.0], "has the 'bbox' [1.0, 2.0, nan, 4.0]."),
        ([1, 2, 3, None], "has the 'bbox' [1, 2, 3, None]."),
        ("abcd", "has the 'bbox' 'abcd'."),
        (7, "has the 'bbox' 7."),
    ],
)
def test_invalid_boxes(box, said):
    text = str(box_problem({"bbox": box}))
    assert said in text
    assert "A box is 4 finite numbers: x, y, width, height in COCO's JSON" in text


@pytest.mark.parametrize("box", [[1, 2, 3, 4], (1, 2, 3, 4), np.array([1.0, 2.0, 0.0, 0.0])])
def test_valid_boxes(box):
    assert box_problem({"bbox": box}) is None


def test_rotated_boxes_have_five_numbers():
    assert box_problem({"bbox": [7, 7, 9, 9, 45], "bbox_mode": BoxMode.XYWHA_ABS}) is None
    assert box_problem({"bbox": [7, 7, 9, 9, 45], "bbox_mode": BoxMode.XYWH_ABS})
    assert box_problem({"bbox": [7, 7, 9, 9], "bbox_mode": BoxMode.XYWHA_ABS})


def annotation_problems(annotation, num_classes, masks):
    """Those of an annotation that is alone in its image."""
    record = {"height": HEIGHT, "width": WIDTH, "annotations": [annotation]}
    (checked,) = checked_annotations(record, num_classes, masks=masks, is_train=True)
    return checked.problems


@pytest.mark.parametrize("category", [5, -1, None, "car"])
def test_unknown_classes(category):
    annotation = {"bbox": [1, 2, 3, 4], "category_id": category, "segmentation": [SQUARE]}
    (problem,) = annotation_problems(annotation, 5, masks=True)
    text = str(problem)
    said = f"has category_id {category}, but classes are 0 to 4 (MODEL.ROI_HEADS.NUM_CLASSES is 5)"
    assert said in text
    assert "to the number of classes of the data set; in data set dicts they count from 0" in text


@pytest.mark.parametrize("category", [0, 4, np.int64(4)])
def test_valid_annotations(category):
    annotation = {"bbox": [1, 2, 3, 4], "category_id": category}
    assert not annotation_problems(annotation, 5, masks=False)
    assert [problem.kind for problem in annotation_problems(annotation, 5, True)] == ["no-mask"]
    annotation["segmentation"] = [SQUARE]
    assert not annotation_problems(annotation, 5, masks=True)


def test_names():
    record = {"file_name": "a.png", "image_id": 7}
    name = CheckedAnnotation({"id": 3}, 0, record, []).name
    assert name == "Annotation id 3 of image (id 7) a.png"
    name = CheckedAnnotation({}, 2, {"file_name": "a.png"}, []).name
    assert name == "Annotation number 2 (from 0) of image a.png"


def test_problem_log(caplog):
    ProblemLog("a set").report()
    log = ProblemLog("a set")
    for number in range(3):
        problem = Problem("bad-mask", f"has fault {number}", "Correct it.", stops=False)
        log.add(f"Annotation {number}", problem)
    log.add("Annotation 3", Problem("bad-box", "is broken", "Replace it."))
    log.add("Annotation 4", Problem("bad-box", "is lost", "Find it."))
    with pytest.raises(InputError) as caught:
        log.report()
    assert str(caught.value) == "Annotation 3 is broken. Replace it."
    said = "Annotation 0 has fault 0. Correct it. (3 annotations of a set are like it.)"
    assert [record.getMessage() for record in caplog.records] == [said]
