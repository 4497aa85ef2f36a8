"""Trainings of a few iterations on a data set of images of several shapes."""

import zlib

import cv2
import numpy as np
import torch
from detectron2.engine import HookBase

from pointrend_seg.engine import Trainer
from small_configs import small_instance_cfg, small_semantic_cfg

SIZES = ((64, 96), (96, 64), (80, 112), (112, 72))  # height, width


def write_records(folder, number, *, semantic):
    """Write images with a square on each; return data set dicts of them.

    Records of label images state no size, as those of Detectron2's `load_sem_seg`.
    """
    rng = np.random.default_rng(0)
    records = []
    for index in range(number):
        height, width = SIZES[index % len(SIZES)]
        image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        labels = np.zeros((height, width), np.uint8)
        labels[16:48, 16:48] = 1 + index % 2
        image[labels > 0] //= 2
        record = {"file_name": str(folder / f"{index}.png"), "image_id": index}
        cv2.imwrite(record["file_name"], image)
        if semantic:
            record["sem_seg_file_name"] = str(folder / f"{index}_labels.png")
            cv2.imwrite(record["sem_seg_file_name"], labels)
        else:
            square = {"bbox": [16, 16, 32, 32], "bbox_mode": 1, "category_id": index % 2}
            square["segmentation"] = [[16, 16, 48, 16, 48, 48, 16, 48]]
            record |= {"height": height, "width": width, "annotations": [square]}
        records.append(record)
    return records


def small_training_cfg(name, output, opts=(), *, semantic):
    """The config of a training of 6 iterations with crops, flips and colours."""
    common = [
        *("DATASETS.TRAIN", (name,), "DATASETS.TEST", ()),
        *("SOLVER.MAX_ITER", 6, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.BASE_LR", 1e-3),
        *("SOLVER.WARMUP_ITERS", 2, "SOLVER.STEPS", (5,), "SOLVER.CHECKPOINT_PERIOD", 3),
        *("INPUT.MIN_SIZE_TRAIN", (48, 56, 64), "INPUT.MIN_SIZE_TEST", 64),
        *("DATALOADER.NUM_WORKERS", 0, "SEED", 1, "OUTPUT_DIR", str(output), *opts),
    ]
    if semantic:
        crop = ("INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", (0.7, 0.7))
        cfg = small_semantic_cfg(3, (*crop, "INPUT.COLOR_AUG_SSD", True, *common))
    else:
        # frozen normalisation lets the features of random weights grow until boxes are infinite
        norms = ("MODEL.RESNETS.NORM", "GN", "MODEL.FPN.NORM", "GN")
        cfg = small_instance_cfg(2, (*norms, *common))
    cfg.freeze()
    return cfg


class Witness(HookBase):
    """Record what a training saw: ids and check sums of images, losses, learning rate.

    Attributes:
        steps: by iteration.
    """

    def __init__(self, trainer):
        self.steps = {}
        trainer.register_hooks([self])
        trainer.model.register_forward_hook(self._look)

    def _look(self, model, inputs, losses):
        if model.training:
            images = [
                (each["image_id"], zlib.crc32(each["image"].numpy().tobytes()))
                for each in inputs[0]
            ]
            rate = self.trainer.optimizer.param_groups[0]["lr"]
            self.steps[self.trainer.iter] = images, {k: float(v) for k, v in losses.items()}, rate


def train(cfg, *, resume=False, stop_after=None, hooks=()):
    """Train in this process; `stop_after` an iteration without a trace but its checkpoints.

    Returns:
        the trainer, and what it saw by iteration.
    """

    class Stop(HookBase):
        def after_step(self):
            if self.trainer.iter == stop_after:
                raise KeyboardInterrupt

    trainer = Trainer(cfg)
    witness = Witness(trainer)
    trainer.register_hooks([*hooks, Stop()])
    trainer.resume_or_load(resume=resume)
    try:
        trainer.train()
    except KeyboardInterrupt:
        if trainer.iter != stop_after:
            raise
    return trainer, witness.steps


def assert_same(one, other):
    """Assert that two nested states are equal to the bit."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other
