"""Register the synthetic data sets of `coco_layout.py`.

``synthetic_instances_train`` and ``synthetic_instances_val`` have only the nine classes that occur,
``synthetic_panoptic_train`` and ``synthetic_panoptic_val`` these and five kinds of stuff.
"""

import os

from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances

from ..panoptic.records import class_metadata, register_panoptic
from .coco_layout import KIND_IDS, SPLITS
from .panoptic_annotations import stuff_ids


def register_synthetic(root: str | None = None) -> None:
    """Register the four data sets; a second call changes nothing.

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
        panoptic = f"synthetic_panoptic_{split}"
        if panoptic not in DatasetCatalog:
            coco = os.path.join(root, "coco")
            things, stuff = (
                {number: kind for kind, number in ids.items()}
                for ids in (KIND_IDS, stuff_ids(KIND_IDS))
            )
            register_panoptic(
                panoptic,
                image_root=os.path.join(coco, f"{split}2017"),
                panoptic_root=os.path.join(coco, f"panoptic_{split}2017"),
                panoptic_json=os.path.join(coco, "annotations", f"{panoptic}.json"),
                json_file=os.path.join(coco, "annotations", f"{name}.json"),
                **class_metadata(things, stuff),
            )
