"""Augment images for semantic training: multi-scale, category-aware crop, colour jitter, flip.

Shapes: images are H x W x 3, label maps H x W. Every random number comes from `numpy.random`'s
global state, which Detectron2 seeds in each loader worker, so that a seed gives the same images.
"""
# ruff: noqa: NPY002

import re
from typing import TypeVar

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from fvcore.transforms.transform import Transform

from ...config.conflicts import crop_conflicts
from ...errors import InputError

N = TypeVar("N", int, float)

_NO_PIXEL = re.compile("must be > 0|should be greater than 0")  # of Pillow and of PyTorch
_HUES = 180  # OpenCV stores the hue of 8-bit images in half degrees


class ColorJitterTransform(Transform):
    """Change colours by fixed amounts; labels and coordinates stay as they are.

    The steps run in the order brightness, contrast, saturation, hue; with `contrast_last`,
    contrast comes after hue. Every step rounds to 8 bits and clips to 0..255.

    Args:
        image_format: "BGR" or "RGB", the channel order of the images.
        brightness: added to every channel, in grey levels.
        contrast: factor of every channel.
        saturation: factor of the S channel of HSV.
        hue: added to the H channel of HSV in OpenCV's 0..180 scale, wrapping around.
        contrast_last: whether contrast follows hue.
    """

    def __init__(
        self,
        image_format: str,
        brightness: float = 0.0,
        contrast: float = 1.0,
        saturation: float = 1.0,
        hue: int = 0,
        contrast_last: bool = False,
    ):
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Return an image with changed colours.

        Args:
            img: H x W x 3, uint8.

        Returns:
            a new H x W x 3 uint8 array.
        """
        levels = np.arange(256, dtype=np.float64)
        contrast = _to_bytes(levels * self.contrast)
        before = _to_bytes(levels + self.brightness)
        if not self.contrast_last:
            before = contrast[before]
        img = cv2.LUT(np.ascontiguousarray(img), before)
        if self.saturation != 1.0 or self.hue != 0:
            img = self._shift_hsv(img, levels)
        return cv2.LUT(img, contrast) if self.contrast_last else img

    def _shift_hsv(self, img: np.ndarray, levels: np.ndarray) -> np.ndarray:
        rgb = self.image_format == "RGB"
        tables = np.stack(
            [(levels + self.hue) % _HUES, _to_bytes(levels * self.saturation), levels], axis=-1
        )
        hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV if rgb else cv2.COLOR_BGR2HSV)
        hsv = cv2.LUT(hsv, tables.astype(np.uint8)[None])
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB if rgb else cv2.COLOR_HSV2BGR)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def inverse(self) -> Transform:
        raise NotImplementedError("clipping and rounding lose colours: no inverse exists")


class ColorAugSSD(T.Augmentation):
    """Distort the colours of 8-bit images as SSD does (Liu et al., ECCV 2016, section 2.2).

    Brightness, contrast, saturation and hue each change with probability 1/2, by a uniformly
    drawn amount; contrast comes before or after saturation and hue with equal probability.

    Args:
        image_format: "BGR" or "RGB", the channel order of the images.
        brightness_delta: brightness changes by up to this many grey levels, either way.
        contrast_range, saturation_range: lowest and highest factor.
        hue_delta: hue changes by up to this much, either way, in OpenCV's 0..180 scale.

    Raises:
        InputError: another image format.
    """

    def __init__(
        self,
        image_format: str,
        brightness_delta: float = 32.0,
        contrast_range: tuple[float, float] = (0.5, 1.5),
        saturation_range: tuple[float, float] = (0.5, 1.5),
        hue_delta: int = 18,
    ):
        super().__init__()
        if image_format not in ("BGR", "RGB"):
            raise InputError(
                f"INPUT.COLOR_AUG_SSD needs 8-bit colour images, but INPUT.FORMAT is "
                f"{image_format!r}. Set INPUT.FORMAT to 'BGR' or 'RGB', or INPUT.COLOR_AUG_SSD "
                "to False."
            )
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> ColorJitterTransform:
        """Draw the amounts; they do not depend on the image."""
        return ColorJitterTransform(
            self.image_format,
            brightness=_maybe(np.random.uniform(-self.brightness_delta, self.brightness_delta), 0),
            contrast=_maybe(np.random.uniform(*self.contrast_range), 1),
            saturation=_maybe(np.random.uniform(*self.saturation_range), 1),
            hue=_maybe(np.random.randint(-self.hue_delta, self.hue_delta + 1), 0),
            contrast_last=bool(np.random.randint(2)),
        )


class PadTransform(Transform):
    """Pad an image of `height` x `width` at its bottom and right, so that coordinates stay.

    Args:
        height, width: size before padding, in pixels.
        new_height, new_width: size after it; not smaller.
        image_value: one value for each channel, written to the new pixels of images.
        label_value: written to the new pixels of label maps.
    """

    def __init__(
        self,
        height: int,
        width: int,
        new_height: int,
        new_width: int,
        image_value: tuple[float, ...],
        label_value: int,
    ):
        super().__init__()
        self._set_attributes(locals())

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        value = np.asarray(self.image_value)
        if np.issubdtype(img.dtype, np.integer):
            value = value.round()
        return self._pad(img, value.astype(img.dtype))

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return self._pad(segmentation, self.label_value)

    def _pad(self, array: np.ndarray, value: np.ndarray | int) -> np.ndarray:
        padded = np.empty((self.new_height, self.new_width, *array.shape[2:]), array.dtype)
        padded[...] = value
        padded[: self.height, : self.width] = array
        return padded

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def inverse(self) -> Transform:
        size = (self.width, self.height, self.new_width, self.new_height)
        return T.CropTransform(0, 0, *size)


class PadToSize(T.Augmentation):
    """Pad images that are smaller than `size` at the bottom and right; larger sides stay.

    A crop is no larger than its image, but heads that pool over a fixed window (DeepLab's ASPP)
    need every training image at the crop's size.

    Args:
        size: (height, width) in pixels.
        image_value: one value for each channel. The mean colour, which normalisation maps to 0,
            is what Detectron2 itself pads a batch with.
        label_value: the value that the losses ignore.
    """

    def __init__(self, size: tuple[int, int], image_value: tuple[float, ...], label_value: int):
        super().__init__()
        self._init(locals())

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        new_height, new_width = max(height, self.size[0]), max(width, self.size[1])
        if (new_height, new_width) == (height, width):
            return T.NoOpTransform()
        return PadTransform(
            height, width, new_height, new_width, self.image_value, self.label_value
        )


def build_sem_seg_train_aug(cfg: CfgNode) -> list[T.Augmentation]:
    """Return the augmentations of semantic training, in the order in which they run.

    Resize of the shortest edge (`INPUT.MIN_SIZE_TRAIN`, `MAX_SIZE_TRAIN`,
    `MIN_SIZE_TRAIN_SAMPLING`); if `INPUT.CROP.ENABLED`, a random crop in which no class but the
    ignored one fills more than `INPUT.CROP.SINGLE_CATEGORY_MAX_AREA` (ten attempts); if
    `INPUT.COLOR_AUG_SSD`, colour jitter; a random flip as `INPUT.RANDOM_FLIP` says; and for crops
    of type "absolute", padding to the crop's size with the mean colour and the ignored label.

    Raises:
        InputError: the crop type or size is invalid, or colour jitter is asked for an image format
            other than BGR and RGB.
    """
    ignore_value = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    crop = cfg.INPUT.CROP
    augs = [
        T.ResizeShortestEdge(
            cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
        )
    ]
    if crop.ENABLED:
        for conflict in crop_conflicts(crop):
            raise InputError(conflict)
        augs.append(
            T.RandomCrop_CategoryAreaConstraint(
                crop.TYPE, crop.SIZE, crop.SINGLE_CATEGORY_MAX_AREA, ignore_value
            )
        )
    if cfg.INPUT.COLOR_AUG_SSD:
        augs.append(ColorAugSSD(cfg.INPUT.FORMAT))
    if cfg.INPUT.RANDOM_FLIP != "none":
        vertical = cfg.INPUT.RANDOM_FLIP == "vertical"
        augs.append(T.RandomFlip(horizontal=not vertical, vertical=vertical))
    if crop.ENABLED and crop.TYPE == "absolute":
        augs.append(PadToSize(tuple(crop.SIZE), tuple(cfg.MODEL.PIXEL_MEAN), ignore_value))
    return augs


def augment(
    augmentations: T.AugmentationList, inputs: T.AugInput, file_name: str
) -> T.TransformList:
    """Apply augmentations to an image and what belongs to it, in place.

    Args:
        file_name: of the image, for the message.

    Returns:
        the transforms that were applied.

    Raises:
        InputError: the image is so narrow that no pixel of its shorter side is left when the
            longer one is scaled down to the limit.
    """
    height, width = inputs.image.shape[:2]
    try:
        return augmentations(inputs)
    except (ValueError, RuntimeError) as error:
        if not _NO_PIXEL.search(str(error)):
            raise
        raise InputError(narrow_image(file_name, height, width)) from error


def narrow_image(name: str, height: int, width: int) -> str:
    """Return a sentence about an image that is too narrow to be scaled to the limit."""
    return (
        f"{name} is {width} x {height} (width x height): scaled down so that the longer side fits, "
        "the shorter one has no pixel left. Crop the image, or raise INPUT.MAX_SIZE_TRAIN and "
        "INPUT.MAX_SIZE_TEST (--max-size)."
    )


def _maybe(value: N, neutral: N) -> N:
    """Return `value` or `neutral`, with equal probability."""
    return value if np.random.randint(2) else neutral


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
