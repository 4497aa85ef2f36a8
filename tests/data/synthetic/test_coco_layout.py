"""The COCO layout, and LVIS annotations of its images."""

import json
import os
import subprocess
import sys
from collections import Counter

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.data.datasets.coco_panoptic import load_coco_panoptic_json
from detectron2.data.datasets.lvis import load_lvis_json
from detectron2.structures import polygons_to_bitmask

from pointrend_seg.data.synthetic import lvis_annotations, outlines
from pointrend_seg.data.synthetic.coco_layout import (
    KIND_IDS,
    CocoParameters,
    coco_scene,
    scene_annotations,
    write_coco,
)
from pointrend_seg.data.synthetic.lvis_annotations import LVIS_NAMES, mask_to_polygons, write_lvis
from pointrend_seg.data.synthetic.panoptic_annotations import scene_segments
from pointrend_seg.data.synthetic.registration import register_synthetic
from pointrend_seg.data.synthetic.rendering import render_labels
from pointrend_seg.data.synthetic.scenes import Scene, SceneObject, Surface
from pointrend_seg.errors import InputError

PARAMETERS = CocoParameters(
    num_train=24, num_val=6, height=160, width=240, object_scale=1.0, crowds=0.15, deserted=0.1
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    assert write_coco(root, PARAMETERS)
    assert write_lvis(root, PARAMETERS)
    return root


def content(tree, name):
    return json.loads((tree / name).read_text())


def mask_of(segmentation, height, width):
    if isinstance(segmentation, dict):
        return mask_util.decode(segmentation).astype(bool)
    return polygons_to_bitmask([np.array(p) for p in segmentation], height, width)


def test_annotations_match_the_visible_pixels(tree):
    """Compare masks with the visible pixels, and boxes and areas with the masks."""
    exact, outlined, crowds, empty = 0, 0, 0, 0
    for number in range(PARAMETERS.num_train):
        scene = coco_scene(PARAMETERS, "train", number)
        _, objects = render_labels(scene)
        visible = [objects == k for k in range(len(scene.objects))]
        visible = [
            mask
            for mask, item in zip(visible, scene.objects, strict=True)
            if item.kind in KIND_IDS and mask.sum() >= 16
        ]
        items = scene_annotations(scene)
        assert len(items) == len(visible)
        empty += not items
        for item, mask in zip(items, visible, strict=True):
            found = mask_of(item["segmentation"], *mask.shape)
            if isinstance(item["segmentation"], dict):
                exact += 1
                assert np.array_equal(found, mask)
            else:
                outlined += 1
                assert (found & mask).sum() / (found | mask).sum() >= 0.95
            rows, columns = np.nonzero(mask)
            left, top, width, height = item["bbox"]
            assert (left, top) == (columns.min(), rows.min())
            assert (left + width, top + height) == (columns.max() + 1, rows.max() + 1)
            assert item["area"] == mask.sum()
            crowds += item["iscrowd"]
    assert exact > 10 and outlined > 10 and crowds > 0 and empty > 0


def test_which_objects_are_polygons():
    """Wholly visible, simple objects are; not partly hidden or badly rasterized ones."""
    surface = Surface((0, 0, 0), (0, 0, 0), "plain", 5, 0, 0)
    boxes = {
        "ground": (0, 0, 96, 64),
        "bush": (8, 8, 28, 28),
        "comb": (40, 8, 60, 28),
        "sky": (59, 27, 60, 28),  # hides a pixel of the comb
        "pole": (70.5, 8, 73.5, 48),  # pycocotools draws it a pixel farther left or right
        "star": (8, 40, 12, 44),
        "car": (20, 40, 25, 43),  # 15 pixels
    }
    objects = [SceneObject(kind, [[outlines.box(*b)]], surface) for kind, b in boxes.items()]
    items = scene_annotations(Scene(64, 96, objects))
    assert [item["kind"] for item in items] == ["bush", "comb", "pole", "star"]
    assert [type(item["segmentation"]) for item in items] == [list, dict, dict, list]
    assert [item["area"] for item in items] == [400, 399, 120, 16]
    assert items[0]["segmentation"] == [[8, 8, 28, 8, 28, 28, 8, 28]]
    assert items[0]["bbox"] == [8, 8, 20, 20]


def test_the_same_parameters_give_the_same_bytes(tree, tmp_path):
    write_coco(tmp_path, PARAMETERS, workers=2)
    write_lvis(tmp_path, PARAMETERS, workers=2)
    files = sorted(path.relative_to(tree) for path in tree.rglob("*.*"))
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*"))
    assert len(files) == 3 * (24 + 6) + 8 + 3 + 2
    assert all((tree / f).read_bytes() == (tmp_path / f).read_bytes() for f in files)


def test_existing_folders_are_not_overwritten(tree, tmp_path):
    assert not write_coco(tree, PARAMETERS)
    with pytest.raises(InputError, match="generated with other parameters"):
        write_coco(tree, CocoParameters(num_train=1, num_val=1))
    (tmp_path / "coco").mkdir()
    with pytest.raises(InputError, match="is not synthetic data"):
        write_coco(tmp_path, PARAMETERS)


def test_it_contains_the_cases_of_coco(tree):
    data = content(tree, "coco/annotations/instances_train2017.json")
    assert len(data["categories"]) == 80 and len(data["images"]) == 24
    kinds = {type(a["segmentation"]) for a in data["annotations"] if not a["iscrowd"]}
    assert kinds == {list, dict}
    assert any(a["iscrowd"] for a in data["annotations"])
    annotated = {a["image_id"] for a in data["annotations"]}
    assert any(image["id"] not in annotated for image in data["images"])
    val = content(tree, "coco/annotations/instances_val2017.json")
    ids = [image["id"] for image in data["images"] + val["images"]]
    assert len(set(ids)) == len(ids) == 30
    for image in val["images"]:
        picture = cv2.imread(str(tree / "coco/val2017" / image["file_name"]))
        assert picture.shape == (image["height"], image["width"], 3)


def test_detectron2_reads_it_as_coco(tree):
    name = "coco_2017_val"
    file = tree / "coco/annotations/instances_val2017.json"
    records = load_coco_json(str(file), str(tree / "coco/val2017"), name)
    classes = MetadataCatalog.get(name).thing_classes
    used = {classes[a["category_id"]] for r in records for a in r["annotations"]}
    assert {"car", "bicycle", "clock"} <= used and len(records) == 6


def test_detectron2_reads_it_with_its_own_classes(tree):
    file = tree / "coco/annotations/synthetic_instances_val.json"
    records = load_coco_json(str(file), str(tree / "coco/val2017"), "pointrend_test_synthetic")
    classes = MetadataCatalog.get("pointrend_test_synthetic").thing_classes
    assert tuple(classes) == tuple(KIND_IDS)
    coco = content(tree, "coco/annotations/instances_val2017.json")
    assert sum(len(r["annotations"]) for r in records) == len(coco["annotations"])


def test_the_names_are_registered():
    """Registering twice is allowed, and the classes are known before the file is read."""
    register_synthetic()
    register_synthetic()
    for split in ("train", "val"):
        assert f"synthetic_instances_{split}" in DatasetCatalog
        metadata = MetadataCatalog.get(f"synthetic_instances_{split}")
        assert metadata.evaluator_type == "coco" and tuple(metadata.thing_classes) == tuple(
            KIND_IDS
        )
        panoptic = MetadataCatalog.get(f"synthetic_panoptic_{split}")
        assert panoptic.evaluator_type == "coco_panoptic_seg"
        assert panoptic.thing_classes == list(KIND_IDS)
        assert panoptic.stuff_classes == ["things", "sky", "ground", "path", "skyline", "hood"]


def test_segments_match_the_visible_pixels(tree):
    """Each object is a segment, each kind of stuff is one, and small objects are unlabelled."""
    file = content(tree, "coco/annotations/synthetic_panoptic_train.json")
    kinds_by_id = {c["id"]: c["name"] for c in file["categories"]}
    crowds = 0
    for number, annotation in enumerate(file["annotations"]):
        scene = coco_scene(PARAMETERS, "train", number)
        kinds, objects = render_labels(scene)
        png = cv2.imread(str(tree / "coco/panoptic_train2017" / annotation["file_name"]))
        ids = png[..., ::-1].astype(int) @ [1, 256, 65536]
        left = {0}
        for segment in annotation["segments_info"]:
            mask, kind = ids == segment["id"], kinds_by_id[segment["category_id"]]
            assert segment["area"] == mask.sum() >= 1
            assert (kinds[mask] == scene.kinds.index(kind)).all()
            if kind in KIND_IDS:
                assert len(set(objects[mask].tolist())) == 1
                assert mask.sum() == (objects == objects[mask][0]).sum() >= 16
            else:
                assert mask.sum() == (kinds == scene.kinds.index(kind)).sum()
            left.add(segment["id"])
            crowds += segment["iscrowd"]
        assert set(np.unique(ids).tolist()) <= left
    assert number == 23 and crowds > 0


def test_small_things_are_unlabelled():
    """A thing of 15 pixels is no segment; stuff of any size is one, also in several parts."""
    surface = Surface((0, 0, 0), (0, 0, 0), "plain", 5, 0, 0)
    boxes = [("ground", (0, 0, 96, 64)), ("sky", (8, 8, 9, 9)), ("car", (20, 40, 25, 43))]
    boxes += [("star", (40, 40, 44, 44)), ("sky", (60, 60, 61, 61))]
    objects = [SceneObject(kind, [[outlines.box(*b)]], surface) for kind, b in boxes]
    scene = Scene(64, 96, objects)
    ids, listed = scene_segments(scene, *render_labels(scene), {"car", "star"}, 16)
    assert [(each["kind"], each["area"]) for each in listed] == [
        *(("star", 16), ("sky", 2), ("ground", 96 * 64 - 33))
    ]
    assert (ids == 0).sum() == 15 and (ids[40:43, 20:25] == 0).all()


def test_detectron2_reads_both_forms_of_the_panoptic_data(tree):
    """Stuff of the label images agrees with the segments, in COCO's categories."""
    metadata = MetadataCatalog.get("coco_2017_val_panoptic").as_dict()
    coco = tree / "coco"
    file = coco / "annotations/panoptic_val2017.json"
    folder = coco / "panoptic_val2017"
    records = load_coco_panoptic_json(str(file), str(coco / "val2017"), str(folder), metadata)
    stuff = MetadataCatalog.get("coco_2017_val_panoptic_separated").stuff_classes
    names = set()
    for record in records:
        labels = cv2.imread(record["pan_seg_file_name"].replace("_val", "_stuff_val"), -1)
        ids = cv2.imread(record["pan_seg_file_name"])[..., ::-1].astype(int) @ [1, 256, 65536]
        for segment in record["segments_info"]:
            (value,) = np.unique(labels[ids == segment["id"]])
            assert (value == 0) == segment["isthing"]
            names.add(stuff[value])
        assert (labels[ids == 0] == 255).all()
    assert names == {"things", "sky", "dirt", "pavement", "building", "roof"}


def test_every_name_finds_its_files(tree):
    """Runs in another process, because Detectron2 reads DETECTRON2_DATASETS on import."""
    names = ("coco_2017_train", "coco_2017_val", "lvis_v1_train", "lvis_v1_val")
    names += ("lvis_v0.5_val_cocofied", "synthetic_instances_train", "synthetic_instances_val")
    names += ("synthetic_panoptic_train", "synthetic_panoptic_val", "coco_2017_val_panoptic")
    names += ("coco_2017_train_panoptic_separated", "coco_2017_val_panoptic_stuffonly")
    code = (
        "import os, pointrend_seg.engine\n"
        "from detectron2.data import DatasetCatalog\n"
        f"for name in {names}:\n"
        "    records = DatasetCatalog.get(name)\n"
        "    assert all(os.path.exists(record['file_name']) for record in records), name\n"
        "    print(name, len(records))\n"
    )
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tree)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    counts = [f"{name} {24 if 'train' in name else 6}" for name in names]
    assert [line for line in done.stdout.splitlines() if line in counts] == counts, done.stderr


