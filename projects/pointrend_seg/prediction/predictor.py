"""A trained model as a function of images."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, detection_utils
from detectron2.data import transforms as T
from PIL import Image, ImageOps

from ..config.adopt import adopt_config
from ..data.classes import Classes, classes_of
from ..data.custom.registration import register_custom
from ..data.labels import read_file
from ..engine.config_loading import load_config, use_available_device
from ..engine.trainer import load_model
from ..errors import InputError

_ORDERS = ("BGR", "RGB")


class Predictor:
    """Takes an image or several, gives what the model says of each, in the image's own pixels.

    A replacement for Detectron2's `DefaultPredictor`: the same call, results and attributes, and
    besides several images at once, PIL images and tensors.

        predictor = Predictor("output/config.yaml", "output/model_final.pth")
        instances = predictor(cv2.imread("image.jpg"))["instances"]

    Attributes:
        cfg, model, metadata, aug, input_format: as `DefaultPredictor` has them.
        classes: names, colours and ids of the classes, see `Classes`.
    """

    def __init__(
        self,
        cfg: CfgNode | str | os.PathLike,
        weights: str | os.PathLike | None = None,
        *,
        opts: Sequence = (),
        channel_order: str = "BGR",
        batch_size: int = 1,
        confidence: float | None = None,
        max_size: int | None = None,
        mask_resolution: int | str | None = None,
    ):
        """
        Args:
            cfg: a config (not changed), or the path of one, such as the ``config.yaml`` that
                training writes.
            weights: a file; by default ``MODEL.WEIGHTS``.
            opts: KEY, VALUE, KEY, VALUE, … to change the config by.
            channel_order: "BGR", as OpenCV reads and `DefaultPredictor` expects, or "RGB": of
                arrays and tensors with three or four channels. PIL images know their own.
            batch_size: how many images go through the model together. Images of several sizes are
                padded to a common one.
            confidence: the least score of an object; by default the config's.
            max_size: the longer side of what the model sees, in pixels, at most.
            mask_resolution: side of the masks in their boxes, or "box"; see
                ``MODEL.POINT_HEAD.MASK_RESOLUTION``.

        Raises:
            InputError: an argument is wrong, or the weights do not fit the config.
        """
        if channel_order not in _ORDERS:
            raise InputError(f"channel_order is {channel_order!r}; it is 'BGR' or 'RGB'.")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it is 1 or more.")
        self.cfg = _config(cfg, list(opts))
        if weights is not None:
            self.cfg.MODEL.WEIGHTS = os.fspath(weights)
        _apply(self.cfg, confidence, max_size, mask_resolution)
        self.channel_order, self.batch_size = channel_order, batch_size
        self.classes: Classes = classes_of(self.cfg)
        names = [*self.cfg.DATASETS.TEST, *self.cfg.DATASETS.TRAIN]
        self.metadata = MetadataCatalog.get(names[0] if names else "__unused")
        self.model = load_model(self.cfg)
        self.aug = T.ResizeShortestEdge(
            [self.cfg.INPUT.MIN_SIZE_TEST] * 2, self.cfg.INPUT.MAX_SIZE_TEST
        )
        self.input_format = self.cfg.INPUT.FORMAT
        if self.input_format not in _ORDERS:
            raise InputError(
                f"INPUT.FORMAT is {self.input_format!r}; models here see 'BGR' or 'RGB'."
            )

    @property
    def is_semantic(self) -> bool:
        """Whether results are classes of pixels ("sem_seg"), not objects ("instances")."""
        return self.cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor"

    def __call__(self, images) -> dict | list[dict]:
        """
        Args:
            images: one image, or a list or tuple of them, of sizes of their own. An image is a
                NumPy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), a tensor (3, H, W), a PIL
                image, or the path of a file. Values are 0 to 255; alpha is left out; the EXIF
                orientation of PIL images and files is applied.

        Returns:
            for one image a dict, for several a list of them: ``instances`` (`Instances` with
            ``pred_boxes``, ``scores``, ``pred_classes`` and ``pred_masks`` (N, H, W) bool) or
            ``sem_seg`` (C, H, W) logits, on the model's device.

        Raises:
            InputError: what is no such image.
        """
        if not isinstance(images, list | tuple):
            return self.predict([self.prepare(images)])[0]
        outputs = []
        for first in range(0, len(images), self.batch_size):
            batch = images[first : first + self.batch_size]
            outputs += self.predict([self.prepare(image) for image in batch])
        return outputs

    def prepare(self, image) -> dict:
        """The model's input for one image: ``image`` (3, h, w), resized, and the size it had.

        It may be called from several threads.
        """
        return self.prepare_rgb(_pixels(image, self.channel_order))

    @staticmethod
    def read(path: str | os.PathLike) -> np.ndarray:
        """An image file as RGB, (H, W, 3), uint8; an `InputError` where it cannot be read."""
        return read_file(os.fspath(path), "image", "RGB")

    def prepare_rgb(self, pixels: np.ndarray) -> dict:
        """`prepare` for an array of RGB, (H, W, 3)."""
        height, width = pixels.shape[:2]
        if self.input_format == "BGR":
            pixels = pixels[:, :, ::-1]
        seen = self.aug.get_transform(pixels).apply_image(pixels)
        seen = torch.as_tensor(seen.astype("float32").transpose(2, 0, 1))
        return {"image": seen, "height": height, "width": width}

    @torch.no_grad()
    def predict(self, inputs: list[dict]) -> list[dict]:
        """What the model makes of prepared images, all at once."""
        return self.model(inputs)


def _config(cfg: CfgNode | str | os.PathLike, opts: list) -> CfgNode:
    if not isinstance(cfg, CfgNode):
        return load_config(os.fspath(cfg), opts)
    cfg = cfg.clone()
    cfg.defrost()
    cfg = adopt_config(cfg)
    cfg.merge_from_list(opts)
    use_available_device(cfg)
    register_custom(cfg)
    return cfg


def _apply(cfg: CfgNode, confidence, max_size, mask_resolution) -> None:
    if confidence is not None:
        if not 0 <= confidence <= 1:
            raise InputError(f"The confidence is {confidence}; it is from 0 to 1.")
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = float(confidence)
        cfg.MODEL.RETINANET.SCORE_THRESH_TEST = float(confidence)
    if max_size is not None:
        if max_size < 32:
            raise InputError(f"The maximal size is {max_size}; it is 32 pixels or more.")
        cfg.INPUT.MAX_SIZE_TEST = int(max_size)
        # 0 means "as it is" in Detectron2, which would leave out the maximum, too
        cfg.INPUT.MIN_SIZE_TEST = min(cfg.INPUT.MIN_SIZE_TEST or int(max_size), int(max_size))
    if mask_resolution is not None:
        set_mask_resolution(cfg, mask_resolution)


def set_mask_resolution(cfg: CfgNode, resolution: int | str) -> None:
    """Set ``MODEL.POINT_HEAD.MASK_RESOLUTION`` to a number, or to that of "box"."""
    value = -1 if resolution == "box" else resolution
    if not str(value).lstrip("-").isdigit() or (int(value) < 1 and resolution != "box"):
        raise InputError(
            f"The mask resolution is {resolution!r}; it is a number of cells, such as 448, or "
            "'box'."
        )
    cfg.MODEL.POINT_HEAD.MASK_RESOLUTION = int(value)


def _pixels(image, channel_order: str) -> np.ndarray:
    """An image as RGB, (H, W, 3)."""
    if isinstance(image, str | os.PathLike):
        return Predictor.read(image)
    if isinstance(image, Image.Image):
        return detection_utils.convert_PIL_to_numpy(ImageOps.exif_transpose(image), "RGB")
    if isinstance(image, torch.Tensor):
        if image.ndim != 3 or image.shape[0] != 3:
            raise _no_image(f"a tensor of shape {tuple(image.shape)}")
        image = image.detach().cpu().permute(1, 2, 0).numpy()
    if not isinstance(image, np.ndarray):
        raise _no_image(f"a {type(image).__name__}")
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise _no_image(f"an array of shape {image.shape}")
    _check_values(image)
    if image.shape[2] == 1:
        return image.repeat(3, axis=2)
    image = image[:, :, :3]
    return image if channel_order == "RGB" else image[:, :, ::-1]


def _check_values(image: np.ndarray) -> None:
    if image.dtype == np.uint8:
        return
    if image.dtype == bool or not np.issubdtype(image.dtype, np.number):
        raise _no_image(f"an array of {image.dtype}")
    low, high = image.min(), image.max()
    if not (low >= 0 and high <= 255):
        raise _no_image(f"an array of values from {low} to {high}")
    if np.issubdtype(image.dtype, np.floating) and 0 < high <= 1:
        raise _no_image(f"an array of values from {low:g} to {high:g} (multiply it by 255)")


def _no_image(what: str) -> InputError:
    return InputError(
        "Expected an image as an array (H, W), (H, W, 3) or (H, W, 4), a tensor (3, H, W), a PIL "
        f"image or a path, with values from 0 to 255; got {what}."
    )
