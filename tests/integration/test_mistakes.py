"""Mistakes of users: one helpful message, no traceback, exit status 2."""

import re

import pytest

SEMANTIC = ("--config-file", "configs/quick/pointrend_deeplabv3_R_18_OS16.yaml")
INSTANCE = ("--config-file", "configs/quick/pointrend_rcnn_R_18_FPN.yaml")
OBJECTS = ("DATASETS.TRAIN", "('synthetic_instances_train',)", "MODEL.DEVICE", "cpu")


@pytest.fixture
def mistake(run_in_process, monkeypatch, request, tmp_path):
    """Run train_net.py and return its error message."""
    monkeypatch.chdir(request.config.rootpath)

    def run(*args):
        status, _, text = run_in_process("train_net", *args, "OUTPUT_DIR", tmp_path / "out")
        assert status == 2 and "Traceback" not in text, text
        last = text.strip().splitlines()[-1]
        assert last.startswith("error: ") and len(last) < 900
        assert not (tmp_path / "out").exists()  # what is refused leaves no trace
        return last

    return run


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("MODEL.NO_SUCH_KEY", 7), "MODEL.NO_SUCH_KEY.*docs/configuration.md"),
        (("MODEL.SEM_SEG_HED.NAME", 7), "MODEL.SEM_SEG_HED.NAME.*Did you mean MODEL.SEM_SEG_HEAD"),
        (("SOLVER.BASE_LR", "fast"), "SOLVER.BASE_LR must be of type float.*it is fast"),
        (("SOLVER.BASE_LR=0.01",), "Write SOLVER.BASE_LR 0.01 instead"),
        (("MODEL.WEIGHTS", "x.pth", "--eval-only"), "--eval-only stands among the pairs"),
        (("--num-gpus", 99), "which 99 processes cannot share|--num-gpus is 99, but PyTorch finds"),
        (("--num-gpus", 0), "--num-gpus is 0, but must be 1 or more"),
        (("--num-gpus", 0, "--dry-run"), "--num-gpus is 0, but must be 1 or more"),
        (("--num-gpus", 2, "SOLVER.IMS_PER_BATCH", 3), "is 3, which 2 processes cannot share"),
        (("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 7), "NUM_CLASSES is 7.*19 classes"),
        (("MODEL.WEIGHTS", "gone.pth"), "There are no weights at gone.pth"),
        (("--eval-only",), "There are no weights to evaluate"),
        (("--train-data", "nowhere", "nowhere/labels"), "nowhere/labels is neither a folder of"),
        (("--train-data", "nowhere", "gone.json"), "/nowhere does not exist"),
        (("--train-data", "configs", "configs"), "classes of data set custom_train are unknown"),
        (("--classes", "classes.txt"), "--classes and --ignore-value need --train-data"),
        (("--dry-run", "SOLVER.IMS_PER_BATCH", 4, "MODEL.BACKBONE.NAME", "resnet"), "'resnet'"),
    ],
)
def test_semantic(args, text, mistake, datasets):
    assert re.search(text, mistake(*SEMANTIC, *args))


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("MODEL.ROI_HEADS.NUM_CLASSES", 7), "NUM_CLASSES is 7.*9 classes"),
        (("MODEL.POINT_HEAD.IN_FEATURES", "['p9']"), "POINT_HEAD.IN_FEATURES is .'p9'.*p2, p3"),
        (("MODEL.ROI_MASK_HEAD.POOLER_TYPE", "ROIAlignV2"), "POOLER_TYPE is 'ROIAlignV2'.*''"),
        (
            ("MODEL.ROI_MASK_HEAD.NAME", "PointRendMaskHed"),
            "'PointRendMaskHed'.*Known names: .*PointRendInstanceHead",
        ),
        (("MODEL.RPN.HEAD_NAME", "StandardRPN"), "HEAD_NAME is 'StandardRPN'.*StandardRPNHead"),
        (("DATASETS.TRAIN", "('synthetic_instances_tran',)"), "synthetic_instances_train"),
    ],
)
def test_instances(args, text, mistake, instance_datasets):
    assert re.search(text, mistake(*INSTANCE, *args))


def test_instance_labels_for_a_semantic_config(mistake, instance_datasets):
    file = instance_datasets / "coco/annotations/synthetic_instances_train.json"
    text = mistake(*SEMANTIC, "--train-data", instance_datasets / "coco/train2017", file)
    assert (
        "is a COCO instance file, but this is a semantic config. Use for example configs/" in text
    )


def test_missing_config_file(mistake):
    text = mistake("--config-file", "configs/quick/pointrend_rcnn_R18_FPN.yaml")
    assert "R18_FPN.yaml does not exist. Did you mean configs/quick/pointrend_rcnn_R_18_FPN" in text


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((), "There is no --config-file, which names the model.* Use for example configs/quick/"),
        (("--eval-only",), "There is no --config-file"),
        (("--dry-run",), "There is no --config-file"),
        (("help",), "There is no --config-file"),
        (("--train-data", "images", "objects.json"), "There is no --config-file"),
        ((SEMANTIC[1],), f"Write --config-file {SEMANTIC[1]}"),
        (("--config-file", ""), "There is no --config-file"),
        (("--config-file", "configs"), "configs does not exist"),
    ],
)
def test_no_config_file(args, text, mistake):
    """Detectron2's default model, which would be trained otherwise, takes 14 GB."""
    assert re.search(text, mistake(*args))
