"""SSD's colour jitter, with the constructor of Detectron2's PointRend."""

from ..data.mappers.augmentation import ColorAugSSD


class ColorAugSSDTransform(ColorAugSSD):
    """`ColorAugSSD` with the arguments of Detectron2's PointRend.

    It is an augmentation: it draws its amounts from `numpy.random`, for each image anew.
    Detectron2's is a transform that draws from `random`.
    """

    def __init__(
        self,
        img_format: str,
        brightness_delta: float = 32,
        contrast_low: float = 0.5,
        contrast_high: float = 1.5,
        saturation_low: float = 0.5,
        saturation_high: float = 1.5,
        hue_delta: int = 18,
    ):
        """
        Args:
            img_format: "BGR" or "RGB", the channel order of the images.
            brightness_delta: brightness changes by up to this many grey levels, either way.
            contrast_low, contrast_high, saturation_low, saturation_high: factors.
            hue_delta: hue changes by up to this much, either way, in OpenCV's 0..180 scale.
        """
        super().__init__(
            img_format,
            brightness_delta,
            (contrast_low, contrast_high),
            (saturation_low, saturation_high),
            hue_delta,
        )
