# ruff: noqa: NPY002  (Detectron2 seeds NumPy's global state)
import copy
import sys
from importlib.util import find_spec

import numpy as np
import pycocotools.mask as mask_util
import pytest
import torch
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.data.datasets.cityscapes import load_cityscapes_instances
from detectron2.structures import BoxMode, polygons_to_bitmask
from PIL import Image

from cityscapes_tree import CAR, PERSON, write_cityscapes_tree
from pointrend_seg.data.cityscapes import ensure_cityscapes_importable
from pointrend_seg.data.mappers.instance import InstanceMapper
from pointrend_seg.errors import InputError
from pointrend_seg.structures.shared_masks import SharedMasks
from small_configs import small_instance_cfg

HEIGHT, WIDTH = 40, 60
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
DISC = (ROWS - 20) ** 2 + (COLUMNS - 18) ** 2 < 150
BLOCK = (ROWS >= 8) & (ROWS < 30) & (COLUMNS >= 36) & (COLUMNS < 55)
POLYGON = [36.0, 8.0, 55.0, 8.0, 55.0, 30.0, 36.0, 30.0]  # BLOCK
TRIANGLES = [[3.5, 30.0, 14.0, 31.0, 5.0, 39.0], [20.0, 35.0, 33.3, 35.0, 25.0, 39.5]]


def compressed(mask):
    return mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))


