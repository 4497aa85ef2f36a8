"""tools/lazyconfig_train_net.py: trainings, evaluations, and what users get wrong."""

import json

import pytest
import torch
from detectron2.data import DatasetCatalog

from pointrend_seg.engine.lazy_settings import load_settings
from tool_runs import REPOSITORY

QUICK = REPOSITORY / "configs/lazy/quick/pointrend_rcnn_R_18_FPN.py"
DEEPLAB = REPOSITORY / "configs/lazy/quick/pointrend_deeplabv3_R_18_OS16.py"
TINY = (
    *("train.max_iter=2", "dataloader.train.total_batch_size=2", "train.report=False"),
    *("dataloader.train.num_workers=0", "dataloader.test.num_workers=0", "optimizer.lr=0.001"),
    "model.roi_heads.batch_size_per_image=16",
    "dataloader.train.mapper.augmentations.0.short_edge_length=[96]",
    "dataloader.test.mapper.augmentations.0.short_edge_length=96",
)


@pytest.fixture
def run(run_in_process, tmp_path):
    """Runs the tool with a config and changes; `tmp_path`/out is its output folder."""

    def run(config, *changes, options=()):
        args = ["--config-file", config, *options, f"train.output_dir={tmp_path}/out", *changes]
        return run_in_process("lazyconfig_train_net", *args)

    return run


def error_of(result):
    """The one message of a run that the user's input stopped."""
    status, out, err = result
    assert status == 2, err
    assert "Traceback" not in out + err
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    return line


def weights(folder, name="model_final.pth"):
    return torch.load(folder / name, weights_only=False)["model"]


def scores(folder):
    return json.loads((folder / "metrics.json").read_text().splitlines()[-1])


def test_training_resuming_and_evaluating(run, instance_datasets, tmp_path):
    out = tmp_path / "out"
    changes = [*TINY, "train.max_iter=4", "train.checkpointer.period=2"]
    status, _, err = run(QUICK, *changes)
    assert status == 0, err
    whole, found = weights(out), scores(out)
    assert {"bbox/AP", "segm/AP", "boundary/AP"} <= found.keys()
    folder = out / "inference/synthetic_instances_val"
    assert (folder / "coco_instances_results.json").exists()
    assert (
        "_target_: pointrend_seg.modeling.instance_head" in (out / "lazy_config.yaml").read_text()
    )

    # the same from the checkpoint in the middle, to the bit
    (out / "model_final.pth").unlink()
    (out / "last_checkpoint").write_text("model_0000001.pth")
    status, _, err = run(QUICK, *changes, options=["--resume"])
    assert status == 0, err
    again = weights(out)
    assert again.keys() == whole.keys()
    assert all(torch.equal(again[key], whole[key]) for key in whole)

    checkpoint = f"train.init_checkpoint={out}/model_final.pth"
    status, _, err = run(QUICK, *TINY, checkpoint, options=["--eval-only"])
    assert status == 0, err
    repeated = scores(out)
    assert all(repeated[key] == found[key] for key in ("bbox/AP", "segm/AP", "boundary/AP"))


