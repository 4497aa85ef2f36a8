"""Write predictions to files.

    DIR/pictures/NAME.png       the prediction drawn over the image
    DIR/labels/NAME.png         semantic models: the class of each pixel; of a GeoTIFF also NAME.tif
    DIR/objects/NAME.json       instance models: the objects of one image
    DIR/predictions.json        instance models: the objects of a run's images, in COCO format
    DIR/panoptic/NAME.png       panoptic models: the segments of one image, id = R + 256 G + 256² B
    DIR/panoptic/NAME.json      panoptic models: what these segments are
    DIR/panoptic.json           panoptic models: a run's images, in COCO's panoptic format

A file gets its name only when it is complete.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import tifffile
import torch
from detectron2.structures import Instances

from ..data.classes import Classes
from ..data.images.decoding import open_with_pillow
from ..data.images.tiff import read_georeference
from ..errors import InputError
from ..evaluation.coco_results import encode_masks
from ..files.atomic import replaces, write_text
from ..files.names import path_inside
from ..structures.class_map import ClassMap
from ..structures.panoptic_png import decode_ids, encode_ids
from .shapes import ImageShapes, class_shapes, segment_shapes, stored_shapes

# Folders in the output folder.
WRITTEN = ("labels", "objects", "panoptic", "pictures", "instances", "geojson")


class OutputFolder:
    """A folder of predictions.

    Args:
        folder: created if it does not exist.
        classes: the classes of the model; those of a panoptic one know which are things.
        semantic: write label images of a semantic model, not objects of an instance model.
        contiguous: write 0, 1, 2, … for the classes instead of the data set's own values.

    Raises:
        InputError: a class value does not fit into 16 bits.
    """

    def __init__(
        self, folder: str | os.PathLike, classes: Classes, *, semantic: bool, contiguous: bool
    ):
        self.folder, self.classes, self.semantic = Path(folder), classes, semantic
        self._is_panoptic = classes.num_things is not None
        values = range(len(classes)) if contiguous else classes.ids
        if semantic and (min(values) < 0 or max(values) > 65535):
            raise InputError(
                f"The data set's class values ({min(values)} to {max(values)}) do not fit into a "
                "PNG. Write 0, 1, 2, … instead: --label-ids contiguous."
            )
        dtype = np.uint8 if max(values) <= 255 else np.uint16
        self._values = np.array(list(values), dtype if semantic else np.int64)
        self._run_results: dict[
            str, tuple[str, str]
        ] = {}  # file name and path by name of the result
        self.folder.mkdir(parents=True, exist_ok=True)

    def result_path(self, name: str) -> Path:
        """Return the path of an image's result. The image is done if the file exists."""
        kind, extension = ("labels", "png") if self.semantic else ("objects", "json")
        kind = "panoptic" if self._is_panoptic else kind
        return path_inside(self.folder, f"{kind}/{name}.{extension}")

    def picture_path(self, name: str, suffix: str = "") -> Path:
        """Return the path of an image's picture; ``suffix`` tells several pictures apart."""
        return path_inside(self.folder, f"pictures/{name}{suffix}.png")

    def write(self, name: str, file_name: str, prediction: dict, path: str = "") -> None:
        """Write the result of an image; it is then one of this run's.

        Args:
            name: name of the result.
            file_name: path of the image, for the JSON file.
            prediction: as `to_cpu` returns it.
            path: of the image file, from which exports take a georeference.
        """
        result = self.result_path(name)
        if "classes" in prediction:
            labels = self._values[prediction["classes"]]
            georeference = read_georeference(path) if path else []
            if georeference:
                save_image(result.with_name(f"{result.stem}.tif"), labels, georeference)
            save_image(result, labels)
        elif "segments" in prediction:
            segments = prediction["segments"]
            height, width = segments.shape
            info = [*self._segments(segments, prediction["segments_info"])]
            content = {"file_name": file_name, "height": height, "width": width}
            save_image(result.with_suffix(".png"), encode_ids(segments))
            write_text(result, json.dumps({**content, "segments_info": info}))
        else:
            instances = prediction["instances"]
            height, width = instances.image_size
            objects = list(self._objects(instances))
            content = {"file_name": file_name, "height": height, "width": width, "objects": objects}
            result.parent.mkdir(parents=True, exist_ok=True)
            write_text(result, json.dumps(content))
        self._run_results[name] = file_name, path

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
            item = {
                "category_id": int(self._values[class_index]),
                "category_name": self.classes.names[class_index],
                "bbox": box,
                "score": score,
            }
            if rle is not None:
                item |= {"segmentation": rle, "area": int(mask_util.area(rle)), "iscrowd": 0}
            yield item

    def _segments(self, segments: np.ndarray, segments_info: list[dict]) -> Iterator[dict]:
        """Yield what COCO's panoptic format says of each segment, and the scores of things."""
        for info in segments_info:
            number = self.classes.number_of(info)
            mask = np.ascontiguousarray(segments == info["id"]).view(np.uint8)
            item = {
                "id": info["id"],
                "category_id": int(self._values[number]),
                "category_name": self.classes.names[number],
                "isthing": int(info["isthing"]),
                "iscrowd": 0,
                "area": int(mask.sum(dtype=np.int64)),
                "bbox": list(cv2.boundingRect(mask)),
            }
            yield item | ({"score": info["score"]} if "score" in info else {})

    def keep(self, name: str, file_name: str, path: str = "") -> None:
        """Count the result that an earlier run left as one of this run's; of a video, each frame.

        Args:
            name, file_name, path: as `write` takes them.
        """
        result = self.result_path(name)
        if result.exists():
            self._run_results[name] = file_name, path
            return
        for frame in result.with_suffix("").glob(f"*{result.suffix}"):
            if not frame.name.startswith("."):  # what a killed process left
                self._run_results[f"{name}/{frame.stem}"] = f"{name}/{frame.stem}", ""

    def images(self) -> Iterator[ImageShapes]:
        """Yield what was found in the images of this run, in the order of their names."""
        names = dict(zip(self._values.tolist(), self.classes.names, strict=True))
        for name, (file_name, path) in sorted(self._run_results.items()):
            result = self.result_path(name)
            if self.semantic:
                with open_with_pillow(result) as opened:
                    values = np.asarray(opened)
                size = values.shape[0], values.shape[1]
                yield ImageShapes(name, file_name, path, *size, class_shapes(values, names))
            else:
                content = json.loads(result.read_text())
                if self._is_panoptic:
                    with open_with_pillow(result.with_suffix(".png")) as opened:
                        segments = decode_ids(np.asarray(opened))
                    shapes = segment_shapes(segments, content["segments_info"], names)
                else:
                    shapes = stored_shapes(content["objects"], names)
                size = content["height"], content["width"]
                yield ImageShapes(name, file_name, path, *size, shapes)

    def categories(self) -> list[tuple[int, str]]:
        """Return the number and the name of each class, as results have them."""
        return list(zip(self._values.tolist(), self.classes.names, strict=True))

    def write_summary(self) -> Path:
        """Collect the objects of this run's images in predictions.json, and return its path.

        The file can be read with `pycocotools.coco.COCO`; its annotations have scores. Of a
        panoptic model it is panoptic.json, in COCO's panoptic format; the folder of its images is
        ``panoptic``.
        """
        if self._is_panoptic:
            return self._write_panoptic_summary()
        images: list[dict] = []
        annotations: list[dict] = []
        for image_id, name in enumerate(sorted(self._run_results), start=1):
            image = json.loads(self.result_path(name).read_text())
            for item in image.pop("objects"):
                annotations.append({"id": len(annotations) + 1, "image_id": image_id, **item})
            images.append({"id": image_id, **image})
        categories = [{"id": number, "name": name} for number, name in self.categories()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = self.folder / "predictions.json"
        write_text(path, json.dumps(content))
        return path

    def _write_panoptic_summary(self) -> Path:
        images: list[dict] = []
        annotations: list[dict] = []
        for image_id, name in enumerate(sorted(self._run_results), start=1):
            image = json.loads(self.result_path(name).read_text())
            segments_info = image.pop("segments_info")
            images.append({"id": image_id, **image})
            annotation = {"image_id": image_id, "file_name": f"{name}.png"}
            annotations.append({**annotation, "segments_info": segments_info})
        is_thing = [k < (self.classes.num_things or 0) for k in range(len(self.classes))]
        categories = [
            {"id": number, "name": name, "isthing": int(thing), "color": color}
            for (number, name), thing, color in zip(
                self.categories(), is_thing, self.classes.colors.tolist(), strict=True
            )
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = self.folder / "panoptic.json"
        write_text(path, json.dumps(content))
        return path


def save_image(path: Path, picture: np.ndarray, georeference: Sequence[tuple] = ()) -> None:
    """Write an image file in the format of its extension, and create its folders.

    Args:
        picture: (H, W) uint8 or uint16, in a TIFF also uint32; or RGB (H, W, 3) uint8.
        georeference: of a TIFF, as `read_georeference` returns it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() in (".tif", ".tiff"):
        with replaces(path) as part:
            tifffile.imwrite(part, picture, compression="zlib", extratags=georeference)
        return
    picture = picture[:, :, ::-1] if picture.ndim == 3 else picture  # OpenCV writes BGR
    encoded, content = cv2.imencode(path.suffix, picture)
    if not encoded:
        raise OSError(f"cannot write {path}")
    with replaces(path) as part:
        part.write_bytes(content.tobytes())


def to_cpu(output: dict, *, panoptic: bool = False) -> dict:
    """Reduce a model's output to what is written, on the CPU.

    Args:
        panoptic: whether the model is a panoptic one.

    Returns:
        ``{"instances": Instances}`` or ``{"classes": (H, W) array of class indices}``, int64, or
        uint8 or uint16 where the image was seen in tiles. Of a panoptic model ``{"segments": (H, W)
        array of ids, "segments_info": list of dicts}``.
    """
    if panoptic:
        segments, segments_info = output["panoptic_seg"]
        return {"segments": segments.cpu().numpy(), "segments_info": segments_info}
    if "instances" in output:
        return {"instances": output["instances"].to("cpu")}
    logits: torch.Tensor | ClassMap = output["sem_seg"]
    if isinstance(logits, ClassMap):
        return {"classes": logits.classes}
    classes = logits.argmax(0) if len(logits) > 1 else (logits[0] > 0).long()
    return {"classes": classes.cpu().numpy()}