def uncompressed(mask):
    """By hand: lengths of runs in column order, the first of them of 0."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [not mask[-1, -1]]])
    edges = np.flatnonzero(np.diff(flat.astype(int)))
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    return {"size": list(mask.shape), "counts": counts}


def thing(segmentation, box, category=0, **more):
    annotation = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": category, **more}
    return annotation if segmentation is None else annotation | {"segmentation": segmentation}


def disc(segmentation, **more):
    return thing(segmentation, [6.0, 8.0, 31.0, 33.0], **more)


def block(segmentation, **more):
    return thing(segmentation, [36.0, 8.0, 55.0, 30.0], category=2, **more)


@pytest.fixture
def cfg():
    cfg = small_instance_cfg(num_classes=5)
    cfg.INPUT.MIN_SIZE_TRAIN = (24, 32, 48)
    cfg.INPUT.MIN_SIZE_TEST = 32
    return cfg


@pytest.fixture
def as_is(cfg):
    """A config that leaves images as they are."""
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.RANDOM_FLIP = (HEIGHT,), "none"
    return cfg


@pytest.fixture
def record(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return {
        "file_name": str(tmp_path / "a.png"),
        "height": HEIGHT,
        "width": WIDTH,
        "image_id": 17,
        "annotations": [disc(compressed(DISC), category=3), block([POLYGON])],
    }


def from_seed(seed, mapper, record):
    np.random.seed(seed)
    return mapper(record)


def masks_of(cfg, record):
    return InstanceMapper(cfg, is_train=True)(record)["instances"].gt_masks.tensor.numpy()


def message(cfg, record, annotation=None, is_train=True):
    if annotation is not None:
        record = record | {"annotations": [annotation]}
    with pytest.raises(InputError) as caught:
        InstanceMapper(cfg, is_train)(record)
    return str(caught.value)


@pytest.mark.parametrize("crop", [None, "absolute", "relative_range", "relative"])
@pytest.mark.parametrize("flip", ["horizontal", "vertical", "none"])
def test_same_as_detectron2s_mapper(cfg, record, crop, flip):
    """Boxes of crops are recomputed from bits there as well as here."""
    record["annotations"] += [thing(TRIANGLES, [3.5, 30.0, 33.3, 39.5], category=4)]
    if crop:
        if find_spec("shapely") is None:  # Detectron2 cuts polygons with it
            bits = [polygons_to_bitmask(TRIANGLES, HEIGHT, WIDTH), BLOCK]
            for annotation, mask in zip(record["annotations"][::-1], bits, strict=False):
                annotation["segmentation"] = compressed(mask)
        cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE = True, crop
        cfg.INPUT.CROP.SIZE = [25, 30] if crop == "absolute" else [0.5, 0.6]
    cfg.INPUT.RANDOM_FLIP = flip
    cfg.INPUT.MASK_FORMAT = "bitmask"
    theirs, ours = DatasetMapper(cfg, True), InstanceMapper(cfg, True)
    counts = set()
    for seed in range(8):
        expected, found = from_seed(seed, theirs, record), from_seed(seed, ours, record)
        assert found.keys() == expected.keys()
        assert found["image"].dtype == expected["image"].dtype
        assert torch.equal(found["image"], expected["image"])
        expected, found = expected["instances"], found["instances"]
        assert found.image_size == expected.image_size
        assert torch.equal(found.gt_boxes.tensor, expected.gt_boxes.tensor)
        assert torch.equal(found.gt_classes, expected.gt_classes)
        assert torch.equal(found.gt_masks.tensor, expected.gt_masks.tensor)
        counts.add(len(found))
    assert counts == {3} or (crop and max(counts) == 3)


def test_same_boxes_as_with_polygons(cfg, record):
    record["annotations"] = [block([POLYGON]), thing(TRIANGLES, [3.5, 30.0, 33.3, 39.5])]
    for seed in range(6):
        expected = from_seed(seed, DatasetMapper(cfg, True), record)
        found = from_seed(seed, InstanceMapper(cfg, True), record)
        assert torch.equal(found["image"], expected["image"])
        expected, found = expected["instances"], found["instances"]
        assert torch.equal(found.gt_boxes.tensor, expected.gt_boxes.tensor)
        assert torch.equal(found.gt_classes, expected.gt_classes)


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_masks_of_all_forms_in_one_image(as_is, record, mask_format):
    as_is.INPUT.MASK_FORMAT = mask_format
    record["annotations"] = [
        disc(compressed(DISC)),
        disc(compressed(DISC) | {"counts": compressed(DISC)["counts"].decode()}),
        disc(uncompressed(DISC)),
        disc(DISC),
        disc(DISC.astype(np.int64) * 255),
        block([POLYGON]),
        block([np.array(POLYGON)]),
        block([np.array(POLYGON).reshape(-1, 2)]),
        block(uncompressed(BLOCK)),
        block([TRIANGLES[0], POLYGON]),
    ]
    found = InstanceMapper(as_is, is_train=True)(record)["instances"]
    assert isinstance(found.gt_masks, SharedMasks)
    assert found.gt_masks.bits.dtype == torch.bool
    masks = found.gt_masks.tensor.numpy()
    assert (masks[:5] == DISC).all()
    assert (masks[5:9] == BLOCK).all()
    assert (masks[9] & BLOCK).sum() == BLOCK.sum() < masks[9].sum()
    assert found.gt_classes.tolist() == [0] * 5 + [2] * 5


def test_all_forms_are_transformed_alike(cfg, record):
    cfg.INPUT.RANDOM_FLIP, cfg.INPUT.MIN_SIZE_TRAIN = "horizontal", (HEIGHT * 2,)
    forms = (compressed(BLOCK), uncompressed(BLOCK), BLOCK, [POLYGON])
    record["annotations"] = [block(form) for form in forms]
    flipped = set()
    for seed in range(6):
        found = from_seed(seed, InstanceMapper(cfg, True), record)["instances"]
        expected = BLOCK.repeat(2, axis=0).repeat(2, axis=1)
        if found.gt_boxes.tensor[0, 0] != 72:
            expected, _ = expected[:, ::-1], flipped.add(seed)
        assert (found.gt_masks.tensor.numpy() == expected).all()
    assert 0 < len(flipped) < 6


def test_boxes_are_recomputed_from_cropped_masks(as_is, record):
    as_is.INPUT.CROP.ENABLED, as_is.INPUT.CROP.TYPE = True, "absolute"
    as_is.INPUT.CROP.SIZE, as_is.INPUT.MIN_SIZE_TRAIN = [HEIGHT // 2, WIDTH // 2], (HEIGHT // 2,)
    record["annotations"] = [disc(DISC)]
    tighter = 0
    for seed in range(10):
        found = from_seed(seed, InstanceMapper(as_is, True), record)["instances"]
        for box, mask in zip(found.gt_boxes.tensor, found.gt_masks.tensor, strict=True):
            rows, columns = mask.nonzero(as_tuple=True)
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == around
            tighter += int(mask.sum()) < DISC.sum()
    assert tighter


def test_masks_off(as_is, record):
    as_is.MODEL.MASK_ON = False
    record["annotations"] += [thing(None, [1.0, 1.0, 9.0, 9.0])]
    record["annotations"][0]["segmentation"] = [[1.0]]  # nobody reads it
    found = InstanceMapper(as_is, is_train=True)(record)["instances"]
    assert len(found) == 3 and not found.has("gt_masks")


def test_crowds_and_objects_of_no_area_are_left_out(as_is, record):
    record["annotations"] = [
        thing([POLYGON], [0.0, 0.0, 60.0, 40.0], iscrowd=1),
        thing(None, [0.0, 0.0, 60.0, 40.0], iscrowd=1),
        thing([[5.0, 5.0, 5.0, 5.0, 5.0, 5.0]], [5.0, 5.0, 9.0, 9.0]),
        thing([POLYGON], [8.0, 8.0, 8.0, 20.0]),
        disc(np.zeros((HEIGHT, WIDTH), bool)),
        disc(DISC, category=1),
    ]
    found = InstanceMapper(as_is, is_train=True)(record)["instances"]
    assert found.gt_classes.tolist() == [1]
    assert found.gt_masks.bits.shape == (1, HEIGHT, WIDTH)  # workers send no mask that is unused


@pytest.mark.parametrize("annotations", [[], None, [thing(None, [0.0, 0, 9, 9], iscrowd=1)]])
def test_images_without_objects(cfg, record, annotations):
    record.pop("annotations")
    if annotations is not None:
        record["annotations"] = annotations
    result = InstanceMapper(cfg, is_train=True)(record)
    found = result["instances"]
    assert found.gt_boxes.tensor.shape == (0, 4)
    assert found.gt_classes.shape == (0,) and found.gt_classes.dtype == torch.int64
    assert isinstance(found.gt_masks, SharedMasks)
    assert found.gt_masks.tensor.shape == (0, *result["image"].shape[1:])


def test_evaluation_reads_no_objects(cfg, record):
    record["annotations"] = [thing("nonsense", [])]
    record["sem_seg_file_name"] = "/nowhere.png"
    found = InstanceMapper(cfg, is_train=False)(record)
    expected = DatasetMapper(cfg, is_train=False)(
        record | {"sem_seg_file_name": record["file_name"]}
    )
    assert torch.equal(found["image"], expected["image"])
    assert found.keys() == expected.keys() - {"sem_seg"}


def test_the_data_set_dict_stays_as_it_is(cfg, record):
    record["annotations"] += [disc(DISC), disc(uncompressed(DISC))]
    before = copy.deepcopy(record)
    InstanceMapper(cfg, is_train=True)(record)
    np.testing.assert_equal(record, before)


@pytest.fixture
def keypoint_cfg(cfg):
    MetadataCatalog.get("mapper_keypoints").set(
        keypoint_names=["left", "right", "top"], keypoint_flip_map=[("left", "right")]
    )
    cfg.MODEL.KEYPOINT_ON, cfg.DATASETS.TRAIN = True, ("mapper_keypoints",)
    yield cfg
    MetadataCatalog.remove("mapper_keypoints")


def test_keypoints(keypoint_cfg, record):
    record["annotations"][0]["keypoints"] = [10.5, 20.5, 2, 25.5, 21.5, 2, 17.5, 9.5, 1]
    record["annotations"][1]["keypoints"] = [40.5, 20.5, 2, 50.5, 21.5, 2, 0, 0, 0]
    keypoint_cfg.INPUT.MASK_FORMAT = "bitmask"
    for seed in range(4):
        expected = from_seed(seed, DatasetMapper(keypoint_cfg, True), record)["instances"]
        found = from_seed(seed, InstanceMapper(keypoint_cfg, True), record)["instances"]
        assert torch.equal(found.gt_keypoints.tensor, expected.gt_keypoints.tensor)


def test_keypoints_that_are_missing(keypoint_cfg, record):
    record["annotations"][0]["keypoints"] = [10.5, 20.5, 2, 25.5, 21.5, 2, 17.5, 9.5, 1]
    found = InstanceMapper(keypoint_cfg, True)(record)["instances"].gt_keypoints.tensor
    assert found.shape == (2, 3, 3) and found[0].any() and not found[1].any()
    record["annotations"] = []
    found = InstanceMapper(keypoint_cfg, True)(record)["instances"].gt_keypoints.tensor
    assert found.shape == (0, 3, 3)


def test_precomputed_proposals(cfg, record):
    cfg.MODEL.LOAD_PROPOSALS, cfg.INPUT.MASK_FORMAT = True, "bitmask"
    record["proposal_boxes"] = np.array([[1.0, 2.0, 30.0, 30.0], [5.0, 5.0, 50.0, 20.0]])
    record["proposal_objectness_logits"] = np.array([0.3, 0.2])
    record["proposal_bbox_mode"] = BoxMode.XYXY_ABS
    expected = from_seed(0, DatasetMapper(cfg, True), record)["proposals"]
    found = from_seed(0, InstanceMapper(cfg, True), record)["proposals"]
    assert torch.equal(found.proposal_boxes.tensor, expected.proposal_boxes.tensor)


@pytest.mark.parametrize("form", ["json polygons", "polygons", "run lengths"])
def test_cityscapes_instances(as_is, tmp_path, form):
    pytest.importorskip("cityscapesscripts")
    pytest.importorskip("shapely")
    ensure_cityscapes_importable(instances=True)
    root = write_cityscapes_tree(tmp_path, splits=("train",), cities=("aa",))
    folders = str(root / "leftImg8bit/train"), str(root / "gtFine/train")
    options = {"from_json": form == "json polygons", "to_polygons": "polygons" in form}
    (record,) = load_cityscapes_instances(*folders, **options)
    as_is.MODEL.ROI_HEADS.NUM_CLASSES, as_is.INPUT.MIN_SIZE_TRAIN = 8, (64,)
    found = InstanceMapper(as_is, is_train=True)(record)["instances"]
    classes = found.gt_classes.tolist()
    assert sorted(classes) == [0, 2]  # person and car among person, rider, car, ...
    for region, category in ((PERSON, 0), (CAR, 2)):
        mask = found.gt_masks.tensor[classes.index(category)].numpy()
        expected = np.zeros_like(mask)
        expected[region] = True
        assert (mask & ~expected).sum() == 0
        assert mask.sum() >= 0.9 * expected.sum()  # polygons go through pixel centres
        assert form != "run lengths" or (mask == expected).all()


def test_cropping_polygons_without_shapely(as_is, record, monkeypatch):
    monkeypatch.setitem(sys.modules, "shapely", None)
    monkeypatch.setitem(sys.modules, "shapely.geometry", None)
    as_is.INPUT.CROP.ENABLED = True
    text = message(as_is, record, block([POLYGON]))
    assert "Cropping polygons (INPUT.CROP) needs the package shapely" in text
    assert 'pip install "pointrend-seg[cityscapes]"' in text


def test_missing_image(cfg, record):
    text = message(cfg, record | {"file_name": "/nowhere/x.png"}, is_train=False)
    assert "The image (id 17) /nowhere/x.png does not exist" in text
    assert "DETECTRON2_DATASETS" in text


def test_unreadable_image(cfg, record):
    with open(record["file_name"], "wb") as file:
        file.write(b"no image")
    text = message(cfg, record, is_train=False)
    assert f"The image (id 17) {record['file_name']} cannot be read" in text
    assert "The file could not be decoded; export it again as PNG or JPEG." in text


@pytest.mark.parametrize("is_train", [True, False])
def test_image_of_another_size_than_the_data_set_says(cfg, record, is_train):
    text = message(cfg, record | {"width": 61}, is_train=is_train)
    said = "is 60 x 40 (width x height), but the data set says 61 x 40 (image id 17). Replace"
    assert f"{record['file_name']} {said}" in text


def test_objects_are_named_by_id_or_number(cfg, record):
    record["annotations"][1] = thing(None, [0.0, 0, 9, 9])
    path = record["file_name"]
    assert f"Annotation number 1 (from 0) of image (id 17) {path} has" in message(cfg, record)
    record["annotations"][1]["id"] = 4321
    del record["image_id"]
    assert f"Annotation id 4321 of image {path} has" in message(cfg, record)


def test_objects_of_the_same_id_are_all_kept(as_is, record):
    record["annotations"] = [disc(DISC, id=1), block(BLOCK, id=1)]
    assert len(masks_of(as_is, record)) == 2


def test_invalid_annotations(cfg, record):
    """Of each kind one; test_annotations.py has more."""
    assert "has no 'segmentation'. Annotate its mask" in message(cfg, record, disc(None))
    assert "has a polygon of 4 coordinates" in message(cfg, record, block([POLYGON[:4]]))
    assert "40 x 60 (width x height) as its mask, but" in message(cfg, record, disc(DISC.T))
    assert "has category_id 5, but" in message(cfg, record, disc(DISC, category=5))
    assert "has no 'bbox'" in message(cfg, record, thing(DISC, None))


def test_run_lengths_that_cannot_be_decoded(cfg, record):
    longer = compressed(DISC.repeat(9, axis=1)) | {"size": [HEIGHT, WIDTH]}
    text = message(cfg, record, disc(longer))
    assert "has run lengths that do not add up to its 2400 pixels, but to 21600" in text
    assert "Write the mask again, with pycocotools.mask.encode" in text


def test_a_model_trains_on_it(cfg, record):
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    torch.manual_seed(0)
    batch = [InstanceMapper(cfg, True)(record), InstanceMapper(cfg, True)(record)]
    with EventStorage():
        losses = build_model(cfg).train()(batch)
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_mask_point"] > 0


def test_detectron2s_loader_takes_it(cfg, record):
    from detectron2.data import build_detection_train_loader

    DatasetCatalog.register("mapper_set", lambda: [record] * 4)
    cfg.DATASETS.TRAIN, cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = ("mapper_set",), 1, 2
    try:
        loader = build_detection_train_loader(cfg, mapper=InstanceMapper(cfg, is_train=True))
        batch = next(iter(loader))
    finally:
        DatasetCatalog.remove("mapper_set")
    assert [len(each["instances"].gt_masks) for each in batch] == [2, 2]
