"""Predict on images with a trained model."""

import glob
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, overload

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from PIL import Image

from ..config import add_pointrend_config, adopt_config
from ..config.conflicts import find_conflicts
from ..config.keys import KEYS
from ..data.classes import Classes
from ..data.custom.registration import register_custom
from ..data.images.reader import ImageReader
from ..data.input_size import AS_DETECTRON2, PLAN, REVERSED, TestResize, add_plan
from ..data.mappers.augmentation import narrow_image
from ..engine import find_task, load_config, load_model, use_available_device
from ..engine.config_loading import merge_opts
from ..engine.run_weights import RUN_CONFIG, weights_of_run
from ..errors import InputError
from ..test_time.model import AugmentedModel
from ..test_time.views import check_augmentable
from ..tiling.model import PlannedInference
from .inputs import VIDEO_EXTENSIONS, Source, batched, find_sources
from .results import Prediction
from .video_reader import VideoReader

ImageLike: TypeAlias = np.ndarray | torch.Tensor | Image.Image | str | os.PathLike

DEFAULT_CONFIDENCE = 0.5  # minimum score of an object, where a config is given as a file
_CONFIDENCE_KEYS = (
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "MODEL.RETINANET.SCORE_THRESH_TEST",
)
_ORDERS = ("BGR", "RGB")

logger = logging.getLogger(__name__)


class _Image(NamedTuple):
    """An image to predict on: RGB (H, W, 3), the model's input, name of the results, file."""

    pixels: np.ndarray
    inputs: dict
    name: str
    path: str


