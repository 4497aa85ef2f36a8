"""Try everything that a training needs, without training.

What memory it will take is an estimate from one step with one image: parameters, gradients and
what the optimizer keeps are exact; activations are the tensors that autograd keeps for the
backward pass.
"""

import contextlib
import itertools
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils.analysis import FlopCountAnalysis
from detectron2.utils.events import EventStorage
from tabulate import tabulate
from torch import nn

from ..checkpoint.addresses import find_address
from ..checkpoint.loading import Checkpointer, load_weights
from ..config.reading import is_remote
from ..errors import InputError
from ..test_time.views import check_augmentable
from .tasks import find_task
from .trainer import Trainer, check_batch_size

GIGA = 2**30


@dataclass(frozen=True)
class DryRun:
    """What `dry_run` found; its `str` is a report.

    Attributes:
        datasets: name, split, images, objects (None for labels of pixels), classes.
        parameters: of each part of the model, in the order of the model, all and trained ones.
        flops: of each part for one test image; None for a model that fvcore cannot follow.
        image_size: height and width of that image, as the model sees it.
        detections: in that image; what masks cost follows it. None for a semantic model.
        losses: of one training image.
        state_bytes: parameters, gradients, what the optimizer keeps.
        activation_bytes: kept for the backward pass for each image.
        images: in the batch of one process.
        weights: what became of MODEL.WEIGHTS.
    """

    datasets: list[tuple]
    parameters: dict[str, tuple[int, int]]
    flops: dict[str, float] | None
    image_size: tuple[int, int]
    detections: int | None
    losses: dict[str, float]
    state_bytes: int
    activation_bytes: int
    images: int
    weights: str

    def __str__(self) -> str:
        return "\n\n".join([self._datasets(), self._model(), self._memory(), self._closing()])

    def _datasets(self) -> str:
        rows = [["" if cell is None else cell for cell in row] for row in self.datasets]
        return tabulate(rows, ["data set", "for", "images", "objects", "classes"])

    def _model(self) -> str:
        rows = []
        for name, (total, trained) in self.parameters.items():
            flops = (self.flops or {}).get(name)
            shown = "" if flops is None else f"{flops / 1e9:.2f}"
            rows.append([name, f"{total / 1e6:.2f}", f"{trained / 1e6:.2f}", shown])
        table = tabulate(
            rows,
            ["model", "million parameters", "trained", "GFLOPs"],
            colalign=("left", *["right"] * 3),
        )
        rows.append(["together", *map(_sum, zip(*(row[1:] for row in rows), strict=True))])
        height, width = self.image_size
        counted = f"GFLOPs (multiply-adds) by fvcore, of one image of {height} x {width}"
        if self.flops is None:
            counted = "fvcore cannot count the operations of this model"
        elif self.detections is not None:
            counted += f" with {self.detections} detections (masks cost by detection)"
        return f"{table}\n{counted}."

    def _memory(self) -> str:
        activations = self.activation_bytes * self.images
        rows = [
            ["parameters, gradients, optimizer", f"{self.state_bytes / GIGA:.2f}"],
            [f"activations of {self.images} image(s)", f"{activations / GIGA:.2f}"],
            ["together, about", f"{(self.state_bytes + activations) / GIGA:.2f}"],
        ]
        table = tabulate(rows, ["memory of training, a process", "GiB"], disable_numparse=True)
        return (
            f"{table}\nWithout the workspaces of CUDA and of the allocator, about 1 to 2 GiB more."
        )

    def _closing(self) -> str:
        losses = ", ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        return (
            f"weights: {self.weights}\nlosses of one image: {losses}\nDry run: nothing was trained."
        )


def _sum(cells: tuple[str, ...]) -> str:
    return f"{sum(map(float, cells)):.2f}" if all(cells) else ""


