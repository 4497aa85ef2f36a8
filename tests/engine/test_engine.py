"""What the tools share."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetMapper

import pointrend_seg
from pointrend_seg.engine import find_task
from pointrend_seg.engine.config_loading import load_config, use_available_device
from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.errors import InputError
from small_configs import small_instance_cfg

no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@no_cuda
def test_without_cuda_it_says_so_and_uses_the_cpu(caplog):
    cfg = load_config("", ["SOLVER.AMP.ENABLED", "True"])
    assert cfg.MODEL.DEVICE == "cpu" and cfg.SOLVER.AMP.ENABLED is False
    assert (
        "MODEL.DEVICE is 'cuda', but PyTorch finds no such device: running on the CPU"
        in caplog.text
    )
    assert "SOLVER.AMP.ENABLED needs a CUDA device" in caplog.text


@pytest.mark.parametrize(
    ("device", "count", "amp", "expected", "words"),
    [
        ("cuda", 1, True, ("cuda", True), []),
        ("cuda:1", 2, False, ("cuda:1", False), []),
        ("cuda:1", 0, False, ("cpu", False), ["is 'cuda:1', but PyTorch finds no such device"]),
        ("cpu", 1, True, ("cpu", False), ["AMP.ENABLED needs a CUDA device"]),
        ("cpu", 0, False, ("cpu", False), []),
        ("mps", 1, False, ("mps", False), []),
        ("mps", 1, True, ("mps", False), ["AMP.ENABLED needs a CUDA device"]),
        ("mps", 0, False, ("cpu", False), ["is 'mps', but PyTorch finds no such device"]),
        ("xpu:0", 0, True, ("cpu", False), ["is 'xpu:0', but", "AMP.ENABLED needs"]),
        ("meta", 0, False, ("cpu", False), ["is 'meta', but PyTorch finds no such device"]),
    ],
)
def test_the_device_is_one_that_is_there(device, count, amp, expected, words, caplog, monkeypatch):
    cfg = load_config("", ["MODEL.DEVICE", "cpu"])
    cfg.MODEL.DEVICE, cfg.SOLVER.AMP.ENABLED = device, amp
    for kind in ("cuda", "mps", "xpu"):
        monkeypatch.setattr(f"torch.{kind}.is_available", lambda: count > 0)
        monkeypatch.setattr(f"torch.{kind}.device_count", lambda: count)
    use_available_device(cfg)
    found = (cfg.MODEL.DEVICE, cfg.SOLVER.AMP.ENABLED)
    assert found == expected
    assert all(word in caplog.text for word in words) and bool(words) == bool(caplog.text)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("tpu", "is 'tpu', which PyTorch does not know. Set it to 'cpu', 'cuda'"),
        ("cuda:9", "is 'cuda:9', but the last device that PyTorch finds is 'cuda:1'"),
    ],
)
def test_a_device_that_cannot_be_meant_is_refused(device, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(InputError, match=message):
        load_config("", ["MODEL.DEVICE", device])


def test_a_config_file_that_is_not_there_has_others_named(tmp_path, monkeypatch, request):
    (tmp_path / "streets.yaml").write_text("VERSION: 2\n")
    with pytest.raises(InputError, match="does not exist. Did you mean .*/streets.yaml"):
        load_config(str(tmp_path / "street.yaml"))
    monkeypatch.chdir(request.config.rootpath)
    wanted = "quick/pointrend_rcnn_R_18_FPN.yaml"
    with pytest.raises(InputError, match=f"Did you mean configs/{wanted}"):
        load_config(wanted)


def test_class_counts_come_from_the_data_where_that_is_asked_for(registered):
    registered("engine_of_the_tests", thing_classes=["a", "b"])
    opts = ["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", ("engine_of_the_tests",)]
    assert load_config("", opts).MODEL.ROI_HEADS.NUM_CLASSES == 80
    cfg = load_config("", [*opts, "DATASETS.CLASSES_FROM_DATA", True])
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2


def test_a_config_of_detectron2s_pointrend_is_translated(tmp_path, caplog):
    path = tmp_path / "builtin.yaml"
    path.write_text(
        "MODEL:\n"
        "  DEVICE: cpu\n"
        "  SEM_SEG_HEAD: {NAME: PointRendSemSegHead, NUM_CLASSES: 19}\n"
        "  POINT_HEAD: {NUM_CLASSES: 19, SUBDIVISION_STEPS: 2, COARSE_PRED_EACH_LAYER: False}\n"
    )
    with caplog.at_level("INFO"):
        cfg = load_config(str(path), ["MODEL.POINT_HEAD.TRAIN_NUM_POINTS", "99"])
    assert cfg.MODEL.SEM_SEG_HEAD.NAME == "PointRendSemanticHead"
    assert cfg.MODEL.SEM_SEG_POINT_HEAD.TRAIN_NUM_POINTS == 99
    assert "PointRendSemSegHead -> PointRendSemanticHead" in caplog.text


@pytest.mark.parametrize(
    ("opts", "text"),
    [
        (
            ["MODEL.SEM_SEG_HEAD.NUM_CLASES", "3"],
            "NUM_CLASES .*Did you mean .*NUM_CLASSES",
        ),
        (["MODEL.SEM_SEG_HEAD.NUM_CLASSES"], "NUM_CLASSES has no value"),
        (
            ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", "many"],
            "of type int, as its default 54 is, but .* it is many",
        ),
    ],
)
def test_keys_and_values_that_do_not_fit(opts, text):
    with pytest.raises(InputError, match=text):
        load_config("", opts)


def test_a_yaml_file_that_is_none(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("MODEL: [unclosed\n")
    with pytest.raises(InputError, match="broken.yaml"):
        load_config(str(path))


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("MODEL.META_ARCHITECTURE", "SemanticSegmentor"),
        ("MODEL.BACKBONE.NAME", "build_resnet_deeplab_backbone"),
        ("MODEL.SEM_SEG_HEAD.NAME", "PointRendSemanticHead"),
    ],
)
def test_a_name_that_is_not_registered_lists_the_known(key, known):
    opts = ["MODEL.DEVICE", "cpu", "MODEL.META_ARCHITECTURE", "SemanticSegmentor", key, "Nobody"]
    with pytest.raises(InputError, match=f"{key} is 'Nobody'.*Known names: .*{known}"):
        Trainer.build_model(load_config("", opts))


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
        ("MODEL.ROI_MASK_HEAD.NAME", "PointRendInstanceHead"),
    ],
)
def test_names_of_the_parts_of_an_instance_model(key, known):
    cfg = load_config("", ["MODEL.DEVICE", "cpu", key, "Nobody", "MODEL.MASK_ON", True])
    with pytest.raises(InputError, match=f"{key} is 'Nobody'.*Known names: .*{known}"):
        find_task(cfg).check_names(cfg)
    cfg.MODEL.MASK_ON = False  # then there is no mask head
    if key == "MODEL.ROI_MASK_HEAD.NAME":
        find_task(cfg).check_names(cfg)


def test_a_task_is_found_in_one_place():
    """Everybody else asks the task."""
    package = Path(pointrend_seg.__file__).parent
    kinds = "SemanticSegmentor|GeneralizedRCNN|PanopticFPN"
    asks = re.compile(rf"META_ARCHITECTURE\s*(==|!=|in\b)|\"({kinds})\":")
    files = (*package.rglob("*.py"), *(package.parents[1] / "tools").glob("*.py"))
    assert [path.name for path in files if asks.search(path.read_text())] == ["tasks.py"]


def test_a_model_of_another_kind_goes_detectron2s_way_and_the_log_says_so(caplog):
    cfg = small_instance_cfg()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    task = find_task(cfg)
    assert type(task.build_mapper(cfg, is_train=True)) is DatasetMapper
    task.check_dataset(cfg, "coco_2017_val")
    assert "RetinaNet: the data set coco_2017_val is not checked" in caplog.text


@pytest.mark.parametrize("value", ["1", 1, "-1", "+1", 1.0])
def test_whole_numbers_for_keys_with_fractions(value):
    cfg = load_config("", ["INPUT.SCALE_TEST", value, "SOLVER.MAX_ITER", "7"])
    assert abs(cfg.INPUT.SCALE_TEST) == 1 and isinstance(cfg.INPUT.SCALE_TEST, float)
    assert type(cfg.SOLVER.MAX_ITER) is int
