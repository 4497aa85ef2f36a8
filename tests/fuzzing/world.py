"""A small world of data sets, configs and weights, of which the fuzzers spoil one part each."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from PIL import Image

from pointrend_seg.engine.trainer import Trainer
from pointrend_seg.structures.panoptic_png import encode_ids
from small_configs import PANOPTIC, small_instance_cfg, small_semantic_cfg

CLASSES = ("cat", "dog", "hen")
_SIZE = (48, 64)  # height, width
_IMAGES = 3
_COMMON = (
    *("SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 1, "SOLVER.WARMUP_ITERS", 0),
    *("SOLVER.STEPS", (), "DATALOADER.NUM_WORKERS", 0, "SEED", 1),
    *("INPUT.MIN_SIZE_TRAIN", (48,), "INPUT.MIN_SIZE_TEST", 48, "INPUT.MAX_SIZE_TEST", 64),
    *("MODEL.RESNETS.NORM", "GN", "MODEL.FPN.NORM", "GN"),
)


@dataclass
class World:
    """Paths of good input.

    Attributes:
        images: a folder of images.
        labels: a folder of label images with a class file.
        coco: an annotation file of COCO's format.
        segments: a folder of panoptic PNGs.
        configs: a config file by task, "semantic", "instance" and "panoptic".
        weights: checkpoints that fit them.
        work: the folder in which trials leave their files.
        kept: what trials make once.
    """

    images: Path
    labels: Path
    coco: Path
    configs: dict[str, Path]
    weights: dict[str, Path]
    work: Path
    content: dict
    segments: Path
    panoptic_content: dict
    cfgs: dict[str, CfgNode]
    kept: dict = field(default_factory=dict)

    def data(self, task: str, coco: Path | None = None, labels: Path | None = None) -> list[str]:
        """Return the options that give data to a tool, for training and evaluation."""
        target = str((labels or self.labels) if task == "semantic" else (coco or self.coco))
        images = str(self.images)
        return ["--train-data", images, target, "--val-data", images, target]


def make_world(root: Path) -> World:
    rng = np.random.default_rng(0)
    images, labels = root / "images", root / "labels"
    images.mkdir()
    labels.mkdir()
    height, width = _SIZE
    content: dict = {"images": [], "annotations": [], "categories": []}
    for number in range(_IMAGES):
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        label = np.zeros((height, width), np.uint8)
        label[8:40, 8:40] = 1 + number % 2
        Image.fromarray(pixels).save(images / f"{number}.png")
        Image.fromarray(label).save(labels / f"{number}.png")
        content["images"].append(
            {"id": number, "file_name": f"{number}.png", "height": height, "width": width}
        )
        polygon = [8, 8, 40, 8, 40, 40, 8, 40]
        runs = {"size": [height, width], "counts": [100, 500, height * width - 600]}
        for k, mask in enumerate(([polygon], runs if number == 2 else [polygon])):
            content["annotations"].append(
                {
                    "id": 2 * number + k,
                    "image_id": number,
                    "category_id": 1 + k,
                    "bbox": [8, 8, 32, 32],
                    "area": 1024,
                    "iscrowd": 0,
                    "segmentation": mask,
                    "point_coords": [[9, 9], [30, 20], [39, 8]],
                    "point_labels": [1, 1, 0],
                }
            )
    for number, name in enumerate(CLASSES, start=1):
        content["categories"].append({"id": number, "name": name, "supercategory": "animal"})
    (labels / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    coco = root / "coco.json"
    coco.write_text(json.dumps(content))
    segments, panoptic_content = root / "segments", _write_segments(root / "segments", content)
    configs, weights, cfgs = {}, {}, {}
    for task, make, more in (
        ("semantic", small_semantic_cfg, ()),
        ("instance", small_instance_cfg, ()),
        ("panoptic", small_instance_cfg, PANOPTIC),
    ):
        cfg = make(len(CLASSES), (*more, *_COMMON))
        configs[task], weights[task] = root / f"{task}.yaml", root / f"{task}.pth"
        configs[task].write_text(cfg.dump())
        torch.manual_seed(0)
        torch.save({"model": Trainer.build_model(cfg).state_dict()}, weights[task])
        cfgs[task] = cfg
    work = root / "work"
    work.mkdir()
    return World(
        images, labels, coco, configs, weights, work, content, segments, panoptic_content, cfgs
    )


def _write_segments(folder: Path, content: dict) -> dict:
    """Write panoptic PNGs of the images in a COCO file; return their JSON file's content."""
    folder.mkdir()
    height, width = _SIZE
    annotations = []
    for image in content["images"]:
        ids = np.zeros((height, width), np.int32)
        ids[:20], ids[20:44], ids[8:40, 8:40], ids[30:46, 44:60] = 5, 300, 70000, 70001
        Image.fromarray(encode_ids(ids)).save(folder / image["file_name"])
        listed = ((5, 4, 0), (300, 5, 0), (70000, 1, 0), (70001, 2, int(image["id"] == 0)))
        segments = [
            {"id": k, "category_id": c, "iscrowd": crowd, "area": int((ids == k).sum())}
            for k, c, crowd in listed
        ]
        annotations.append(
            {
                "image_id": image["id"],
                "file_name": image["file_name"],
                "segments_info": segments,
            }
        )
    categories = [{**category, "isthing": 1} for category in content["categories"]]
    stuff = ("sky", "road")
    categories += [
        {"id": k, "name": name, "isthing": 0}
        for k, name in enumerate(stuff, start=len(categories) + 1)
    ]
    return {"images": content["images"], "annotations": annotations, "categories": categories}