@pytest.mark.parametrize(
    ("name", "split", "num_classes"),
    [("lvis_v1_train", "train", 1203), ("lvis_v1_val", "val", 1203)]
    + [("lvis_v0.5_val_cocofied", "val", 80)],
)
def test_detectron2_reads_the_lvis_annotations(tree, name, split, num_classes):
    file = tree / f"lvis/{name}.json"
    records = load_lvis_json(str(file), f"{tree}/coco/", name)
    coco = content(tree, f"coco/annotations/instances_{split}2017.json")
    singles = [a for a in coco["annotations"] if not a["iscrowd"]]
    assert sum(len(r["annotations"]) for r in records) == len(singles)
    assert all(cv2.imread(r["file_name"]) is not None for r in records)
    data = json.loads(file.read_text())
    assert len(data["categories"]) == num_classes
    for image in data["images"]:
        present = {a["category_id"] for a in data["annotations"] if a["image_id"] == image["id"]}
        assert not present & set(image["neg_category_ids"])


def test_categories_of_a_crowd_are_not_exhaustive_in_lvis(tree):
    """Categories of the crowd are neither negative nor exhaustive."""
    coco = content(tree, "coco/annotations/instances_train2017.json")
    crowds = {a["image_id"] for a in coco["annotations"] if a["iscrowd"]}
    data = content(tree, "lvis/lvis_v1_train.json")
    stars = {c["id"] for c in data["categories"] if c["name"] in LVIS_NAMES["star"]}
    assert crowds
    for image in data["images"]:
        crowded = stars if image["id"] in crowds else set()
        assert set(image["not_exhaustive_category_ids"]) == crowded
        assert not set(image["neg_category_ids"]) & crowded


