"""Write synthetic scenes in the Cityscapes layout.

    ROOT/cityscapes/leftImg8bit/{train,val}/CITY/CITY_SSSSSS_FFFFFF_leftImg8bit.png
    ROOT/cityscapes/gtFine/{train,val}/CITY/CITY_SSSSSS_FFFFFF_gtFine_{labelIds,labelTrainIds,
        instanceIds,color}.png and _gtFine_polygons.json
    ROOT/cityscapes/synthetic.json      the parameters

With ``DETECTRON2_DATASETS=ROOT``, Detectron2's own ``cityscapes_fine_*`` data sets read it.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .outlines import clip_ring, join_holes
from .rendering import render_image, render_labels
from .scenes import Scene, SceneObject, generate_scene
from .trees import save_picture, write_tree


@dataclass(frozen=True)
class CityscapesClass:
    """A row of the Cityscapes label table."""

    name: str
    id: int
    train_id: int
    color: tuple[int, int, int]
    has_instances: bool = False


# The class of each kind of object. The other six classes with a train id (wall, terrain, rider,
# bus, train, motorcycle) do not occur, so scores leave them out.
CLASSES = {
    "ground": CityscapesClass("road", 7, 0, (128, 64, 128)),
    "path": CityscapesClass("sidewalk", 8, 1, (244, 35, 232)),
    "skyline": CityscapesClass("building", 11, 2, (70, 70, 70)),
    "comb": CityscapesClass("fence", 13, 4, (190, 153, 153)),
    "pole": CityscapesClass("pole", 17, 5, (153, 153, 153)),
    "ring": CityscapesClass("traffic light", 19, 6, (250, 170, 30)),
    "letter": CityscapesClass("traffic sign", 20, 7, (220, 220, 0)),
    "bush": CityscapesClass("vegetation", 21, 8, (107, 142, 35)),
    "sky": CityscapesClass("sky", 23, 10, (70, 130, 180)),
    "star": CityscapesClass("person", 24, 11, (220, 20, 60), has_instances=True),
    "car": CityscapesClass("car", 26, 13, (0, 0, 142), has_instances=True),
    "gear": CityscapesClass("truck", 27, 14, (0, 0, 70), has_instances=True),
    "bicycle": CityscapesClass("bicycle", 33, 18, (119, 11, 32), has_instances=True),
    "hood": CityscapesClass("ego vehicle", 1, 255, (0, 0, 0)),
}
CITIES = {"train": ("aldermoor", "brackenford", "castlewick"), "val": ("dunmere", "eastholm")}


@dataclass(frozen=True)
class CityscapesParameters:
    """Parameters of a data set; the same parameters give the same bytes."""

    num_train: int
    num_val: int
    height: int = 256
    width: int = 512
    seed: int = 0


def write_cityscapes(
    root: str | os.PathLike,
    parameters: CityscapesParameters,
    *,
    workers: int = 1,
    progress: bool = False,
) -> bool:
    """Write synthetic scenes to ``root``/cityscapes, which gets its name when it is complete.

    Args:
        root: the parent folder.
        parameters: what to write.
        workers: number of processes; the bytes do not depend on it.
        progress: show a progress bar.

    Returns:
        False if the folder exists with the same parameters.

    Raises:
        InputError: the folder exists with other contents. It is not changed.
    """
    return write_tree(
        Path(root) / "cityscapes",
        asdict(parameters),
        partial(_write_image, parameters),
        list(_jobs(parameters)),
        workers=workers,
        progress=progress,
    )


def _jobs(parameters: CityscapesParameters) -> Iterable[tuple[str, str, int]]:
    """Yield split, city and number of each image."""
    for split, count in (("train", parameters.num_train), ("val", parameters.num_val)):
        cities = CITIES[split]
        yield from ((split, cities[i % len(cities)], i) for i in range(count))


def _write_image(parameters: CityscapesParameters, root: Path, job: tuple[str, str, int]) -> None:
    split, city, number = job
    seed = (parameters.seed, list(CITIES).index(split), number)
    scene = generate_scene(seed, parameters.height, parameters.width)
    stem = f"{city}_{number // len(CITIES[split]):06d}_000019"
    images, truth = (root / folder / split / city for folder in ("leftImg8bit", "gtFine"))
    for folder in (images, truth):
        folder.mkdir(parents=True, exist_ok=True)
    save_picture(images / f"{stem}_leftImg8bit.png", render_image(scene))
    for name, picture in label_images(scene).items():
        save_picture(truth / f"{stem}_gtFine_{name}.png", picture)
    polygons = json.dumps(polygon_annotation(scene))
    (truth / f"{stem}_gtFine_polygons.json").write_text(polygons)


def label_images(scene: Scene) -> dict[str, np.ndarray]:
    """Render the label images of Cityscapes.

    Returns:
        labelIds and labelTrainIds, (H, W) uint8; instanceIds, (H, W) uint16: the label id, or
        1000 times the label id plus the number of the instance in its class; color, (H, W, 3)
        uint8 RGB.
    """
    kinds, objects = render_labels(scene)
    classes = [CLASSES[kind] for kind in scene.kinds]
    instance = np.array(list(_instance_ids(scene)), dtype=np.uint16)
    return {
        "labelIds": np.array([c.id for c in classes], dtype=np.uint8)[kinds],
        "labelTrainIds": np.array([c.train_id for c in classes], dtype=np.uint8)[kinds],
        "instanceIds": instance[objects],
        "color": np.array([c.color for c in classes], dtype=np.uint8)[kinds],
    }


def _instance_ids(scene: Scene) -> Iterable[int]:
    counts: dict[str, int] = {}
    for item in scene.objects:
        label = CLASSES[item.kind]
        if label.has_instances and not _is_group(item):
            number = counts[item.kind] = counts.get(item.kind, -1) + 1
            yield label.id * 1000 + number
        else:
            yield label.id


def _is_group(item: SceneObject) -> bool:
    """Return True for instances of several polygons: one instance has one polygon in the file."""
    return CLASSES[item.kind].has_instances and len(item.shapes) > 1


def polygon_annotation(scene: Scene) -> dict:
    """Return the content of a _gtFine_polygons.json: outlines in painting order.

    Cityscapes has no holes: they are joined to the outline by a cut of zero width. Coordinates are
    in pixels; (0, 0) is the outer corner of the first pixel.
    """
    objects = []
    for item in scene.objects:
        label = CLASSES[item.kind].name + ("group" if _is_group(item) else "")
        for shape in item.shapes:
            rings = [clip_ring(ring, scene.height, scene.width) for ring in shape]
            rings = [ring for ring in rings if len(ring) > 2]
            if rings:
                polygon = np.round(join_holes(rings), 4).tolist()
                objects.append({"label": label, "polygon": polygon})
    return {"imgHeight": scene.height, "imgWidth": scene.width, "objects": objects}
