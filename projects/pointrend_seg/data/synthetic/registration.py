"""Register the synthetic instance data sets of `coco_layout.py`.

``synthetic_instances_train`` and ``synthetic_instances_val`` have only the nine classes that occur.
"""

import os

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances

from .coco_layout import KIND_IDS, SPLITS


def register_synthetic(root: str | None = None) -> None:
    """Register the two data sets; a second call changes nothing.

    Args:
        root: the folder that contains ``coco``; None for DETECTRON2_DATASETS, else "datasets".
    """
    root = root or os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    for split in SPLITS:
        name = f"synthetic_instances_{split}"
        if name not in DatasetCatalog:
            annotations = os.path.join(root, "coco", "annotations", f"{name}.json")
            images = os.path.join(root, "coco", f"{split}2017")
            register_coco_instances(name, {"thing_classes": list(KIND_IDS)}, annotations, images)