def test_a_training_is_that_of_the_yaml_config(run, run_in_process, instance_datasets, tmp_path):
    """Same data, order, augmentations, optimizer and schedule: the same checkpoint to the bit."""
    schedule = ("lr_multiplier.warmup_length=1.0", "lr_multiplier.scheduler.milestones=[100]")
    schedule += ("lr_multiplier.scheduler.values=[1.0,1.0]",)
    status, _, err = run(QUICK, *TINY, *schedule)
    assert status == 0, err
    keys = {
        "SOLVER.MAX_ITER": 2,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.BASE_LR": 0.001,
        "SOLVER.STEPS": "()",
        "DATALOADER.NUM_WORKERS": 0,
        "INPUT.MIN_SIZE_TRAIN": "(96,)",
        "INPUT.MIN_SIZE_TEST": 96,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
        "TEST.REPORT": False,
        "OUTPUT_DIR": tmp_path / "yaml",
    }
    pairs = [part for pair in keys.items() for part in pair]
    yaml = REPOSITORY / "configs/quick/pointrend_rcnn_R_18_FPN.yaml"
    status, _, err = run_in_process("train_net", "--config-file", yaml, *pairs)
    assert status == 0, err
    ours, theirs = weights(tmp_path / "out"), weights(tmp_path / "yaml")
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_semantic_models(run, datasets, tmp_path):
    semantic = [change for change in TINY if "roi_heads" not in change]
    small = [
        "dataloader.train.mapper.augmentations.1.crop_size=[64,64]",
        "dataloader.train.mapper.augmentations.4.size=[64,64]",
        "model.sem_seg_head.coarse_head.cfg.INPUT.CROP.SIZE=[64,64]",
    ]
    status, _, err = run(DEEPLAB, *semantic, *small)
    assert status == 0, err
    assert {"sem_seg/mIoU", "sem_seg/mBoundaryIoU"} <= scores(tmp_path / "out").keys()


def test_own_data(run, instance_datasets, tmp_path):
    """Image folder and COCO file on the command line; the classes are those of the file."""
    file = instance_datasets / "coco/annotations/synthetic_instances_train.json"
    names = json.loads(file.read_text())
    names["categories"] = names["categories"][:2]
    kept = {each["id"] for each in names["categories"]}
    names["annotations"] = [a for a in names["annotations"] if a["category_id"] in kept]
    own = tmp_path / "own.json"
    own.write_text(json.dumps(names))
    images = next(instance_datasets.rglob(names["images"][0]["file_name"])).parent
    data = ["--train-data", images, own]
    assert "num_classes" in error_of(run(QUICK, *TINY, options=data))
    status, _, err = run(QUICK, *TINY, options=[*data, "--classes-from-data"])
    assert status == 0, err
    found = weights(tmp_path / "out")
    assert len(found["roi_heads.box_predictor.cls_score.weight"]) == 3
    assert len(found["roi_heads.mask_head.point_head.predictor.weight"]) == 2
    assert not (tmp_path / "out/inference").exists()
    nothing = error_of(run(QUICK, *TINY, options=["--val-data", images, own]))
    assert "There is nothing to train on" in nothing


MISTAKES = {
    "train.max_iters=3": "no key train.max_iters. Did you mean train.max_iter?",
    "model.roi_heads.mask_head.train_num_point=3": "Did you mean model.roi_heads.mask_head.train",
    "train.max_iter": "is no change to a lazy config. Write key=value",
    "train.max_iter=ten": "train.max_iter is 'ten'; it must be",
    "optimizer.lr=-1": "optimizer.lr is -1",
    "model.roi_heads.mask_head.train_num_points=0": "train_num_points of PointRendInstanceHead",
    "model.roi_heads.num_classes=3": "model.roi_heads.num_classes",
    "model.roi_heads.mask_head.reading.point_strides.p2=8": "stride 8, but the backbone gives",
    "model.roi_heads.mask_head.reading.pooler_size=1": "pooler_size of ConvFCHead is 1",
    "model.roi_heads.mask_head.point_head.in_channels=7": "of 64 channels together, but in",
    "dataloader.train.total_batch_size=0": "dataloader.train.total_batch_size is 0",
    "dataloader.train.dataset.names=nowhere": "nowhere",
    "train.device=gpu": "train.device is 'gpu', which PyTorch does not know",
    "~train.max_iter=2": "cannot be deleted",
    "model.backbone.out_channels=[": "cannot be applied",
}


@pytest.mark.parametrize("change", MISTAKES)
def test_wrong_changes(change, run, instance_datasets, tmp_path):
    assert MISTAKES[change] in error_of(run(QUICK, *TINY, change))
    assert not (tmp_path / "out").exists()


