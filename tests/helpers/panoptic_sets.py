"""Small panoptic data sets on disk, sound or with one fault."""

import json

import cv2
import numpy as np

from pointrend_seg.structures.panoptic_png import encode_ids

HEIGHT, WIDTH = 24, 32
CATEGORIES = [
    {"id": 3, "name": "cat", "isthing": 1},
    {"id": 5, "name": "sky", "isthing": 0},
    {"id": 8, "name": "dog", "isthing": 1},
    {"id": 9, "name": "road", "isthing": 0},
]


def write(folder, count=3):
    """Write images, PNGs and a JSON file; return the path of the file and its content."""
    for name in ("images", "panoptic"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    content = {"images": [], "annotations": [], "categories": [dict(c) for c in CATEGORIES]}
    for number in range(1, count + 1):
        ids = np.zeros((HEIGHT, WIDTH), np.int32)
        ids[:12], ids[12:22] = 1000, 2000  # the last two rows are unlabelled
        ids[4:14, 4 + number : 12 + number], ids[8:16, 20:28] = 3000, 70001
        listed = [(1000, 5, 0), (2000, 9, 0), (3000, 3, 0), (70001, 8, number == 1)]
        picture = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        cv2.imwrite(str(folder / f"images/{number}.png"), picture)
        write_png(folder / f"panoptic/{number}.png", ids)
        content["images"].append(
            {"id": number, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH}
        )
        segments = [
            {"id": k, "category_id": c, "iscrowd": int(crowd), "area": int((ids == k).sum())}
            for k, c, crowd in listed
        ]
        content["annotations"].append(
            {"image_id": number, "file_name": f"{number}.png", "segments_info": segments}
        )
    return write_json(folder, content), content


def write_json(folder, content):
    file = folder / "panoptic.json"
    file.write_text(json.dumps(content))
    return file


def write_png(path, ids):
    cv2.imwrite(str(path), encode_ids(ids)[..., ::-1])
