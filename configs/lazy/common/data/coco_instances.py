"""COCO's instances, with the mapper, the loader and the evaluator of this package."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from omegaconf import OmegaConf

from pointrend_seg.data.mappers.instance import InstanceMapper
from pointrend_seg.data.training_loader import build_training_loader
from pointrend_seg.evaluation.coco import CocoInstanceEvaluator

dataloader = OmegaConf.create()

dataloader.train = L(build_training_loader)(
    dataset=L(get_detection_dataset_dicts)(names="coco_2017_train"),
    mapper=L(InstanceMapper)(
        is_train=True,
        augmentations=[
            L(T.ResizeShortestEdge)(
                short_edge_length=(640, 672, 704, 736, 768, 800),
                sample_style="choice",
                max_size=1333,
            ),
            L(T.RandomFlip)(horizontal=True),
        ],
        image_format="BGR",
        num_classes="${model.roi_heads.num_classes}",
        use_instance_mask=True,
    ),
    total_batch_size=16,
    num_workers=4,
)

dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="coco_2017_val", filter_empty=False),
    mapper=L(InstanceMapper)(
        is_train=False,
        augmentations=[L(T.ResizeShortestEdge)(short_edge_length=800, max_size=1333)],
        image_format="${...train.mapper.image_format}",
        num_classes="${...train.mapper.num_classes}",
        use_instance_mask=True,
    ),
    num_workers=4,
)

dataloader.evaluator = L(CocoInstanceEvaluator)(dataset_name="${..test.dataset.names}")
