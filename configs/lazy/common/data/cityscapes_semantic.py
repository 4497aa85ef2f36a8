"""Cityscapes' classes of pixels, with the mapper, the loader and the evaluator of this package."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from omegaconf import OmegaConf

from pointrend_seg.data.mappers.augmentation import ColorAugSSD, PadToSize
from pointrend_seg.data.mappers.semantic import SemanticMapper
from pointrend_seg.data.training_loader import build_training_loader
from pointrend_seg.evaluation.semantic import SemanticSegmentationEvaluator

dataloader = OmegaConf.create()

dataloader.train = L(build_training_loader)(
    dataset=L(get_detection_dataset_dicts)(names="cityscapes_fine_sem_seg_train"),
    mapper=L(SemanticMapper)(
        is_train=True,
        augmentations=[
            L(T.ResizeShortestEdge)(
                short_edge_length=(512, 768, 1024, 1280, 1536, 1792, 2048),
                sample_style="choice",
                max_size=4096,
            ),
            L(T.RandomCrop_CategoryAreaConstraint)(
                crop_type="absolute",
                crop_size=(512, 1024),
                single_category_max_area=0.75,
                ignored_category="${...ignore_value}",
            ),
            L(ColorAugSSD)(image_format="${...image_format}"),
            L(T.RandomFlip)(horizontal=True),
            # images that are smaller than the crop, with the mean colour
            L(PadToSize)(
                size=(512, 1024),
                image_value="${model.pixel_mean}",
                label_value="${...ignore_value}",
            ),
        ],
        image_format="BGR",
        num_classes="${model.sem_seg_head.num_classes}",
        ignore_value="${model.sem_seg_head.ignore_value}",
    ),
    total_batch_size=16,
    num_workers=10,
)

dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="cityscapes_fine_sem_seg_val", filter_empty=False),
    mapper=L(SemanticMapper)(
        is_train=False,
        augmentations=[L(T.ResizeShortestEdge)(short_edge_length=1024, max_size=2048)],
        image_format="${...train.mapper.image_format}",
        num_classes="${...train.mapper.num_classes}",
        ignore_value="${...train.mapper.ignore_value}",
    ),
    num_workers=10,
)

dataloader.evaluator = L(SemanticSegmentationEvaluator)(dataset_name="${..test.dataset.names}")