def test_lvis_masks_match_the_visible_pixels(tree):
    """Holes and occluded parts are preserved in the polygons."""
    coco = content(tree, "coco/annotations/instances_val2017.json")["annotations"]
    lvis = content(tree, "lvis/lvis_v1_val.json")["annotations"]
    singles = [a for a in coco if not a["iscrowd"]]
    for one, other in zip(singles, lvis, strict=True):
        first, second = (mask_of(a["segmentation"], 160, 240) for a in (one, other))
        assert one["image_id"] == other["image_id"] and one["bbox"] == other["bbox"]
        assert np.array_equal(first, second)


def test_lvis_has_frequent_and_rare_categories(tmp_path):
    """Over many scenes, there are frequent, common and rare categories."""
    write_lvis(tmp_path, CocoParameters(num_train=50, num_val=1))
    categories = content(tmp_path, "lvis/lvis_v1_train.json")["categories"]
    occurring = [category for category in categories if category["image_count"]]
    frequency = Counter(category["frequency"] for category in occurring)
    assert len(occurring) > 20 and frequency["r"] > 4 and frequency["c"] > 8
    counts = [category["image_count"] for category in occurring]
    assert max(counts) > 15 and min(counts) < 4
    for category in occurring:
        assert category["synonyms"] and category["synset"] and category["def"]


