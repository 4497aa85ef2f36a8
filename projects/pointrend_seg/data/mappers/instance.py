"""Turn data set dicts into the input of `GeneralizedRCNN`, with masks of every form as bits."""

# ruff: noqa: NPY002

import copy
import logging
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Instances, Keypoints, polygons_to_bitmask

from ...errors import InputError
from ...structures.shared_masks import SharedMasks
from ..annotations import Annotation, Record, checked_annotations, decode_mask, image_name
from ..images.reader import ImageReader
from ..input_size import TestResize, add_plan
from ..labels import check_image_size
from .augmentation import augment


class InstanceMapper:
    """Read an image and its objects, check them, and augment both alike.

    Images, boxes and classes are those of Detectron2's `DatasetMapper` with the same seed, and
    masks those that it makes with `INPUT.MASK_FORMAT` "bitmask". That key does not matter here:
    polygons, run-length masks, compressed or not, and arrays, also mixed in one image, all become
    bits. Polygons are rasterised after the geometric transforms; other masks are transformed like
    label maps. Crowds, and objects without an area after the transforms, are left out.

    With labelled points instead of masks, as in Detectron2's PointSup, points move with the image.
    In data set dicts they are indices of pixels; half a pixel is added, so that they become
    coordinates in which pixel i covers i to i + 1, like those of boxes.

    Args:
        is_train: whether objects are read.
        augmentations: applied in this order.
        image_format: as `detectron2.data.detection_utils.read_image` takes it.
        reader: reads the image.
        num_classes: number of classes, from 1.
        use_instance_mask: whether objects have masks.
        use_points: whether objects have labelled points, `point_coords` and `point_labels`, instead
            of masks.
        sample_points: number of points that are drawn of those of each object, anew whenever the
            image is read; 0: all are taken.
        use_keypoint: whether objects have keypoints.
        keypoint_hflip_indices: for each of the K keypoints, the one that it becomes when the
            image is flipped; needed for keypoints.
        precomputed_proposal_topk: how many of the proposals in the data set dict to keep; None
            if they are not used.
        recompute_boxes: whether boxes are computed from what a crop left of the masks.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        reader: ImageReader | None = None,
        num_classes: int,
        use_instance_mask: bool,
        use_points: bool = False,
        sample_points: int = 0,
        use_keypoint: bool = False,
        keypoint_hflip_indices: list[int] | None = None,
        precomputed_proposal_topk: int | None = None,
        recompute_boxes: bool = False,
    ):
        if use_points and use_instance_mask:
            raise InputError(
                "use_points and use_instance_mask are both True, but masks are trained from points "
                "or from masks. Set use_instance_mask to False."
            )
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.reader = reader or ImageReader()
        self.num_classes = num_classes
        self.use_instance_mask = use_instance_mask
        self.use_points = use_points
        self.sample_points = sample_points
        self.use_keypoint = use_keypoint
        self.keypoint_hflip_indices = keypoint_hflip_indices
        self.proposal_topk = precomputed_proposal_topk
        self.recompute_boxes = recompute_boxes
        mode = "training" if is_train else "inference"
        logging.getLogger(__name__).debug(f"Augmentations used in {mode}: {augmentations}")

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        arguments = DatasetMapper.from_config(cfg, is_train)
        del arguments["instance_mask_format"]
        if not is_train:
            arguments["augmentations"] = [TestResize.from_config(cfg)]
        if cfg.MODEL.MASK_ON and cfg.INPUT.POINT_SUP:
            arguments |= {"use_instance_mask": False, "recompute_boxes": False, "use_points": True}
            arguments["sample_points"] = cfg.INPUT.SAMPLE_POINTS
        return arguments | {
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "reader": ImageReader.from_config(cfg),
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Return the input of the model for a data set dict.

        Args:
            dataset_dict: in Detectron2's format, with `file_name` and, for training,
                `annotations`; it is not changed.

        Returns:
            a new dict with `image` (3 x H x W, of the dtype read, 0..255), `height` and `width`
            of the file in pixels, and what else the data set dict had (`file_name`, `image_id`,
            ...), without `annotations` and `sem_seg_file_name`. For training `instances` of the
            augmented image: `gt_boxes` (G x 4), `gt_classes` (G, int64), with masks `gt_masks`
            (`SharedMasks` of G x H x W) and with keypoints `gt_keypoints` (G x K x 3), also
            where G is 0. With labelled points, `gt_point_coords` (G x P x 2, float32, x and y in
            pixels of the augmented image) and `gt_point_labels` (G x P, int64): 1 on the object, 0
            elsewhere, -1 for points that are to be ignored, as they were moved out of the image or
            fill the rows of objects with fewer points. P is `sample_points`, or the most points of
            an object of the image, so that it may differ between images. With precomputed
            proposals, `proposals`. For evaluation, where the image is not resized as Detectron2
            would, `input_plan` (`InputPlan`).

        Raises:
            InputError: the image is missing, unreadable or of another size than stated; an object
                has no box, an unknown class, no mask, an invalid mask, one of another size than the
                image, or no points or invalid ones.
        """
        output = copy.deepcopy(dataset_dict)
        image = self.reader.read(output["file_name"], self.image_format, image_name(output))
        check_image_size(image, output)
        labels = self._read_labels(output)
        objects = self._objects(output) if self.is_train else []
        output.pop("annotations", None)

        aug_input = T.AugInput(image, sem_seg=labels)
        height, width = image.shape[:2]
        transforms = augment(self.augmentations, aug_input, output["file_name"])
        image = aug_input.image
        size = image.shape[:2]
        output["image"] = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        if self.proposal_topk is not None:
            detection_utils.transform_proposals(
                output, size, transforms, proposal_topk=self.proposal_topk
            )
        if labels is not None:
            output["sem_seg"] = torch.as_tensor(aug_input.sem_seg.astype(np.int64))
        if self.is_train:
            output["instances"] = self._instances(objects, transforms, (height, width), size)
        else:
            add_plan(output, self.augmentations, height, width)
        return output

    def _read_labels(self, output: Record) -> np.ndarray | None:
        """Return labels of pixels to be augmented with the image, as subclasses do; remove files.

        Args:
            output: the data set dict with the image's size, which is changed.

        Returns:
            (H, W), of a dtype that is resized to the nearest pixel; None for objects alone.
        """
        output.pop("sem_seg_file_name", None)
        return None

    def _objects(self, record: Record) -> list[tuple[str, Annotation]]:
        """Return the annotations that are trained on, each with its name for messages."""
        objects = []
        for each in checked_annotations(
            record,
            self.num_classes,
            masks=self.use_instance_mask,
            points=self.use_points,
            is_train=True,
        ):
            for problem in each.problems:
                raise InputError(f"{each.name} {problem}")
            objects.append((each.name, each.annotation))
        return objects

    def _instances(
        self,
        objects: list[tuple[str, dict]],
        transforms: T.TransformList,
        size_before: tuple[int, int],
        size: tuple[int, int],
    ) -> Instances:
        masks = [(name, annotation.pop("segmentation", None)) for name, annotation in objects]
        annotations = [annotation for _, annotation in objects]
        instances = self._boxes(annotations, transforms, size)
        if self.use_points:
            visible = transforms.apply_segmentation(np.ones(size_before, np.uint8)) == 1
            coords, labels = self._points(annotations, transforms, visible)
            instances.gt_point_coords, instances.gt_point_labels = coords, labels
        if self.use_instance_mask:
            bits = np.zeros((len(masks), *size), bool)
            for row, (name, segmentation) in zip(bits, masks, strict=True):
                row[:] = _transform_mask(name, segmentation, transforms, size)
            instances.gt_masks = BitMasks(torch.from_numpy(bits))
            if self.recompute_boxes:
                instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        instances = detection_utils.filter_empty_instances(instances)
        if self.use_instance_mask:
            instances.gt_masks = SharedMasks(instances.gt_masks.tensor)
        return instances

    def _points(
        self, annotations: list[dict], transforms: T.TransformList, visible: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the points of the augmented image, G x P x 2, and their labels, G x P.

        Args:
            visible: H x W, where the augmented image shows the file's and no filling.
        """
        points = []
        for annotation in annotations:
            coords, labels = _transform_points(annotation, transforms, visible)
            if 0 < self.sample_points < len(labels):
                drawn = np.random.choice(len(labels), self.sample_points, replace=False)
                coords, labels = coords[drawn], labels[drawn]
            points.append((coords, labels))
        count = self.sample_points or max((len(labels) for _, labels in points), default=0)
        all_coords = torch.zeros(len(points), count, 2)
        all_labels = torch.full((len(points), count), -1)
        for row, (coords, labels) in enumerate(points):
            all_coords[row, : len(labels)] = torch.from_numpy(coords)
            all_labels[row, : len(labels)] = torch.from_numpy(labels)
        return all_coords, all_labels

    def _boxes(
        self, annotations: list[dict], transforms: T.TransformList, size: tuple[int, int]
    ) -> Instances:
        """Return the boxes, classes and keypoints of the augmented image."""
        points = len(self.keypoint_hflip_indices or ())
        for annotation in annotations:
            if self.use_keypoint:
                annotation.setdefault("keypoints", [0.0] * 3 * points)
            else:
                annotation.pop("keypoints", None)
            detection_utils.transform_instance_annotations(
                annotation, transforms, size, keypoint_hflip_indices=self.keypoint_hflip_indices
            )
        instances = detection_utils.annotations_to_instances(annotations, size)
        if self.use_keypoint and not annotations:
            instances.gt_keypoints = Keypoints(np.zeros((0, points, 3)))
        return instances


def _transform_points(
    annotation: dict, transforms: T.TransformList, visible: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of an object in the augmented image, P x 2 float32, and labels, P int64.

    A point that a crop cut off is ignored also where a later rotation brings its place back.
    """
    centres = np.array(annotation["point_coords"], np.float64) + 0.5
    coords = transforms.apply_coords(centres).astype(np.float32)
    labels = np.array(annotation["point_labels"], np.int64)
    height, width = visible.shape
    is_seen = ((coords >= 0) & (coords < (width, height))).all(axis=1)
    x, y = coords[is_seen].astype(int).T
    is_seen[is_seen] = visible[y, x]
    return coords, np.where(is_seen, labels, -1)


def _transform_mask(
    name: str, segmentation: Any, transforms: T.TransformList, size: tuple[int, int]
) -> np.ndarray:
    """Return the mask of the object `name` in the augmented image: H x W, bool."""
    if isinstance(segmentation, list | tuple):
        polygons = [np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in segmentation]
        try:
            polygons = transforms.apply_polygons(polygons)
        except ModuleNotFoundError as error:
            raise InputError(
                f"Cropping polygons (INPUT.CROP) needs the package {error.name}, which is not "
                'installed. Install it with: pip install "pointrend-seg[cityscapes]"'
            ) from error
        return polygons_to_bitmask([p.reshape(-1) for p in polygons], *size)
    try:
        mask = decode_mask(segmentation)
    except ValueError as error:
        raise InputError(f"{name} {error}") from error
    return transforms.apply_segmentation(mask).astype(bool)
