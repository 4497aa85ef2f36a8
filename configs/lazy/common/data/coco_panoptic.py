"""COCO's things and stuff, with the mapper and the loader of this package.

The evaluators are those of the data set's type: PQ, and the scores of both branches.
"""

from detectron2.config import LazyCall as L

from pointrend_seg.data.mappers.panoptic import PanopticMapper
from pointrend_seg.data.panoptic.classes import panoptic_classes

from .coco_instances import dataloader

for _part in (dataloader.train, dataloader.test):
    _part.dataset.filter_empty = False
    _part.mapper.update(
        _target_=PanopticMapper,
        num_semantic="${model.sem_seg_head.num_classes}",
        ignore_value="${model.sem_seg_head.ignore_value}",
    )
dataloader.train.mapper.classes = L(panoptic_classes)(name="${...dataset.names}")
dataloader.train.dataset.names = "coco_2017_train_panoptic_separated"
dataloader.test.dataset.names = "coco_2017_val_panoptic_separated"
del dataloader.evaluator
