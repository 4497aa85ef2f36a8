"""Register data sets with labelled points, under the names of Detectron2's PointSup.

``coco_2017_train_points_n10_v1_without_masks`` is ``coco_2017_train`` with 10 points an object, of
the first version; its annotations lie beside the ones with masks, in
``instances_train2017_n10_v1_without_masks.json``. Every other data set with a JSON file of COCO's
format has such names, too.
"""

import os
import re
from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog

from .coco_records import load_records

_NAME = re.compile(r"(?P<masks>.+)_points_(?P<suffix>n[1-9]\d*_v[1-9]\d*_without_masks)")
_OF_CLASSES = ("thing_classes", "thing_colors", "thing_dataset_id_to_contiguous_id")


def points_suffix(count: int, seed: int) -> str:
    """Return what the names of a data set and its file end with, by points and seed from 0.

    Example:
        >>> points_suffix(10, seed=0)
        'n10_v1_without_masks'
    """
    return f"n{count}_v{seed + 1}_without_masks"


def register_coco_instances_with_points(
    name: str, metadata: dict, json_file: str | os.PathLike, image_root: str | os.PathLike
) -> None:
    """Register a JSON file of COCO's format whose objects have `point_coords` and `point_labels`.

    Detectron2's own `register_coco_instances` reads no points, except within this package's tools.

    Args:
        name: of the data set, new.
        metadata: more of it for Detectron2's catalog, such as ``thing_classes``.
        json_file: path of the file.
        image_root: folder of the images.
    """
    DatasetCatalog.register(name, partial(load_records, name))
    files = {"json_file": os.fspath(json_file), "image_root": os.fspath(image_root)}
    MetadataCatalog.get(name).set(evaluator_type="coco", **files, **metadata)


def register_point_set(name: str) -> bool:
    """Register ``SET_points_nN_vV_without_masks``, where SET is registered with a JSON file.

    A name that is registered already, as by PointSup itself, stays as it is.

    Returns:
        whether a data set of this name is registered now.

    Example:
        >>> register_point_set("coco_2017_train_points_n10_v1_without_masks")
        True
        >>> MetadataCatalog.get("coco_2017_train_points_n10_v1_without_masks").thing_classes[0]
        'person'
    """
    if name in DatasetCatalog:
        return True
    match = _NAME.fullmatch(name)
    if match is None or match["masks"] not in DatasetCatalog:
        return False
    metadata = MetadataCatalog.get(match["masks"])
    if metadata.get("evaluator_type") != "coco" or not metadata.get("json_file"):
        return False
    stem, ending = os.path.splitext(metadata.json_file)
    more = {key: value for key in _OF_CLASSES if (value := metadata.get(key))}
    file = f"{stem}_{match['suffix']}{ending}"
    register_coco_instances_with_points(name, more, file, metadata.image_root)
    return True
