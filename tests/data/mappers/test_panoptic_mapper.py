"""The input of panoptic models, made of panoptic PNGs or of separate files."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, DatasetMapper

from pointrend_seg.config import add_pointrend_config
from pointrend_seg.data.mappers.panoptic import PanopticMapper
from pointrend_seg.engine import load_config  # noqa: F401 registers the synthetic data sets
from pointrend_seg.errors import InputError
from pointrend_seg.structures.panoptic_png import encode_ids


def config(train="", things=9, semantic=6, **opts):
    cfg = get_cfg()
    add_pointrend_config(cfg)
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = things, semantic
    cfg.DATASETS.TRAIN = (train,) if train else ()
    cfg.INPUT.MIN_SIZE_TRAIN = (96,)
    cfg.merge_from_list([part for item in opts.items() for part in item])
    return cfg


@pytest.fixture
def drawn(tmp_path):
    """An image of 16 x 24 with a thing, a crowd, two kinds of stuff and unlabelled pixels."""
    ids = np.zeros((16, 24), int)
    ids[:8], ids[8:14], ids[2:7, 3:9], ids[4:12, 14:20] = 5, 70000, 300, 301
    cv2.imwrite(str(tmp_path / "a.png"), encode_ids(ids)[..., ::-1])
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((16, 24, 3), np.uint8))
    segments = [
        {"id": 301, "category_id": 1, "isthing": True, "iscrowd": 1},
        {"id": 5, "category_id": 2, "isthing": False},
        {"id": 300, "category_id": 0, "isthing": True, "iscrowd": 0},
        {"id": 70000, "category_id": 1, "isthing": False},
    ]
    labels = np.full((16, 24), 255)
    labels[:8], labels[8:14], labels[2:7, 3:9], labels[4:12, 14:20] = 2, 1, 0, 0
    record = {
        "file_name": str(tmp_path / "a.jpg"),
        "pan_seg_file_name": str(tmp_path / "a.png"),
        "segments_info": segments,
    }
    return record, labels


def mapper_without_changes(**opts):
    cfg = config(things=2, semantic=3, **{"INPUT.RANDOM_FLIP": "none"}, **opts)
    cfg.INPUT.MIN_SIZE_TRAIN = (16,)
    return PanopticMapper(cfg, is_train=True)


def test_objects_and_labels_of_a_png(drawn):
    """Crowds are things in the labels, but no objects; unlabelled pixels are ignored."""
    record, labels = drawn
    output = mapper_without_changes()(record)
    assert torch.equal(output["sem_seg"], torch.as_tensor(labels))
    assert output["sem_seg"].dtype == torch.int64
    instances = output["instances"]
    assert instances.gt_classes.tolist() == [0]
    assert instances.gt_boxes.tensor.tolist() == [[3, 2, 9, 7]]
    expected = np.zeros((1, 16, 24), bool)
    expected[0, 2:7, 3:9] = True
    assert np.array_equal(np.asarray(instances.gt_masks.tensor).astype(bool), expected)
    assert not output.keys() & {"pan_seg_file_name", "segments_info", "annotations"}


def test_evaluation_reads_no_labels(drawn):
    record, _ = drawn
    record["pan_seg_file_name"] = "missing.png"
    output = PanopticMapper(config(things=2, semantic=3), is_train=False)(record)
    assert not output.keys() & {"instances", "sem_seg"} and output["height"] == 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments_info": []}, "pixels of segment 5, 300, 301, ..., which its segments_info"),
        ({"pan_seg_file_name": None}, "is an image of one channel, but COCO's panoptic PNGs"),
        ({"height": 16, "width": 23}, "24 x 16 .*but the data set says 23 x 16"),
        ({"pan_seg_file_name": "nowhere.png"}, "The label file nowhere.png does not exist"),
    ],
)
def test_faults(drawn, tmp_path, change, message):
    record, labels = drawn
    if change.get("pan_seg_file_name", "") is None:
        cv2.imwrite(str(tmp_path / "gray.png"), labels.astype(np.uint8))
        change = {"pan_seg_file_name": str(tmp_path / "gray.png")}
    with pytest.raises(InputError, match=message):
        mapper_without_changes()(record | change)


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ({"id": 5}, "two of its segments have the id 5"),
        ({"id": 0}, "a segment has the id 0, not one from 1 to 16777215"),
        ({"category_id": 2}, "has category_id 2, which is no thing of 2 things and 2 kinds of"),
        ({"category_id": 0, "isthing": False}, "has category_id 0, which is no stuff"),
    ],
)
def test_faults_of_a_segment(drawn, segment, message):
    record, _ = drawn
    record["segments_info"][0] |= segment
    with pytest.raises(InputError, match=message):
        mapper_without_changes()(record)


def test_another_size_of_the_png(drawn, tmp_path):
    record, _ = drawn
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((24, 16, 3), np.uint8))
    with pytest.raises(InputError, match="Image and segments differ in size: .*16 x 24"):
        mapper_without_changes()(record)


def test_a_data_set_without_labels(drawn):
    record, _ = drawn
    with pytest.raises(InputError, match="gives no panoptic labels .*'annotations' and 'sem_seg"):
        mapper_without_changes()({"file_name": record["file_name"], "annotations": []})


def test_png_and_separate_files_agree(instance_datasets):
    """Both forms of COCO give the same labels; masks differ where polygons were rasterized."""
    names = ["coco_2017_train_panoptic", "coco_2017_train_panoptic_separated"]
    opts = {"INPUT.CROP.ENABLED": True, "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": 0.6}
    opts["INPUT.COLOR_AUG_SSD"] = True
    mappers = [PanopticMapper(config(name, 80, 54, **opts), is_train=True) for name in names]
    for number, records in enumerate(zip(*map(DatasetCatalog.get, names), strict=True)):
        outputs = []
        for mapper, record in zip(mappers, records, strict=True):
            np.random.seed(number)  # noqa: NPY002
            outputs.append(mapper(record))
        png, separate = outputs
        for key in ("image", "sem_seg"):
            assert torch.equal(png[key], separate[key])
        assert png["image"].shape[1:] == png["sem_seg"].shape
        things = png["instances"].gt_masks.tensor.any(0)
        ours, theirs = (np.asarray(each, bool) for each in (things, png["sem_seg"] == 0))
        assert (ours == theirs).mean() > 0.999  # objects of no area after the crop are left out
        masks = [each["instances"].gt_masks.tensor for each in outputs]
        classes = [each["instances"].gt_classes for each in outputs]
        assert torch.equal(*classes)
        same = sum((a == b).float().mean() for a, b in zip(*masks, strict=True)) / len(masks[0])
        assert same > 0.99


def test_separate_files_as_detectron2_reads_them(instance_datasets):
    """Images, boxes, classes and labels are those of Detectron2's mapper with the same seed."""
    name = "coco_2017_train_panoptic_separated"
    cfg = config(name, 80, 54)
    cfg.INPUT.MASK_FORMAT = "bitmask"
    ours, theirs = PanopticMapper(cfg, is_train=True), DatasetMapper(cfg, is_train=True)
    for number, record in enumerate(DatasetCatalog.get(name)):
        found = []
        for mapper in (ours, theirs):
            np.random.seed(number)  # noqa: NPY002
            found.append(mapper(record))
        for key in ("image", "sem_seg"):
            assert torch.equal(found[0][key], found[1][key])
        a, b = (each["instances"] for each in found)
        assert torch.equal(a.gt_boxes.tensor, b.gt_boxes.tensor)
        assert torch.equal(a.gt_classes, b.gt_classes)
        assert torch.equal(torch.as_tensor(a.gt_masks.tensor), b.gt_masks.tensor)


