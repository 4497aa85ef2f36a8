"""Write predictions to files.

    DIR/pictures/NAME.png       the prediction drawn over the image
    DIR/labels/NAME.png         semantic models: the class of each pixel
    DIR/objects/NAME.json       instance models: the objects of one image
    DIR/predictions.json        instance models: the objects of all images, in COCO format

A file gets its name only when it is complete.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import Instances

from ..data.classes import Classes
from ..errors import InputError
from ..evaluation.coco import encode_masks
from ..files.atomic import replaces, write_text
from ..files.names import path_inside
from ..structures.class_map import ClassMap

WRITTEN = ("labels", "objects", "pictures")  # folders in the output folder
_PART = re.compile(r"\..*\.part\.json")  # what a killed process left


class OutputFolder:
    """A folder of predictions.

    Args:
        folder: created if it does not exist.
        classes: the classes of the model.
        semantic: write label images of a semantic model, not objects of an instance model.
        contiguous: write 0, 1, 2, … to label images instead of the data set's own values.

    Raises:
        InputError: a class value does not fit into 16 bits.
    """

    def __init__(
        self, folder: str | os.PathLike, classes: Classes, *, semantic: bool, contiguous: bool
    ):
        self.folder, self.classes, self.semantic = Path(folder), classes, semantic
        values = range(len(classes)) if contiguous else classes.ids
        if semantic and (min(values) < 0 or max(values) > 65535):
            raise InputError(
                f"The data set's class values ({min(values)} to {max(values)}) do not fit into a "
                "PNG. Write 0, 1, 2, … instead: --label-ids contiguous."
            )
        dtype = np.uint8 if max(values) <= 255 else np.uint16
        self._values = np.array(list(values), dtype if semantic else np.int64)
        self.folder.mkdir(parents=True, exist_ok=True)

    def result_path(self, name: str) -> Path:
        """Return the path of an image's result. The image is done if the file exists."""
        kind, extension = ("labels", "png") if self.semantic else ("objects", "json")
        return path_inside(self.folder, f"{kind}/{name}.{extension}")

    def picture_path(self, name: str, suffix: str = "") -> Path:
        """Return the path of an image's picture; ``suffix`` tells several pictures apart."""
        return path_inside(self.folder, f"pictures/{name}{suffix}.png")

    def write(self, name: str, file_name: str, prediction: dict) -> None:
        """Write the result of an image.

        Args:
            name: name of the result.
            file_name: path of the image, for the JSON file.
            prediction: as `to_cpu` returns it.
        """
        if "classes" in prediction:
            save_png(self.result_path(name), self._values[prediction["classes"]])
            return
        instances = prediction["instances"]
        height, width = instances.image_size
        objects = list(self._objects(instances))
        content = {"file_name": file_name, "height": height, "width": width, "objects": objects}
        path = self.result_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(content))

    def _objects(self, instances: Instances) -> Iterator[dict]:
        boxes = instances.pred_boxes.tensor.numpy().astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        rles: list[dict | None] = [None] * len(boxes)
        if instances.has("pred_masks"):
            rles = [*encode_masks(instances.pred_masks)]
        for box, score, class_index, rle in zip(
            boxes.round(2).tolist(),
            instances.scores.tolist(),
            instances.pred_classes.tolist(),
            rles,
            strict=True,
        ):
            item = {"category_id": int(self._values[class_index]), "bbox": box, "score": score}
            if rle is not None:
                item |= {"segmentation": rle, "area": int(mask_util.area(rle)), "iscrowd": 0}
            yield item

    def write_summary(self) -> Path:
        """Collect the objects of all images in the folder in predictions.json, and return its path.

        The file can be read with `pycocotools.coco.COCO`; its annotations have scores.
        """
        images: list[dict] = []
        annotations: list[dict] = []
        files = sorted((self.folder / "objects").rglob("*.json"))
        files = [file for file in files if not _PART.fullmatch(file.name)]
        for image_id, file in enumerate(files, start=1):
            image = json.loads(file.read_text())
            for item in image.pop("objects"):
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **item})
            images.append({"id": image_id, **image})
        categories = [
            {"id": category_id, "name": name}
            for category_id, name in zip(self.classes.ids, self.classes.names, strict=True)
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = self.folder / "predictions.json"
        write_text(path, json.dumps(content))
        return path


def save_png(path: Path, picture: np.ndarray) -> None:
    """Write a PNG file and create its folders.

    Args:
        picture: (H, W) uint8 or uint16, or RGB (H, W, 3) uint8.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = picture[:, :, ::-1] if picture.ndim == 3 else picture  # OpenCV writes BGR
    encoded, content = cv2.imencode(".png", picture)
    if not encoded:
        raise OSError(f"cannot write {path}")
    with replaces(path) as part:
        part.write_bytes(content.tobytes())


def to_cpu(output: dict) -> dict:
    """Reduce a model's output to what is written, on the CPU.

    Returns:
        ``{"instances": Instances}`` or ``{"classes": (H, W) array of class indices}``, int64, or
        uint8 or uint16 where the image was seen in tiles.
    """
    if "instances" in output:
        return {"instances": output["instances"].to("cpu")}
    logits: torch.Tensor | ClassMap = output["sem_seg"]
    if isinstance(logits, ClassMap):
        return {"classes": logits.classes}
    classes = logits.argmax(0) if len(logits) > 1 else (logits[0] > 0).long()
    return {"classes": classes.cpu().numpy()}
