"""What tests of several processes run in each of them: importable, as processes are spawned."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances
from detectron2.utils import comm

from pointrend_seg.checkpoint.loading import Checkpointer
from pointrend_seg.command_line.running import run_tool
from pointrend_seg.data.labels import read_record_labels
from pointrend_seg.engine.distributed import launch
from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.errors import InputError
from pointrend_seg.files import atomic
from pointrend_seg.modeling.samplers import POINT_SAMPLER_REGISTRY
from small_configs import IMPLICIT_OPTS, small_instance_cfg, small_semantic_cfg

STEPS = 3
SIZE = 64


@POINT_SAMPLER_REGISTRY.register()
class SamePoints:
    """The same points for each region, whatever is random: runs can be compared."""

    def __init__(self, node):
        pass

    def __call__(self, logits, num_points, uncertainty, valid=None):
        points = torch.rand(num_points, 2, generator=torch.Generator().manual_seed(3))
        return points.expand(len(logits), -1, -1)


def semantic_image(seed, ignored=False):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (SIZE, SIZE), generator=generator)
    labels[: SIZE // 4] = 255  # so many in each image
    return {
        "image": torch.rand(3, SIZE, SIZE, generator=generator) * 255,
        "sem_seg": torch.full_like(labels, 255) if ignored else labels,
    }


def instance_image(seed, objects):
    generator = torch.Generator().manual_seed(seed)
    instances = Instances((SIZE, SIZE))
    corners = torch.rand(objects, 2, generator=generator) * (SIZE - 24)
    instances.gt_boxes = Boxes(torch.cat([corners, corners + 20], dim=1))
    instances.gt_classes = torch.randint(0, 5, (objects,), generator=generator)
    instances.gt_masks = BitMasks(torch.rand(objects, SIZE, SIZE, generator=generator) > 0.5)
    return {
        "image": torch.rand(3, SIZE, SIZE, generator=generator) * 255,
        "instances": instances,
        "height": SIZE,
        "width": SIZE,
    }


COMMON = ("SOLVER.BASE_LR", 0.01, "SOLVER.MAX_ITER", STEPS, "SOLVER.WARMUP_ITERS", 0)
COMMON += ("MODEL.RESNETS.NORM", "GN", "MODEL.FPN.NORM", "GN", "DATASETS.TEST", ())
# One step: over several, what is rounded otherwise grows.
COMPARED = (*COMMON, "MODEL.SEM_SEG_POINT_HEAD.SAMPLER", "SamePoints", "SOLVER.MAX_ITER", 1)
# Configs and the images of a batch; the first half is that of rank 0.
TRAININGS = {
    "semantic": lambda: (
        small_semantic_cfg(19, COMPARED),
        [semantic_image(seed) for seed in range(4)],
    ),
    "synchronised normalisation": lambda: (
        small_semantic_cfg(19, (*COMPARED, "MODEL.RESNETS.NORM", "naiveSyncBN")),
        [semantic_image(seed) for seed in range(4)],
    ),
    "one rank ignored": lambda: (
        small_semantic_cfg(19, COMMON),
        [semantic_image(0), semantic_image(1, ignored=True)],
    ),
    "one rank without objects": lambda: (
        small_instance_cfg(9, COMMON),
        [instance_image(0, 3), instance_image(1, 0)],
    ),
    "implicit, one rank without objects": lambda: (
        small_instance_cfg(9, (*COMMON, *IMPLICIT_OPTS)),
        [instance_image(0, 3), instance_image(1, 0)],
    ),
}


class FixedTrainer(Trainer):
    """Trains on the same batch again and again, of which each process takes its part."""

    images: list = []

    @classmethod
    def build_train_loader(cls, cfg):
        return [cls.images] * STEPS

    def build_hooks(self):
        return super().build_hooks()[:2]  # nothing is written

    def weights(self):
        model = getattr(self.model, "module", self.model)
        return {name: value.clone() for name, value in model.state_dict().items()}


def train(kind, folder, rank=0, count=1):
    """Train some steps; return the weights."""
    cfg, images = TRAININGS[kind]()
    cfg.OUTPUT_DIR = str(folder)
    semantic = "sem_seg" in images[0]  # the data set is looked at, but not read
    name = "cityscapes_fine_sem_seg_train" if semantic else "synthetic_instances_train"
    cfg.DATASETS.TRAIN = (name,)
    part = len(images) // count
    FixedTrainer.images = images[rank * part : (rank + 1) * part]
    torch.manual_seed(0)  # the same first weights
    trainer = FixedTrainer(cfg)
    torch.manual_seed(rank)
    trainer.train()
    return trainer.weights()


class Seer(torch.nn.Module):
    """Predicts the ground truth of a data set, somewhat wrong; the masks are the boxes."""

    def __init__(self, dataset, num_classes):
        super().__init__()
        self.records = {record["file_name"]: record for record in DatasetCatalog.get(dataset)}
        self.num_classes = num_classes

    def forward(self, inputs):
        return [self.predict(self.records[each["file_name"]]) for each in inputs]

    def predict(self, record):
        generator = torch.Generator().manual_seed(len(record["file_name"]) + record["height"])
        if "sem_seg_file_name" in record:
            labels = torch.as_tensor(read_record_labels(record)).long().roll(3, 0)
            classes = torch.arange(self.num_classes)[:, None, None]
            return {"sem_seg": (labels == classes).float()}
        height, width = record["height"], record["width"]
        boxes = torch.tensor(
            [
                BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS)
                for a in record["annotations"]
            ]
        ).reshape(-1, 4)
        boxes = Boxes(boxes + 2 * torch.rand(boxes.shape, generator=generator))
        boxes.clip((height, width))
        instances = Instances((height, width))
        instances.pred_boxes = boxes
        instances.pred_classes = torch.tensor(
            [a["category_id"] for a in record["annotations"]]
        ).long()
        instances.scores = torch.rand(len(boxes), generator=generator)
        masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.tensor.long().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        instances.pred_masks = masks
        return {"instances": instances}


EVALUATIONS = {  # data set: number of classes, and a score that is not trivial
    "cityscapes_fine_sem_seg_val": (19, ("sem_seg", "mBoundaryIoU")),
    "cityscapes_fine_instance_seg_val": (8, ("segm", "AP50")),
    "synthetic_instances_val": (9, ("segm", "AP")),
    "lvis_v0.5_val_cocofied": (80, ("segm", "AP")),
}


def evaluate(dataset, folder):
    """Evaluate a `Seer`; return the scores."""
    num_classes = EVALUATIONS[dataset][0]
    opts = ("DATASETS.TEST", (dataset,), "DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", str(folder))
    semantic = "sem_seg" in dataset
    cfg = (small_semantic_cfg if semantic else small_instance_cfg)(num_classes, opts)
    return Trainer.test(cfg, Seer(dataset, num_classes))


def train_and_evaluate(folder, datasets, url, processes):
    """Do all of `TRAININGS`, evaluate on some data sets, load weights; save what comes out."""
    processes.join("cpu")
    assert (comm.get_rank(), comm.get_world_size()) == (processes.rank, 2)
    assert (comm.get_local_rank(), comm.get_local_size()) == (processes.rank, 2)
    results = {kind: train(kind, folder, processes.rank, 2) for kind in TRAININGS}
    results |= {dataset: evaluate(dataset, folder / dataset) for dataset in datasets}
    model = torch.nn.Linear(2, 1)
    Checkpointer(model).load(url)
    results["downloaded"] = model.state_dict()
    torch.save(results, folder / f"{processes.rank}.pth")


def fail(how, folder, processes):
    """Fail in rank 1 while rank 0 waits for it."""
    processes.join("cpu")
    if processes.rank == 1 and how == "mistake":
        raise InputError("Mend it.")
    if processes.rank == 1 and how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    comm.synchronize()


def fail_together(folder, processes):
    """Fail in all processes with the same message."""
    processes.join("cpu")
    raise InputError("Mend it.")


def wait_for_ever(folder, processes):
    """Join, write the process id, and wait."""
    processes.join("cpu")
    atomic.write_text(folder / f"{processes.rank}", str(os.getpid()))
    time.sleep(600)


def join_and_count(folder, processes):
    """Join, and count the processes by what they gather."""
    processes.join("cpu")
    gathered = comm.gather((comm.get_rank(), comm.get_local_rank()))
    if processes.rank == 0:
        (folder / "gathered").write_text(str(gathered))


if __name__ == "__main__":  # FUNCTION FOLDER OPTIONS, those of `launch` in JSON
    function, folder, options = sys.argv[1:]
    run_tool(
        lambda: launch(globals()[function], (Path(folder),), **json.loads(options)),
        several_processes=True,
    )
