"""What follows from a panoptic model: its classes, its heads, what it refuses, a dry run."""

import pytest

from pointrend_seg.data.mappers.panoptic import PanopticMapper
from pointrend_seg.engine import find_task, load_config
from pointrend_seg.engine.dry_run import dry_run
from pointrend_seg.engine.summary import _parts
from pointrend_seg.errors import InputError
from small_configs import PANOPTIC, small_instance_cfg

DATA = (
    *("DATASETS.TRAIN", ("synthetic_panoptic_train",)),
    *("DATASETS.TEST", ("synthetic_panoptic_val",)),
    *("INPUT.MIN_SIZE_TRAIN", (128,), "INPUT.MIN_SIZE_TEST", 128, "SOLVER.IMS_PER_BATCH", 2),
)


def panoptic_cfg(*opts, num_classes=9):
    return small_instance_cfg(num_classes, (*PANOPTIC, *DATA, *opts))


def test_the_counts_of_both_branches_follow_the_data(instance_datasets, caplog):
    cfg = panoptic_cfg(num_classes=2)
    with caplog.at_level("INFO"):
        find_task(cfg).take_classes_from_data(cfg)
    model = cfg.MODEL
    assert (model.ROI_HEADS.NUM_CLASSES, model.POINT_HEAD.NUM_CLASSES) == (9, 9)
    assert model.SEM_SEG_HEAD.NUM_CLASSES == 6
    assert "MODEL.SEM_SEG_HEAD.NUM_CLASSES: 3 -> 6, from the data set" in caplog.text
    classes = find_task(cfg).classes(cfg)
    assert len(classes) == 14 and classes.num_things == 9
    assert classes.names[9:] == ("sky", "ground", "path", "skyline", "hood")


def test_limits_follow_the_objects_of_panoptic_segments(instance_datasets):
    cfg = panoptic_cfg("TEST.DETECTIONS_PER_IMAGE", 1)
    find_task(cfg).take_classes_from_data(cfg)
    assert cfg.TEST.DETECTIONS_PER_IMAGE > 1


def test_counts_from_a_data_set_without_stuff(instance_datasets):
    cfg = panoptic_cfg("DATASETS.TRAIN", ("coco_2017_train",))
    with pytest.raises(InputError, match="coco_2017_train is not one for panoptic segmentation"):
        find_task(cfg).take_classes_from_data(cfg)
    cfg.DATASETS.TRAIN = ("nobody",)
    with pytest.raises(InputError, match="nobody"):
        find_task(cfg).take_classes_from_data(cfg)


@pytest.mark.parametrize(
    ("opts", "text"),
    [
        (("MODEL.MASK_ON", False), "a panoptic model needs masks. Set it to True"),
        (("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 1), "one more than there are kinds of stuff"),
        (("MODEL.SEM_SEG_HEAD.NAME", "Nobody"), "MODEL.SEM_SEG_HEAD.NAME is 'Nobody'"),
        (("MODEL.ROI_MASK_HEAD.NAME", "Nobody"), "MODEL.ROI_MASK_HEAD.NAME is 'Nobody'"),
        (("TEST.TILES.SIZE", 512), "panoptic models see images whole. Set it to 0"),
        (
            (
                *("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
                *("MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT", 0.5),
            ),
            "INSTANCE_LOSS_WEIGHT is 0.5, which Detectron2 cannot set",
        ),
    ],
)
def test_what_is_refused(opts, text):
    with pytest.raises(InputError, match=text):
        cfg = panoptic_cfg(*opts)
        find_task(cfg).check_names(cfg)


def test_mapper_and_heads(instance_datasets):
    cfg = panoptic_cfg()
    task = find_task(cfg)
    assert task.is_panoptic and not task.is_semantic
    assert type(task.build_mapper(cfg, is_train=True)) is PanopticMapper
    assert _parts(cfg).startswith("PanopticFPN, PointRendSemanticHead, PointRendInstanceHead, ")


def test_a_dry_run(instance_datasets):
    result = dry_run(panoptic_cfg("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 6))
    (train, test) = result.datasets
    assert train[:3] == ("synthetic_panoptic_train", "train", 6) and test[1:3] == ("test", 3)
    assert train[3] > 0 and train[4] == 14
    assert {"loss_sem_seg", "loss_sem_seg_point", "loss_mask", "loss_mask_point"} <= {
        *result.losses
    }
    assert "sem_seg_head" in result.parameters and result.detections is not None


def test_the_settings_of_detectron2s_panoptic_fpn():
    """PointRend apart, a model of the same name there has the same values."""
    from detectron2 import model_zoo

    for schedule in ("1x", "3x"):
        ours = load_config(f"configs/coco/pointrend_panoptic_R_50_FPN_{schedule}_coco.yaml")
        theirs = model_zoo.get_config(
            f"COCO-PanopticSegmentation/panoptic_fpn_R_50_{schedule}.yaml"
        )
        for key in ("DATASETS", "DATALOADER", "SOLVER"):
            for name, value in theirs[key].items():
                assert ours[key][name] == value, (key, name)
        for key in ("MIN_SIZE_TRAIN", "MAX_SIZE_TRAIN", "MIN_SIZE_TEST", "MAX_SIZE_TEST"):
            assert ours.INPUT[key] == theirs.INPUT[key]
        for name, value in theirs.MODEL.SEM_SEG_HEAD.items():
            assert name == "NAME" or ours.MODEL.SEM_SEG_HEAD[name] == value, name
        for node in ("RPN", "FPN", "RESNETS", "ANCHOR_GENERATOR", "ROI_HEADS", "PANOPTIC_FPN"):
            assert ours.MODEL[node].dump() == theirs.MODEL[node].dump() or node == "RESNETS"
