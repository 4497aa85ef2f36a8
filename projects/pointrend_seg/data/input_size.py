"""The size at which a model sees an image: what training used, and what evaluation chooses.

The *scale* of an image is the side of the model's input divided by the side of the file. Where all
training images had about the same scale, it says how large a pixel is, as in a microscope or a
satellite: objects of another scale are not recognised. Such a scale is kept in evaluation and
prediction, whatever the size of the image. Photographs, which training resizes to one size from
many, are resized to that size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from fvcore.transforms.transform import Transform
from PIL import Image
from torch import Tensor

from .dataset_files import evenly
from .images.decoding import UNREADABLE
from .images.reader import ImageReader

PLAN = "input_plan"  # in the model's input: the `InputPlan` of an image, where it is special
REVERSED = (
    "image_is_reversed"  # in the input: whether the channels of an image for tiles are reversed
)
AUTOMATIC, AS_DETECTRON2 = 0.0, -1.0  # of INPUT.SCALE_TEST
_VARIED = 2.0  # training images whose scales differ by more have no scale to be kept
_TOLERANCE = 1.25  # a scale this far beyond those of training is kept from being used
_LARGEST_WHOLE = 2048 * 2048  # pixels of the model's input; larger ones are seen in tiles
_LIMITS_FROM = 2.0  # inputs this many times as large as in training may have more objects
_AUTOMATIC_TILE, _AUTOMATIC_OVERLAP = 1024, 128
_MOST_RECORDS, _MOST_FILES = 5000, 200  # that are looked at


@dataclass(frozen=True)
class InputPlan:
    """How a model sees one image.

    Attributes:
        height, width: of the model's input, of all tiles together.
        scale: their ratio to the image's own.
        usual_scale: what ``INPUT.MIN_SIZE_TEST`` and ``INPUT.MAX_SIZE_TEST`` alone would give.
        tile: side of a tile in pixels of the model's input; 0: the image is seen whole.
        overlap: of neighbouring tiles, in the same pixels.
        limits: factor of the limits on the number of detections, of the image or of each tile.
        too_small: whether it is shown at less than half the scale of training.
        view_scales: vertical and horizontal scale of each size at which test-time augmentation
            shows the image; empty without it. The image of the input then has its own size.
    """

    height: int
    width: int
    scale: float
    usual_scale: float
    tile: int = 0
    overlap: int = 0
    limits: float = 1.0
    too_small: bool = False
    view_scales: tuple[tuple[float, float], ...] = ()

    @property
    def is_kept(self) -> bool:
        """Whether the scale is that of training or of ``INPUT.SCALE_TEST``, not the usual one."""
        return self.scale != self.usual_scale

    @property
    def is_special(self) -> bool:
        """Whether there is more to do than to resize the image as Detectron2 does."""
        return self.is_kept or bool(self.tile) or self.limits > 1 or self.too_small


class TestResize(T.Augmentation):
    """Resize images for evaluation: as Detectron2 does, or to the scale of training.

    Images that are seen in tiles stay as they are.

    Args:
        min_size, max_size: ``INPUT.MIN_SIZE_TEST``, ``INPUT.MAX_SIZE_TEST``.
        scale: ``INPUT.SCALE_TEST``.
        trained_scales, trained_side: ``INPUT.TRAINED_SCALES``, ``INPUT.TRAINED_SIDE``.
        tile, overlap: ``TEST.TILES.SIZE``, ``TEST.TILES.OVERLAP``.
    """

    __test__ = False  # no test, though its name begins like one

    def __init__(
        self,
        min_size: int,
        max_size: int,
        scale: float = AUTOMATIC,
        trained_scales: Sequence[float] = (),
        trained_side: float = 0,
        tile: int = 0,
        overlap: int = 0,
    ):
        super().__init__()
        self._init(locals())

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "TestResize":
        """Build it from a config; keys of this package may be missing."""
        inputs, tiles = cfg.INPUT, cfg.TEST.get("TILES", {})
        return cls(
            inputs.MIN_SIZE_TEST,
            inputs.MAX_SIZE_TEST,
            inputs.get("SCALE_TEST", AUTOMATIC),
            tuple(inputs.get("TRAINED_SCALES", ())),
            inputs.get("TRAINED_SIDE", 0),
            tiles.get("SIZE", 0),
            tiles.get("OVERLAP", 0),
        )

    @property
    def is_plain(self) -> bool:
        """Whether every image is resized as Detectron2 does, with nothing to be said."""
        return not (self.tile or self.scale > 0 or self.trained_scales)

    def plan(self, height: int, width: int) -> InputPlan:
        """Return how a model sees an image of ``height`` x ``width`` pixels.

        Example:
            >>> TestResize(256, 384, trained_scales=(1, 1, 1)).plan(512, 512).scale
            1.0
        """
        usual = _resized(height, width, self.min_size, self.max_size)
        usual_scale = scale = _scale(height, width, *usual)
        new_height, new_width = usual
        if self.scale > 0:
            scale = float(self.scale)
        elif self.scale == AUTOMATIC and self._has_scale:
            low, median, high = self.trained_scales
            if not low / _TOLERANCE <= usual_scale <= high * _TOLERANCE:
                scale = float(median)
        if scale != usual_scale:
            new_height, new_width = (int(side * scale + 0.5) for side in (height, width))
        tile, overlap = self._tiles(new_height, new_width, scale != usual_scale)
        return InputPlan(
            new_height,
            new_width,
            scale,
            usual_scale,
            tile,
            overlap,
            self._limits(new_height, new_width, tile),
            bool(self.trained_scales) and scale < self.trained_scales[0] / 2,
        )

    @property
    def _has_scale(self) -> bool:
        """Whether the training images had one scale."""
        return bool(self.trained_scales) and (
            self.trained_scales[2] <= _VARIED * self.trained_scales[0]
        )

    def _tiles(self, height: int, width: int, is_kept: bool) -> tuple[int, int]:
        """Return side and overlap of tiles; zeros for an image that is seen whole."""
        size, overlap = self.tile, self.overlap
        unlimited = is_kept or (self.min_size == 0 and self._has_scale)
        if not size and unlimited and height * width > _LARGEST_WHOLE:
            size, overlap = _AUTOMATIC_TILE, _AUTOMATIC_OVERLAP
        return (size, overlap) if size and max(height, width) > size else (0, 0)

    def _limits(self, height: int, width: int, tile: int) -> float:
        if not self.trained_side or self.scale == AS_DETECTRON2 or not self._has_scale:
            return 1.0
        pixels = min(height, tile or height) * min(width, tile or width)
        factor = pixels / self.trained_side**2
        return factor if factor >= _LIMITS_FROM else 1.0

    def get_transform(self, image: np.ndarray) -> Transform:
        """Return the transform of an image; its size alone matters."""
        height, width = image.shape[:2]
        plan = self.plan(height, width)
        if plan.tile or (plan.height, plan.width) == (height, width) and self.min_size == 0:
            return T.NoOpTransform()
        return T.ResizeTransform(height, width, plan.height, plan.width, Image.Resampling.BILINEAR)


def add_plan(output: dict, augmentations: T.AugmentationList, height: int, width: int) -> None:
    """Add the `InputPlan` of an image to the model's input where it is special.

    Args:
        output: the model's input.
        augmentations: of evaluation; without a `TestResize` nothing is added.
        height, width: of the image file.
    """
    for augmentation in augmentations.augs:
        if isinstance(augmentation, TestResize):
            plan = augmentation.plan(height, width)
            if plan.is_special:
                output[PLAN] = plan


def model_image(record: dict, height: int, width: int) -> Tensor:
    """Return an image that has its own size as the model's input has it.

    Args:
        record: ``image``, (3, H, W) on the CPU, and `REVERSED` where its channels are.
        height, width: of the result.

    Returns:
        (3, height, width) float32, in the channel order of the model.
    """
    pixels = record["image"].permute(1, 2, 0).numpy()
    if record.get(REVERSED):
        pixels = pixels[:, :, ::-1]
    if pixels.shape[:2] != (height, width):
        resize = T.ResizeTransform(*pixels.shape[:2], height, width, Image.Resampling.BILINEAR)
        pixels = resize.apply_image(np.ascontiguousarray(pixels))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32))


def _resized(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    if min_size == 0:  # Detectron2's "as it is"
        return height, width
    return T.ResizeShortestEdge.get_output_shape(height, width, min_size, max_size)


def _scale(height: int, width: int, new_height: int, new_width: int) -> float:
    """Return the ratio of the longer sides, which rounding changes least."""
    longer = max(height, width)
    return max(new_height, new_width) / longer if longer else 1.0


def training_scales(cfg: CfgNode, records: Sequence[dict]) -> tuple[list[float], float]:
    """Return the scales of the training images, and the side of the model's input in training.

    Args:
        cfg: ``INPUT.MIN_SIZE_TRAIN``, ``MAX_SIZE_TRAIN``, ``MIN_SIZE_TRAIN_SAMPLING`` and ``CROP``
            are read.
        records: data set dicts. Where they state no sizes, some of the files are opened.

    Returns:
        the 5th, 50th and 95th percentile of the scales, none if no size is known; and the side of
        a square of as many pixels as the inputs have (their median), 0 if unknown.
    """
    sizes = list(_sizes(records))
    if not sizes:
        return [], 0.0
    scales, pixels = [], []
    for height, width in sizes:
        for min_size in cfg.INPUT.MIN_SIZE_TRAIN:
            resized = _resized(height, width, min_size, cfg.INPUT.MAX_SIZE_TRAIN)
            scales.append(_scale(height, width, *resized))
            pixels.append(_cropped_pixels(cfg, *resized))
    percentiles = np.percentile(scales, (5, 50, 95))
    side = float(np.sqrt(np.median(pixels)))
    return [float(round(value, 4)) for value in percentiles], float(round(side, 1))


def _cropped_pixels(cfg: CfgNode, height: int, width: int) -> float:
    crop = cfg.INPUT.CROP
    if not crop.ENABLED:
        return height * width
    first, second = crop.SIZE
    if crop.TYPE.startswith("absolute"):
        return min(height, first) * min(width, second)
    return height * first * width * second


def _sizes(records: Sequence[dict]) -> Iterator[tuple[int, int]]:
    """Yield the sizes of images that are evenly spread over the records."""
    chosen = [records[k] for k in evenly(range(len(records)), _MOST_RECORDS)]
    stated = [(r["height"], r["width"]) for r in chosen if {"height", "width"} <= r.keys()]
    if stated:
        yield from stated
        return
    for record in evenly(chosen, _MOST_FILES):
        try:
            yield ImageReader().size(record["file_name"])
        except UNREADABLE:  # the mapper reports it
            continue


def with_training_scales(cfg: CfgNode, scales: Sequence[float], side: float) -> CfgNode:
    """Return a copy of a config that states the scales of its training.

    Args:
        scales, side: as `training_scales` returns them.
    """
    frozen, copied = cfg.is_frozen(), cfg.clone()
    copied.defrost()
    values: dict[str, Any] = {"TRAINED_SCALES": list(scales), "TRAINED_SIDE": side}
    for key, value in values.items():
        copied.INPUT[key] = value
    if frozen:
        copied.freeze()
    return copied


def at_own_size(cfg: CfgNode) -> CfgNode:
    """Return a copy of a config by which images of evaluation keep the sizes of their files."""
    copied = cfg.clone()
    copied.defrost()
    copied.INPUT.MIN_SIZE_TEST = 0
    copied.INPUT.SCALE_TEST, copied.INPUT.TRAINED_SCALES = AS_DETECTRON2, []
    copied.TEST.TILES.SIZE = 0
    copied.freeze()
    return copied