class Predictor:
    """A trained model that predicts on one image or several, at the images' original size.

    A replacement for Detectron2's `DefaultPredictor` with the same call, results and attributes.
    It also takes several images at once, PIL images, tensors, paths, folders, patterns and videos,
    and its results can be drawn, saved and converted (`Prediction`).

    Attributes:
        cfg, model, metadata, aug, input_format: as in `DefaultPredictor`.
        classes: names, colours and ids of the classes (`Classes`).
        task: the model's task, semantic, instance or panoptic.

    Example:
        >>> predictor = Predictor("output/config.yaml")  # doctest: +SKIP
        >>> predictor(cv2.imread("image.jpg"))["instances"].pred_masks.shape  # doctest: +SKIP
        torch.Size([7, 480, 640])
        >>> for found in predictor.stream(["images/", "clip.mp4"]):  # doctest: +SKIP
        ...     found.save(f"drawn/{found.name}.jpg")
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
        scale: float | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        pixel_range: str | None = None,
        tta: bool | None = None,
        allow_remote: bool = False,
    ):
        """
        Args:
            cfg: a config (not modified) or its path, such as the ``config.yaml`` written by
                training, or the folder that it is in.
            weights: path of a checkpoint. None takes ``MODEL.WEIGHTS``, or the last checkpoint of
                the training if ``cfg`` is its ``config.yaml`` or folder.
            opts: KEY, VALUE, KEY, VALUE, …: changes to the config.
            channel_order: "BGR" (as in OpenCV and `DefaultPredictor`) or "RGB", the order in
                arrays and tensors with three or four channels.
            batch_size: number of images per forward pass. Images of different sizes are padded.
            confidence: minimum score of an object. None takes 0.5, as on the command line, where
                ``cfg`` is a path and ``opts`` do not set it; for a `CfgNode` it takes the config's
                ``MODEL.ROI_HEADS.SCORE_THRESH_TEST``, as `DefaultPredictor` does.
            max_size: limit on the longer side of the model's input, in pixels.
            mask_resolution: mask resolution per box, e.g. 448, or "box" for one cell per pixel, as
                ``MODEL.POINT_HEAD.MASK_RESOLUTION``.
            scale: factor of both sides of an image at the model's input, as ``INPUT.SCALE_TEST``.
            tile: see larger images in tiles of this side, as ``TEST.TILES.SIZE``.
            overlap: of neighbouring tiles, as ``TEST.TILES.OVERLAP``.
            pixel_range: as ``INPUT.PIXEL_RANGE``, which it replaces. If it is given, arrays of
                floating point are scaled too.
            tta: show each image at several scales and mirrored, by the keys of ``TEST.AUG``, and
                average the results (test-time augmentation). None takes ``TEST.AUG.ENABLED``.
            allow_remote: also fetch the config and its ``_BASE_`` files from addresses.

        Raises:
            InputError: an argument is invalid, or the weights do not fit the config.
        """
        if channel_order not in _ORDERS:
            raise InputError(f"channel_order must be 'BGR' or 'RGB', not {channel_order!r}.")
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, not {batch_size}.")
        if not isinstance(cfg, CfgNode) and os.path.isdir(cfg):
            cfg = os.path.join(cfg, RUN_CONFIG)
        self.cfg = _load_config(cfg, list(opts), allow_remote)
        if not isinstance(cfg, CfgNode):
            if weights is None and "MODEL.WEIGHTS" not in opts:
                weights = weights_of_run(cfg) or None
            if confidence is None and not {*_CONFIDENCE_KEYS} & {*map(str, opts)}:
                confidence = DEFAULT_CONFIDENCE
        if weights is not None:
            self.cfg.MODEL.WEIGHTS = os.fspath(weights)
        _set_options(self.cfg, confidence, max_size, mask_resolution)
        _set_scale(self.cfg, scale, tile, overlap, max_size)
        if pixel_range is not None:
            KEYS["INPUT.PIXEL_RANGE"].check(pixel_range)
            self.cfg.INPUT.PIXEL_RANGE = pixel_range
        if tta is not None:
            self.cfg.TEST.AUG.ENABLED = tta
        if self.cfg.TEST.AUG.ENABLED:
            check_augmentable(self.cfg)
        self.reader = ImageReader.from_config(self.cfg)
        self._scales_floats = pixel_range is not None
        self.task = find_task(self.cfg)
        self.channel_order, self.batch_size = channel_order, batch_size
        self.classes: Classes = self.task.classes(self.cfg)
        names = [*self.cfg.DATASETS.TEST, *self.cfg.DATASETS.TRAIN]
        self.metadata = MetadataCatalog.get(names[0] if names else "__unused")
        self.model = load_model(self.cfg)
        self.aug = TestResize.from_config(self.cfg)
        self._planned = PlannedInference(self.cfg, watch_limits=True, batch_size=batch_size)
        self._augmented = (
            AugmentedModel(self.model, self.cfg, watch_limits=True) if self.tta else None
        )
        self.input_format = self.cfg.INPUT.FORMAT
        if self.input_format not in _ORDERS:
            raise InputError(f"INPUT.FORMAT must be 'BGR' or 'RGB', not {self.input_format!r}.")

    @property
    def is_semantic(self) -> bool:
        """True if results are "sem_seg" alone (semantic), False if they have "instances"."""
        return self.task.is_semantic

    @property
    def tta(self) -> bool:
        """Whether images are seen with test-time augmentation."""
        return self.cfg.TEST.AUG.ENABLED

    @overload
    def __call__(self, images: np.ndarray | torch.Tensor | Image.Image) -> Prediction: ...

    @overload
    def __call__(self, images: list | tuple) -> list[Prediction]: ...

    @overload
    def __call__(self, images: str | os.PathLike) -> Any: ...

    def __call__(self, images: ImageLike | list | tuple) -> Prediction | list[Prediction]:
        """Predict on one image or several.

        Args:
            images: one image, or a list or tuple of images of any sizes. An image is a NumPy array
                (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), a tensor (3, H, W), a PIL image, or the
                path of a file. Alpha is dropped. The EXIF orientation of PIL images
                and files is applied. 16-bit and 32-bit images, of files, PIL images, arrays or
                tensors, are scaled to 0..255 as ``INPUT.PIXEL_RANGE`` says; so are floating-point
                files and PIL images. Arrays and tensors of uint8, int64 and floating point have
                values from 0 to 255, and are not scaled unless `pixel_range` is given. The path of
                a folder, a video or a file of several frames, and a pattern such as
                ``"images/*.png"``, are several images: those of `stream`.

        Returns:
            a `Prediction` for one image, a list of them for several. It is a dict with
            ``instances`` (`Instances` with ``pred_boxes``, ``scores``, ``pred_classes`` and
            ``pred_masks`` (N, H, W) bool) or ``sem_seg`` ((C, H, W) logits), on the model's device;
            of a panoptic model both, and ``panoptic_seg``: ids of segments (H, W), and a list with
            ``id``, ``isthing`` and ``category_id`` of each.

        Raises:
            InputError: an image has another type, shape or range of values, or cannot be read.
        """
        if isinstance(images, list | tuple):
            return [*self._predict_all(map(self._read, images))]
        if isinstance(images, str | os.PathLike) and self._is_several(os.fspath(images)):
            return [*self.stream([images])]
        return next(self._predict_all([self._read(images)]))

    def stream(
        self,
        inputs: str | os.PathLike | Sequence[str | os.PathLike],
        *,
        errors: list[str] | None = None,
    ) -> Iterator[Prediction]:
        """Predict on files, folders, patterns and videos, one after the other, as the tool does.

        Only a batch is in memory. Images that cannot be read are skipped.

        Args:
            inputs: paths of images, folders (searched recursively) and videos, and patterns such
                as ``"images/*.png"``; one or several.
            errors: takes a message for each file that is skipped; None logs it as a warning.

        Yields:
            a prediction of each image and frame, with ``name`` and ``path``. Frames of a video, or
            of an image file of several frames, are named NAME/000000, NAME/000001, ….

        Raises:
            InputError: nothing is found for one of ``inputs``.
        """
        given = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
        sources = find_sources([os.fspath(each) for each in given])
        return self._predict_all(self._read_all(sources, errors))

    def _read(self, image: ImageLike) -> _Image:
        path = os.fspath(image) if isinstance(image, str | os.PathLike) else ""
        name = os.path.splitext(os.path.basename(path))[0]
        return self._prepared(self.rgb_pixels(image), name, path)

    def _prepared(self, pixels: np.ndarray, name: str, path: str) -> _Image:
        return _Image(pixels, self.prepare_rgb(pixels), name, path)

    def _read_all(self, sources: Sequence[Source], errors: list[str] | None) -> Iterator[_Image]:
        """Yield each image and frame that can be read."""
        for source in sources:
            several = source.is_video or self.reader.count_frames(source.path) > 1
            try:
                if not several:
                    yield self._prepared(self.read(source.path), source.name, source.path)
                    continue
                frames = (
                    VideoReader(source.path).frames()
                    if source.is_video
                    else self.reader.frames(source.path)
                )
                for number, frame in enumerate(frames):
                    yield self._prepared(frame, f"{source.name}/{number:06d}", source.path)
            except InputError as error:
                message = str(error)
                if source.path not in message:
                    message = f"{source.path}: {message}"
                if errors is None:
                    logger.warning("Skipped: %s", message)
                else:
                    errors.append(message)

    def _predict_all(self, images: Iterable[_Image]) -> Iterator[Prediction]:
        """Predict in batches."""
        for batch in batched(images, self.batch_size):
            outputs = self.predict([each.inputs for each in batch])
            for image, output in zip(batch, outputs, strict=True):
                yield Prediction(
                    output,
                    image=np.ascontiguousarray(image.pixels, np.uint8),
                    classes=self.classes,
                    name=image.name,
                    path=image.path,
                )

    def _is_several(self, path: str) -> bool:
        if os.path.isdir(path) or path.lower().endswith(VIDEO_EXTENSIONS):
            return True
        if not os.path.exists(path):
            return glob.has_magic(path)
        return self.reader.count_frames(path) > 1

    def prepare(self, image: ImageLike) -> dict:
        """Return the model's input for one image; thread-safe.

        Returns:
            ``image`` ((3, h, w) float32, resized, in the channel order of ``input_format``), the
            original ``height`` and ``width``, and, where the image is not resized as Detectron2
            would, ``input_plan`` (`InputPlan`). An image that is seen in tiles, or with test-time
            augmentation, is neither resized nor copied: it is RGB, (3, H, W), of the type that was
            given.
        """
        return self.prepare_rgb(self.rgb_pixels(image))

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """Read an image file as RGB, (H, W, 3), uint8; `InputError` if it cannot be read."""
        return self.reader.read(os.fspath(path))

    def rgb_pixels(self, image: ImageLike) -> np.ndarray:
        """Return an image as RGB, (H, W, 3), 0 to 255, from what `__call__` takes."""
        if isinstance(image, str | os.PathLike):
            return self.read(image)
        if isinstance(image, Image.Image):
            return self.reader.convert(image)
        if isinstance(image, torch.Tensor):
            if image.ndim != 3 or image.shape[0] != 3:
                raise _invalid_image(f"a tensor of shape {tuple(image.shape)}")
            if image.dtype == torch.bfloat16:
                image = image.float()
            image = image.detach().cpu().permute(1, 2, 0).numpy()
        if not isinstance(image, np.ndarray):
            raise _invalid_image(f"a {type(image).__name__}")
        if image.ndim == 2:
            image = image[:, :, None]
        if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
            raise _invalid_image(f"an array of shape {image.shape}")
        image = image[:, :, :3]  # without alpha
        image = self._in_8_bits(image)
        if image.shape[2] == 1:
            return image.repeat(3, axis=2)
        return image if self.channel_order == "RGB" else image[:, :, ::-1]

    def _in_8_bits(self, image: np.ndarray) -> np.ndarray:
        """Return an array scaled to 0..255 if its type says that it has more than 8 bits."""
        if image.dtype.kind not in "uif":
            raise _invalid_image(f"an array of {image.dtype}")
        has_wide_type = image.dtype.kind in "ui" and image.dtype.itemsize < 8
        if has_wide_type or self._scales_floats:
            return self.reader.scaled(image)
        _check_values(image)
        return image if image.dtype.kind == "f" else image.astype(np.uint8)

    def prepare_rgb(self, pixels: np.ndarray) -> dict:
        """Return the model's input (as `prepare`) for an RGB array, (H, W, 3), without checks."""
        height, width = pixels.shape[:2]
        inputs: dict = {"height": height, "width": width}
        if not self.tta:
            add_plan(inputs, T.AugmentationList([self.aug]), height, width)
        if self.tta or (PLAN in inputs and inputs[PLAN].tile):
            pixels = np.require(pixels, requirements=("C", "W"))  # a copy of what is read-only
            rgb = torch.as_tensor(pixels).permute(2, 0, 1)
            return {"image": rgb, REVERSED: self.input_format != "RGB", **inputs}
        if self.input_format == "BGR":
            pixels = pixels[:, :, ::-1]
        transform = self.aug.get_transform(pixels)
        if min(getattr(transform, "new_h", 1), getattr(transform, "new_w", 1)) < 1:
            raise InputError(narrow_image("The image", height, width))
        resized = transform.apply_image(pixels)
        image = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
        return {"image": image, **inputs}

    @torch.no_grad()
    def predict(self, inputs: list[dict]) -> list[dict]:
        """Run the model on prepared images: in one forward pass, or on one view at a time."""
        if self._augmented is not None:
            return self._augmented(inputs)
        return self._planned(self.model, inputs)