def test_no_class_fills_a_crop(tmp_path):
    """Of crops from two halves of different stuff, none is more than 70 % of one."""
    ids = np.full((32, 32), 1)
    ids[:, 16:] = 2
    cv2.imwrite(str(tmp_path / "a.png"), encode_ids(ids)[..., ::-1])
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((32, 32, 3), np.uint8))
    segments = [{"id": k, "category_id": k, "isthing": False} for k in (1, 2)]
    paths = {"file_name": str(tmp_path / "a.jpg"), "pan_seg_file_name": str(tmp_path / "a.png")}
    opts = {"INPUT.CROP.ENABLED": True, "INPUT.CROP.TYPE": "absolute", "INPUT.CROP.SIZE": [16, 16]}
    for most, constrained in ((0.7, True), (1.0, False)):
        opts["INPUT.CROP.SINGLE_CATEGORY_MAX_AREA"] = most
        mapper, shares = mapper_without_changes(**opts), []
        for seed in range(12):
            np.random.seed(seed)  # noqa: NPY002
            labels = mapper({**paths, "segments_info": segments})["sem_seg"]
            shares.append(max((labels == k).float().mean().item() for k in (1, 2)))
        assert (max(shares) < 0.7) == constrained


@pytest.mark.parametrize("flip", ["horizontal", "none"])
def test_colours_are_changed(flip):
    """After the resize and before the flip, as in semantic training."""
    cfg = config(**{"INPUT.COLOR_AUG_SSD": True, "INPUT.RANDOM_FLIP": flip})
    names = [type(each).__name__ for each in PanopticMapper(cfg, is_train=True).augmentations.augs]
    assert (
        names == ["ResizeShortestEdge", "ColorAugSSD", "RandomFlip"][: 3 if flip != "none" else 2]
    )