def dry_run(cfg: CfgNode, *, num_processes: int = 1) -> DryRun:
    """Check the data sets, build model, optimizer, schedule, loaders and evaluators, try one image.

    Args:
        num_processes: that the training will have, to share the batch among them.

    Raises:
        InputError: something that the user can put right, as in the training itself.
    """
    if cfg.TEST.AUG.ENABLED:
        check_augmentable(cfg)
    datasets = [
        _look_at(cfg, name, split) for split in ("train", "test") for name in _names(cfg, split)
    ]
    if not cfg.DATASETS.TRAIN:
        raise InputError("DATASETS.TRAIN is empty: there is nothing to train on. Name a data set.")
    check_batch_size(cfg, num_processes)
    model = Trainer.build_model(cfg)
    weights = _load(cfg, model)
    optimizer = Trainer.build_optimizer(cfg, model)
    Trainer.build_lr_scheduler(cfg, optimizer)
    for name in cfg.DATASETS.TEST:
        Trainer.build_evaluator(cfg, name)
    batch = next(iter(Trainer.build_train_loader(_single(cfg))))
    losses, activation_bytes = _train_on(model, batch[:1])
    name = next(iter([*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN]))
    image = next(iter(Trainer.build_test_loader(cfg, name)))[:1]
    flops, detections = _count_flops(model, image)
    return DryRun(
        datasets=datasets,
        parameters=dict(_parameters(model)),
        flops=flops,
        image_size=tuple(image[0]["image"].shape[-2:]),
        detections=detections,
        losses=losses,
        state_bytes=_state_bytes(cfg, model),
        activation_bytes=activation_bytes,
        images=cfg.SOLVER.IMS_PER_BATCH // num_processes,
        weights=weights,
    )


def _names(cfg: CfgNode, split: str) -> tuple[str, ...]:
    return cfg.DATASETS.TRAIN if split == "train" else cfg.DATASETS.TEST


def _look_at(cfg: CfgNode, name: str, split: str) -> tuple:
    task = find_task(cfg)
    task.check_dataset(cfg, name, is_train=split == "train")
    records = DatasetCatalog.get(name)
    return name, split, len(records), task.count_objects(records), task.count_classes(name)


def _load(cfg: CfgNode, model: nn.Module) -> str:
    path = cfg.MODEL.WEIGHTS
    if not path:
        return "none, training starts from random ones"
    if is_remote(find_address(path)):
        return f"{path}, which training will download or find in its cache; not read now"
    load_weights(Checkpointer(model, cfg.OUTPUT_DIR), path, resume=False, complete=False)
    return path


def _single(cfg: CfgNode) -> CfgNode:
    """Copy the config with a batch of one image that is read in this process."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 1, 0
    return cfg


def _train_on(model: nn.Module, batch: list[dict]) -> tuple[dict[str, float], int]:
    """Return the losses of a batch, and how many bytes autograd keeps for it besides parameters."""
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.train()
    with EventStorage(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model(batch)
        total = sum(losses.values())
    values = {name: float(value.detach()) for name, value in losses.items()}
    total.backward()  # the graph lives until here, so that no storage is counted twice
    model.zero_grad()
    return values, sum(kept.values())


def _count_flops(model: nn.Module, image: list[dict]) -> tuple[dict[str, float] | None, int | None]:
    model.eval()
    image = [{"image": image[0]["image"]}]
    with torch.no_grad(), _quiet(), _paths_that_fvcore_knows(model):
        instances = model(image)[0].get("instances")
        try:
            by_module = FlopCountAnalysis(model, image).by_module()
        except Exception:  # of any type, from deep within a trace of a model that is not ours
            return None, None
    # TracingAdapter puts the model into an attribute
    parts = {name: by_module.get(f"model.{name}", 0) for name, _ in model.named_children()}
    return parts, None if instances is None else len(instances)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _paths_that_fvcore_knows(model: nn.Module) -> Iterator[None]:
    """Take the plain readers: the fast ones read rows by an operation that fvcore cannot count."""
    heads: list[Any] = [module for module in model.modules() if hasattr(module, "reading")]
    before = [head.reading for head in heads]
    for head in heads:
        head.reading = replace(head.reading, fast_path=False)
    try:
        yield
    finally:
        for head, reading in zip(heads, before, strict=True):
            head.reading = reading


def _parameters(model: nn.Module) -> Iterator[tuple[str, tuple[int, int]]]:
    for name, part in model.named_children():
        sizes = [(each.numel(), each.requires_grad) for each in part.parameters()]
        if sizes:
            yield name, (sum(n for n, _ in sizes), sum(n for n, trained in sizes if trained))


def _state_bytes(cfg: CfgNode, model: nn.Module) -> int:
    """Count parameters and buffers; a gradient and SGD's momentum for each that is trained."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    trained = sum(each.nbytes for each in model.parameters() if each.requires_grad)
    momentum = bool(cfg.SOLVER.MOMENTUM)
    return sum(each.nbytes for each in tensors) + trained * (1 + momentum)
