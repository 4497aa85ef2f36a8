"""The views of an image that test-time augmentation shows to a model.

A *view* is the image at one scale, mirrored or not. Scales are those of ``TEST.AUG``: sizes, as in
Detectron2, or factors of the size at which the model sees the image without augmentation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from detectron2.config import CfgNode, get_cfg
from detectron2.data import transforms as T
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    GeneralizedRCNN,
    PanopticFPN,
    SemanticSegmentor,
)

from ..config.detectron2_keys import detectron2_keys
from ..config.keys import KEYS
from ..data.input_size import PLAN, InputPlan, model_image
from ..errors import InputError

# Where neither sizes nor factors are given and Detectron2's sizes do not suit the model.
USUAL_FACTORS = (0.75, 1.0, 1.25)
_SUITED_SIZE = 800  # INPUT.MIN_SIZE_TEST for which Detectron2's default sizes are made


class View(NamedTuple):
    """An image as a model sees it.

    Attributes:
        inputs: of the model: ``image`` (3, h, w) float32, ``height`` and ``width`` of the output.
        is_flipped: whether left and right are exchanged.
    """

    inputs: dict
    is_flipped: bool


@dataclass(frozen=True)
class ViewChoice:
    """Which views there are of an image.

    Attributes:
        min_sizes, max_size: ``TEST.AUG.MIN_SIZES`` and ``TEST.AUG.MAX_SIZE``.
        factors: ``TEST.AUG.SCALES``.
        flip: ``TEST.AUG.FLIP``: whether each scale is also shown mirrored.
        own_min_size: ``INPUT.MIN_SIZE_TEST``.
    """

    min_sizes: tuple[int, ...]
    max_size: int
    factors: tuple[float, ...]
    flip: bool
    own_min_size: int

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ViewChoice":
        """Read it from a config; keys of this package may be missing.

        Raises:
            InputError: a value is invalid, or both sizes and factors are given.
        """
        aug = cfg.TEST.AUG
        for name in ("MIN_SIZES", "MAX_SIZE", "FLIP", "SCALES"):
            key = f"TEST.AUG.{name}"
            if name in aug:
                (KEYS.get(key) or detectron2_keys()[key]).check(aug[name])
        choice = cls(
            tuple(map(int, aug.MIN_SIZES)),
            int(aug.MAX_SIZE),
            tuple(map(float, aug.get("SCALES", ()))),
            aug.FLIP,
            cfg.INPUT.MIN_SIZE_TEST,
        )
        if choice.factors and choice._has_own_sizes:
            raise InputError(
                f"TEST.AUG.MIN_SIZES is {list(choice.min_sizes)} and TEST.AUG.SCALES "
                f"{list(choice.factors)}: give sizes or factors, not both. To take the sizes: "
                'TEST.AUG.SCALES "()".'
            )
        return choice

    @property
    def _has_own_sizes(self) -> bool:
        return self.min_sizes != tuple(get_cfg().TEST.AUG.MIN_SIZES)

    def view_scales(
        self, height: int, width: int, plan: InputPlan
    ) -> tuple[tuple[float, float], ...]:
        """Return the vertical and horizontal scale of each size at which an image is shown.

        Factors, if there are any, count; else sizes that are not Detectron2's default ones. These
        are made for models that see images with a shorter side of 800 pixels; for others, and for
        images whose scale is kept, `USUAL_FACTORS` count.

        Args:
            height, width: of the image.
            plan: how the model sees it without augmentation.
        """
        suits = self.own_min_size == _SUITED_SIZE and not plan.is_kept
        if not self.factors and (suits or self._has_own_sizes):
            sizes = [
                T.ResizeShortestEdge.get_output_shape(height, width, size, self.max_size)
                for size in self.min_sizes
            ]
        else:
            most = self.max_size / max(plan.height, plan.width, 1)
            factors = dict.fromkeys(min(factor, most) for factor in self.factors or USUAL_FACTORS)
            sizes = [
                (int(plan.height * factor + 0.5), int(plan.width * factor + 0.5))
                for factor in factors
            ]
        return tuple((max(1, h) / height, max(1, w) / width) for h, w in sizes)

    def describe(self, scales: Sequence[tuple[float, float]], plan: InputPlan) -> str:
        """Say at which sizes, relative to that without augmentation, an image is shown."""
        factors = [max(scale) / plan.scale for scale in scales]
        shown = ", ".join(f"{round(factor, 2):g}" for factor in factors)
        mirrored = ", each also mirrored" if self.flip else ""
        said = f"at {shown} times the usual size{mirrored}."
        if not self.factors and not min(factors) <= 1 <= max(factors):
            said += (
                " These sizes, TEST.AUG.MIN_SIZES, are all larger or all smaller than what the "
                "model was trained for; TEST.AUG.SCALES takes factors of it."
            )
        return said


def views(record: dict, *, flip: bool, largest_first: bool = False) -> Iterator[View]:
    """Yield the views of an image, one at a time.

    Args:
        record: ``image`` (3, H, W) of its own size, ``height`` and ``width`` of the output, and
            `PLAN` with ``view_scales``.
        flip: whether each size is also shown mirrored.
        largest_first: whether sizes come in descending order, not as in the plan.
    """
    height, width = record["height"], record["width"]
    scales = record[PLAN].view_scales
    for vertical, horizontal in sorted(scales, reverse=True) if largest_first else scales:
        size = max(1, int(height * vertical + 0.5)), max(1, int(width * horizontal + 0.5))
        image = model_image(record, *size)
        inputs = {"image": image, "height": height, "width": width}
        yield View(inputs, False)
        if flip:
            yield View({**inputs, "image": image.flip(2)}, True)


def check_augmentable(cfg: CfgNode) -> None:
    """Raise `InputError` where test-time augmentation does not know the model, or its keys."""
    name = cfg.MODEL.META_ARCHITECTURE
    kind = META_ARCH_REGISTRY.get(name) if name in META_ARCH_REGISTRY else object
    known = isinstance(kind, type) and issubclass(kind, (GeneralizedRCNN, SemanticSegmentor))
    if not known or issubclass(kind, PanopticFPN):
        raise InputError(
            "Test-time augmentation is for models of GeneralizedRCNN and SemanticSegmentor, but "
            f"MODEL.META_ARCHITECTURE is {name}. Leave out --tta (TEST.AUG.ENABLED False)."
        )
    for key in ("KEYPOINT_ON", "LOAD_PROPOSALS"):
        if cfg.MODEL[key]:
            raise InputError(
                f"Test-time augmentation knows no models with MODEL.{key} True. Leave out --tta "
                "(TEST.AUG.ENABLED False)."
            )
    ViewChoice.from_config(cfg)