def test_frequencies_are_those_of_the_training_images(tree):
    data = content(tree, "lvis/lvis_v1_train.json")
    counted = {}
    for a in data["annotations"]:
        counted.setdefault(a["category_id"], set()).add(a["image_id"])
    for category in data["categories"]:
        assert category["image_count"] == len(counted.get(category["id"], ()))
        expected = "r" if category["image_count"] <= 10 else "c"
        assert category["frequency"] == expected
    val = content(tree, "lvis/lvis_v1_val.json")
    assert val["categories"] == data["categories"]


def test_frequencies_are_bounded_as_in_lvis():
    counts = (0, 10, 11, 100, 101)
    assert [lvis_annotations._frequency(count) for count in counts] == ["r", "r", "c", "c", "f"]


def test_polygons_keep_the_pixels_of_masks():
    mask = np.zeros((40, 50), np.uint8)
    cv2.circle(mask, (20, 20), 15, 1, -1)
    cv2.circle(mask, (20, 20), 6, 0, -1)  # a hole
    mask[5:12, 40:48] = 1  # a second part
    found = polygons_to_bitmask([np.array(p) for p in mask_to_polygons(mask)], 40, 50)
    assert (found & (mask > 0)).sum() / (found | (mask > 0)).sum() > 0.95
    assert mask_to_polygons(np.zeros((9, 9), np.uint8)) == []