def _load_config(cfg: CfgNode | str | os.PathLike, opts: list, allow_remote: bool) -> CfgNode:
    if not isinstance(cfg, CfgNode):
        return load_config(os.fspath(cfg), opts, allow_remote=allow_remote)
    cfg = cfg.clone()
    cfg.defrost()
    add_pointrend_config(cfg)
    merge_opts(cfg, opts)
    cfg = adopt_config(cfg)
    use_available_device(cfg)
    register_custom(cfg)
    return cfg


def _set_options(
    cfg: CfgNode,
    confidence: float | None,
    max_size: int | None,
    mask_resolution: int | str | None,
) -> None:
    if confidence is not None:
        if not 0 <= confidence <= 1:
            raise InputError(f"The confidence must be from 0 to 1, not {confidence}.")
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = float(confidence)
        cfg.MODEL.RETINANET.SCORE_THRESH_TEST = float(confidence)
    if max_size is not None:
        if max_size < 32:
            raise InputError(f"The maximum size must be at least 32 pixels, not {max_size}.")
        cfg.INPUT.MAX_SIZE_TEST = int(max_size)
        cfg.TEST.AUG.MAX_SIZE = min(cfg.TEST.AUG.MAX_SIZE, int(max_size))
        # In Detectron2, a minimum of 0 means no resizing, which would ignore the maximum.
        cfg.INPUT.MIN_SIZE_TEST = min(cfg.INPUT.MIN_SIZE_TEST or int(max_size), int(max_size))
    if mask_resolution is not None:
        box = mask_resolution == "box"
        if not box and not (str(mask_resolution).isdigit() and int(mask_resolution) >= 1):
            raise InputError(
                f"The mask resolution must be a number, e.g. 448, or 'box', not "
                f"{mask_resolution!r}."
            )
        cfg.MODEL.POINT_HEAD.MASK_RESOLUTION = -1 if box else int(mask_resolution)


