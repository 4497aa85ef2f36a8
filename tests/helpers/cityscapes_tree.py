"""A data set of few pixels in the Cityscapes layout: a road, on it a car and a person."""

import json

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 64, 96
CAR, PERSON = (slice(10, 40), slice(8, 40)), (slice(20, 60), slice(60, 80))
ROAD_ID, PERSON_ID, CAR_ID = 7, 24, 26
ROAD_TRAIN_ID, PERSON_TRAIN_ID, CAR_TRAIN_ID = 0, 11, 13


def write_cityscapes_tree(root, splits=("train", "val"), cities=("aa", "bb")):
    """Writes one image for each city and split under `root`/cityscapes; returns that folder."""
    root = root / "cityscapes"
    for split in splits:
        for city in cities:
            image_dir, gt_dir = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
            image_dir.mkdir(parents=True)
            gt_dir.mkdir(parents=True)
            stem = f"{city}_000000_000001"
            save(image_dir / f"{stem}_leftImg8bit.png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
            write_labels(gt_dir / f"{stem}_gtFine")
    return root


def write_labels(stem):
    ids = paint(np.uint8, ROAD_ID, CAR_ID, PERSON_ID)
    train_ids = paint(np.uint8, ROAD_TRAIN_ID, CAR_TRAIN_ID, PERSON_TRAIN_ID)
    save(f"{stem}_labelIds.png", ids)
    save(f"{stem}_labelTrainIds.png", train_ids)
    instance_ids = paint(np.uint16, ROAD_ID, CAR_ID * 1000, PERSON_ID * 1000)
    save(f"{stem}_instanceIds.png", instance_ids)
    objects = [
        {"label": "road", "polygon": corners((slice(0, HEIGHT), slice(0, WIDTH)))},
        {"label": "car", "polygon": corners(CAR)},
        {"label": "person", "polygon": corners(PERSON)},
    ]
    polygons = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": objects}
    with open(f"{stem}_polygons.json", "w", encoding="utf-8") as file:
        json.dump(polygons, file)


def paint(dtype, road, car, person):
    labels = np.full((HEIGHT, WIDTH), road, dtype)
    labels[CAR] = car
    labels[PERSON] = person
    return labels


def corners(box):
    (rows, columns) = box
    top, bottom, left, right = rows.start, rows.stop - 1, columns.start, columns.stop - 1
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def save(path, array):
    Image.fromarray(array).save(path)
