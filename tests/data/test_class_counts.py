"""Which class counts follow the data set, and where its classes are looked for."""

import json

import pytest
from detectron2.data import MetadataCatalog

from pointrend_seg.data.class_counts import dataset_classes
from pointrend_seg.engine import find_task
from pointrend_seg.errors import InputError
from small_configs import small_instance_cfg, small_semantic_cfg

NAME = "class_counts_of_the_tests"
# What the configs below have before.
SEMANTIC, INSTANCE, IGNORED = 5, 7, 255


def counts(cfg):
    model = cfg.MODEL
    heads = (model.ROI_HEADS, model.POINT_HEAD, model.RETINANET)
    semantic = model.SEM_SEG_HEAD
    return (semantic.NUM_CLASSES, semantic.IGNORE_VALUE), [head.NUM_CLASSES for head in heads]


def taken(semantic, train=(NAME,), test=()):
    opts = ("DATASETS.TRAIN", train, "DATASETS.TEST", test, "DATASETS.CLASSES_FROM_DATA", True)
    opts += ("MODEL.RETINANET.NUM_CLASSES", INSTANCE, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", SEMANTIC)
    opts += ("MODEL.POINT_HEAD.NUM_CLASSES", INSTANCE, "MODEL.ROI_HEADS.NUM_CLASSES", INSTANCE)
    cfg = (small_semantic_cfg if semantic else small_instance_cfg)(opts=opts)
    find_task(cfg).take_classes_from_data(cfg)
    assert cfg.DATASETS.CLASSES_FROM_DATA is False
    return counts(cfg)


@pytest.mark.parametrize(
    ("semantic", "ignored", "expected"),
    [
        (True, {"ignore_label": 9}, ((2, 9), [INSTANCE] * 3)),
        (True, {"ignore_label": 0}, ((2, 0), [INSTANCE] * 3)),
        (True, {}, ((2, IGNORED), [INSTANCE] * 3)),
        (False, {"ignore_label": 9}, ((SEMANTIC, IGNORED), [3] * 3)),
    ],
)
def test_the_counts_of_the_model_follow(semantic, ignored, expected, registered):
    registered(NAME, stuff_classes=["a", "b"], thing_classes=["c", "d", "e"], **ignored)
    assert taken(semantic) == expected


def test_the_first_training_set_counts_and_without_one_the_first_test_set(registered, caplog):
    registered(NAME, thing_classes=["a", "b"])
    registered(f"{NAME}_other", thing_classes=[str(k) for k in range(INSTANCE)])
    with caplog.at_level("INFO"):
        assert taken(False, test=(f"{NAME}_other",))[1] == [2] * 3
        assert f"MODEL.ROI_HEADS.NUM_CLASSES: {INSTANCE} -> 2, from the data set" in caplog.text
        assert taken(False, train=(), test=(NAME, f"{NAME}_other"))[1] == [2] * 3
        caplog.clear()
        assert taken(False, train=(f"{NAME}_other", NAME))[1] == [INSTANCE] * 3
        assert not caplog.text  # nothing changed
    with pytest.raises(InputError, match="no data set in DATASETS.TRAIN or DATASETS.TEST"):
        taken(False, train=())
    with pytest.raises(InputError, match=f"no data set '{NAME}_othr'. Did you mean {NAME}_other"):
        taken(False, train=(f"{NAME}_othr",))


def fail():
    raise AssertionError("the data set is not to be loaded")


def test_where_classes_are_looked_for(registered, tmp_path):
    """In the metadata, for objects in the JSON, and then in what loading fills in."""
    file = tmp_path / "objects.json"
    content = {"images": [], "annotations": [], "categories": [{"id": 4, "name": "kite"}]}
    file.write_text(json.dumps(content))
    registered(NAME, fail, thing_classes=["a"], stuff_classes=["b"], json_file=str(file))
    assert dataset_classes(NAME, semantic=False) == ["a"]
    assert dataset_classes(NAME, semantic=True) == ["b"]
    registered(f"{NAME}_json", fail, json_file=str(file))
    assert dataset_classes(f"{NAME}_json", semantic=False) == ["kite"]

    def load():
        MetadataCatalog.get(f"{NAME}_loaded").set(thing_classes=["c"], stuff_classes=["d", "e"])
        return [{"file_name": "a.png"}]

    registered(f"{NAME}_loaded", load)
    assert dataset_classes(f"{NAME}_loaded", semantic=False) == ["c"]


@pytest.mark.parametrize(
    ("semantic", "text"),
    [
        (True, "names for semantic segm.* .stuff_classes.* labels are for instance segm"),
        (False, "names for instance segm.* .thing_classes.* labels are for semantic segm"),
    ],
)
def test_no_classes_of_that_kind(semantic, text, registered):
    registered(NAME, [{"file_name": "a.png"}])
    with pytest.raises(InputError, match=text):
        dataset_classes(NAME, semantic=semantic)


def test_a_json_of_objects_has_no_classes_of_pixels(registered, tmp_path):
    (tmp_path / "objects.json").write_text('{"images": [], "categories": [{"id": 1, "name": "a"}]}')
    file = str(tmp_path / "objects.json")
    registered(NAME, [{"file_name": "a.png"}], json_file=file)
    with pytest.raises(InputError, match="no class names for semantic segmentation"):
        dataset_classes(NAME, semantic=True)


def test_limits_that_are_too_low_for_the_data_are_raised(registered, caplog):
    """Of all data sets; crowds are no objects."""
    few = [{"annotations": [{}] * 10}, {"annotations": [{"iscrowd": 1}] * 500}]
    registered(NAME, few, thing_classes=["a"])
    registered(f"{NAME}_other", [{}, {"annotations": [{}] * 125}], thing_classes=["a"])
    limits = (20, 50, 100, 2000, 6000)  # as in the config

    def taken_limits(*names):
        opts = ("DATASETS.TRAIN", names[:1], "DATASETS.TEST", names[1:])
        cfg = small_instance_cfg(1, (*opts, "MODEL.RPN.PRE_NMS_TOPK_TRAIN", 2000))
        cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 6000
        find_task(cfg).take_classes_from_data(cfg)
        rpn = cfg.MODEL.RPN
        post = rpn.POST_NMS_TOPK_TEST, rpn.POST_NMS_TOPK_TRAIN
        pre = rpn.PRE_NMS_TOPK_TRAIN, rpn.PRE_NMS_TOPK_TEST
        return (cfg.TEST.DETECTIONS_PER_IMAGE, *post, *pre)

    with caplog.at_level("INFO"):
        assert taken_limits(NAME) == limits
        assert "since an image" not in caplog.text
        assert taken_limits(NAME, f"{NAME}_other") == (190, 500, 500, 2000, 6000)
    assert "TEST.DETECTIONS_PER_IMAGE: 20 -> 190, since an image has 125 objects" in caplog.text