def _set_scale(
    cfg: CfgNode,
    scale: float | None,
    tile: int | None,
    overlap: int | None,
    max_size: int | None,
) -> None:
    if scale is not None and max_size is not None:
        raise InputError("Give a scale or a maximum size, not both: either one sets the other.")
    if max_size is not None:
        cfg.INPUT.SCALE_TEST = AS_DETECTRON2
    for key, value in (
        ("INPUT.SCALE_TEST", None if scale is None else float(scale)),
        ("TEST.TILES.SIZE", tile),
        ("TEST.TILES.OVERLAP", overlap),
    ):
        if value is not None:
            cfg.merge_from_list([key, value])
            KEYS[key].check(value)
    for conflict in find_conflicts(cfg):
        raise InputError(conflict)


def _check_values(image: np.ndarray) -> None:
    """Check that an array that is not scaled has values from 0 to 255."""
    low, high = image.min(), image.max()
    scale = "Predictor(..., pixel_range='percentile') scales it"
    if not (low >= 0 and high <= 255):
        raise _invalid_image(f"an array of values from {low} to {high} ({scale})")
    if image.dtype.kind == "f" and 0 < high <= 1:
        raise _invalid_image(f"an array of values from {low:g} to {high:g} (multiply it by 255)")


def _invalid_image(what: str) -> InputError:
    return InputError(
        "Expected an image as an array (H, W), (H, W, 3) or (H, W, 4), a tensor (3, H, W), a PIL "
        f"image or a path, with values from 0 to 255; got {what}."
    )
