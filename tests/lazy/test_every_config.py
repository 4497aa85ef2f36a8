"""Every lazy config with the data set that it names, as a small synthetic tree in its layout."""

import json

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import SimpleTrainer, hooks
from detectron2.evaluation import inference_on_dataset

from pointrend_seg.engine.lazy_settings import load_settings
from pointrend_seg.engine.lazy_trainer import LazyTrainer
from tool_runs import REPOSITORY

LAZY = REPOSITORY / "configs/lazy"
CONFIGS = sorted(path for path in LAZY.rglob("*.py") if path.parts[-2] not in ("data", "models"))
CONFIGS = [path for path in CONFIGS if path.parent.name != "common"]
SMALL = (
    *("train.device=cpu", "train.seed=1", "train.max_iter=2", "train.init_checkpoint=''"),
    *("train.report=False", "optimizer.lr=0.0001", "dataloader.train.total_batch_size=2"),
    *("dataloader.train.num_workers=0", "dataloader.test.num_workers=0"),
    "dataloader.train.mapper.augmentations.0.short_edge_length=[128]",
    "dataloader.test.mapper.augmentations.0.short_edge_length=128",
)
CROP = (
    "dataloader.train.mapper.augmentations.1.crop_size=[128,128]",
    "dataloader.train.mapper.augmentations.{}.size=[128,128]",
)


def small(config, output):
    """The settings of a config for images of 128 pixels on a CPU."""
    changes = [*SMALL, f"train.output_dir={output}"]
    if config.parent.name == "cityscapes" or "deeplab" in config.name:
        last = 3 if config.parent.name == "cityscapes" and "deeplab" in config.name else 4
        changes += [each.format(last) for each in CROP]
    if "deeplab" in config.name:
        plus = "deeplabv3plus" in config.name
        crop = "train_size" if plus else "cfg.INPUT.CROP.SIZE"
        changes.append(f"model.sem_seg_head.coarse_head.{crop}=[128,128]")
        changes.append("model.backbone.stem.norm=BN")
    elif config.parent.name != "quick":  # frozen normalisation lets random features grow
        changes.append("model.backbone.bottom_up.stem.norm=GN")
        changes.append("model.backbone.bottom_up.stages.norm=GN")
        changes.append("model.backbone.norm=GN")
    if config.name.startswith("implicit"):  # 290 million weights at the published size
        changes.append("model.roi_heads.mask_head.point_head.fc_dim=8")
    return load_settings(str(config), changes)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_loaders_schedule_and_evaluator(config, datasets, instance_datasets, tmp_path):
    settings = small(config, tmp_path)
    LazyTrainer.check_data(settings)
    batch = next(iter(LazyTrainer.build_train_loader(settings)))
    assert len(batch) == 2
    wanted = {
        "SemanticSegmentor": {"sem_seg"},
        "GeneralizedRCNN": {"instances"},
        "PanopticFPN": {"sem_seg", "instances"},
    }[settings.MODEL.META_ARCHITECTURE]
    assert all(each.keys() & {"sem_seg", "instances"} == wanted for each in batch)
    name = settings.DATASETS.TEST[0]
    inputs = next(iter(LazyTrainer.build_test_loader(settings, name)))
    assert min(inputs[0]["image"].shape[1:]) == 128
    assert LazyTrainer.build_evaluator(settings, name) is not None
    parameter = torch.nn.Parameter(torch.zeros(1))
    schedule = LazyTrainer.build_lr_scheduler(settings, torch.optim.SGD([parameter], lr=1.0))
    assert schedule.get_last_lr() == [pytest.approx(0.001)]  # the warm-up begins


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_training_and_evaluation(config, datasets, instance_datasets, tmp_path):
    trainer = LazyTrainer(small(config, tmp_path))
    trainer.resume_or_load(resume=False)
    trainer.train()
    scores = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    wanted = {
        "SemanticSegmentor": ("sem_seg/mIoU", "sem_seg/mBoundaryIoU"),
        "GeneralizedRCNN": ("bbox/AP", "segm/AP"),
        "PanopticFPN": ("panoptic_seg/PQ", "bbox/AP", "segm/AP", "sem_seg/mIoU"),
    }[trainer.cfg.MODEL.META_ARCHITECTURE]
    assert all(0 <= scores[name] <= 100 for name in wanted)
    assert (tmp_path / "model_final.pth").exists()


def test_detectron2s_own_loop_runs_them(instance_datasets, tmp_path):
    """What its tools/lazyconfig_train_net.py does with a config, on one process."""
    cfg = LazyConfig.load(str(LAZY / "quick/pointrend_rcnn_R_18_FPN.py"))
    LazyConfig.apply_overrides(cfg, [*SMALL, f"dataloader.evaluator.output_dir={tmp_path}"])
    model = instantiate(cfg.model)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    trainer = SimpleTrainer(model, instantiate(cfg.dataloader.train), optimizer)
    trainer.register_hooks([hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier))])
    trainer.train(0, cfg.train.max_iter)
    loader, evaluator = instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
    assert {"bbox", "segm"} <= inference_on_dataset(model.eval(), loader, evaluator).keys()
