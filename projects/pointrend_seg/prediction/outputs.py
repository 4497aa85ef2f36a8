"""Files that hold predictions.

    DIR/pictures/NAME.png       the prediction over the image
    DIR/labels/NAME.png         semantic: a value for each pixel
    DIR/objects/NAME.json       instances: those of one image
    DIR/predictions.json        instances: those of all images, in COCO's format

A file appears under its name when it is complete.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.structures import Instances

from ..data.classes import Classes
from ..errors import InputError


class Output:
    """The folder that predictions are written into.

    Args:
        folder: made where it is not there.
        classes: of the model.
        semantic: whether classes of pixels are written, not objects.
        contiguous: label images hold 0, 1, 2, … instead of the data set's own values.
    """

    def __init__(
        self, folder: str | os.PathLike, classes: Classes, *, semantic: bool, contiguous: bool
    ):
        self.folder, self.classes, self.semantic = Path(folder), classes, semantic
        values = range(len(classes)) if contiguous else classes.ids
        if semantic and (min(values) < 0 or max(values) > 65535):
            raise InputError(
                f"The data set's values of classes ({min(values)} to {max(values)}) do not fit "
                "into a PNG. Write 0, 1, 2, … instead: --label-ids contiguous."
            )
        dtype = np.uint8 if max(values) <= 255 else np.uint16
        self._values = np.array(list(values), dtype if semantic else np.int64)
        self.folder.mkdir(parents=True, exist_ok=True)

    def result(self, name: str) -> Path:
        """Where the result of an image is written; if it is there, the image is done."""
        kind, extension = ("labels", "png") if self.semantic else ("objects", "json")
        return self.folder / kind / f"{name}.{extension}"

    def picture(self, name: str, what: str = "") -> Path:
        """Where a picture of an image is written.

        Args:
            what: of several pictures, which one.
        """
        return self.folder / "pictures" / f"{name}{what}.png"

    def write_labels(self, name: str, classes: np.ndarray) -> None:
        """Write a class map (H, W)."""
        save_png(self.result(name), self._values[classes])

    def write_objects(self, name: str, file_name: str, instances: Instances) -> None:
        """Write the objects of an image of the size ``instances.image_size``, on the CPU."""
        height, width = instances.image_size
        content = {
            "file_name": file_name,
            "height": height,
            "width": width,
            "objects": list(self._objects(instances)),
        }
        path = self.result(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, lambda part: part.write_text(json.dumps(content)))

    def _objects(self, instances: Instances) -> Iterable[dict]:
        boxes = instances.pred_boxes.tensor.numpy().astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        masks = [None] * len(boxes)
        if instances.has("pred_masks"):
            masks = [_encode(mask) for mask in instances.pred_masks.numpy()]
        for box, score, number, mask in zip(
            boxes.round(2).tolist(),
            instances.scores.tolist(),
            instances.pred_classes.tolist(),
            masks,
            strict=True,
        ):
            found = {"category_id": int(self._values[number]), "bbox": box, "score": score}
            if mask is not None:
                found |= {"segmentation": mask, "area": int(mask_util.area(mask)), "iscrowd": 0}
            yield found

    def write_summary(self) -> Path:
        """Put the objects of all images in the folder into one file in COCO's format.

        `pycocotools.coco.COCO` reads it, and its annotations have scores.
        """
        images, annotations = [], []
        files = sorted((self.folder / "objects").rglob("*.json"))
        for image_id, file in enumerate(files, start=1):
            content = json.loads(file.read_text())
            objects = content.pop("objects")
            images.append({"id": image_id, **content})
            for item in objects:
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **item})
        categories = [
            {"id": number, "name": name}
            for number, name in zip(self.classes.ids, self.classes.names, strict=True)
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = self.folder / "predictions.json"
        _replace(path, lambda part: part.write_text(json.dumps(content)))
        return path


def _encode(mask: np.ndarray) -> dict:
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def save_png(path: Path, picture: np.ndarray) -> None:
    """Write (H, W) of 8 or 16 bits, or RGB (H, W, 3); folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = picture[:, :, ::-1] if picture.ndim == 3 else picture  # OpenCV writes BGR

    def write(part: Path) -> None:
        encoded, content = cv2.imencode(".png", picture)
        if not encoded:
            raise OSError(f"cannot write {path}")
        part.write_bytes(content.tobytes())

    _replace(path, write)


def _replace(path: Path, write) -> None:
    part = path.with_name(f"{path.name}.part")
    write(part)
    os.replace(part, path)


def to_cpu(output: dict) -> dict:
    """What the writers need of a model's output: ``instances``, or ``classes`` (H, W) int64."""
    if "instances" in output:
        return {"instances": output["instances"].to("cpu")}
    logits: torch.Tensor = output["sem_seg"]
    classes = logits.argmax(0) if len(logits) > 1 else (logits[0] > 0).long()
    return {"classes": classes.cpu().numpy()}