HEADER = """
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
base = LazyConfig.load({!r})
model, dataloader, optimizer = base.model, base.dataloader, base.optimizer
lr_multiplier, train = base.lr_multiplier, base.train
"""
FILES = {
    "raise ValueError('no luck')": ["config.py, line 7", "ValueError: no luck"],
    "model.backbone.nothing.x = 1": ["config.py, line 7"],
    "from .missing import model": ["config.py, line 7", "missing.py does not exist"],
    "def f(:": ["config.py", "Line 7"],
    "import sys; sys.exit(3)": ["config.py, line 7", "SystemExit: 3"],
    "del train": ["is no config of a training: it has no train"],
    "model.roi_heads.mask_head.train_num_pointz = 3": [
        "gives PointRendInstanceHead the argument train_num_pointz, which it does not take. Did",
    ],
    "del model.roi_heads.mask_head.coarse_head": [
        "does not give PointRendInstanceHead the argument"
    ],
    "model.roi_heads.mask_head.point_head.fc_dim = '128'": ["fc_dim of PointMLP is '128'"],
    "dataloader.test.dataset.names = ['a', 'b']": ["an evaluation is of one data set"],
}


@pytest.mark.parametrize("code", FILES)
def test_mistakes_in_files(code, run, instance_datasets, tmp_path):
    file = tmp_path / "config.py"
    file.write_text(HEADER.format(str(QUICK)) + code + "\n")
    message = error_of(run(file, *TINY))
    for part in FILES[code]:
        assert part in message
    import builtins

    assert builtins.__import__.__module__ == "builtins"  # as it was
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_python_config(run, run_in_process, tmp_path):
    assert "does not exist" in error_of(run(tmp_path / "none.py"))
    yaml = REPOSITORY / "configs/quick/pointrend_rcnn_R_18_FPN.yaml"
    assert "is a YAML config. tools/train_net.py trains" in error_of(run(yaml))
    assert "does not end in .py" in error_of(run(tmp_path / "config.txt"))
    missing = error_of(run_in_process("lazyconfig_train_net", QUICK))
    assert f"Write --config-file {QUICK}" in missing


@pytest.mark.parametrize("tool", ["train_net", "check_data"])
def test_other_tools_do_not_run_python(tool, run_in_process, tmp_path):
    file = tmp_path / "config.py"
    file.write_text("raise RuntimeError('was run')\n")
    args = ["--config-file", file]
    message = error_of(run_in_process(tool, *args))
    assert "is Python code (a LazyConfig), which is not run here" in message
    assert "tools/lazyconfig_train_net.py" in message


def test_predict_does_not_run_python(run_in_process, tmp_path):
    file = tmp_path / "config.py"
    file.write_text("raise RuntimeError('was run')\n")
    image = REPOSITORY / "docs/micrograph.jpg"
    args = ["--config-file", file, "--input", image, "--output", tmp_path / "out"]
    assert "which is not run here" in error_of(run_in_process("predict", *args))


def test_a_record_is_no_yaml_config(run_in_process, tmp_path):
    file = tmp_path / "lazy_config.yaml"
    file.write_text("model: {_target_: x}\ndataloader: {}\n")
    message = error_of(run_in_process("train_net", "--config-file", file))
    assert "was written from a LazyConfig" in message


def test_points_instead_of_masks():
    name = "synthetic_instances_train_points_n10_v3_without_masks"
    mapper = "dataloader.train.mapper"
    changes = [f"{mapper}.use_points=True", f"{mapper}.use_instance_mask=False"]
    changes += [f"{mapper}.sample_points=5", f"dataloader.train.dataset.names={name}"]
    settings = load_settings(str(QUICK), ["train.device=cpu", *changes])
    assert settings.INPUT.POINT_SUP is True and settings.INPUT.SAMPLE_POINTS == 5
    assert name in DatasetCatalog
