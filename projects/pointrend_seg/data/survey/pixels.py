"""Data sets of label images: each image with its labels."""

import os
from dataclasses import dataclass

import numpy as np

from ..custom.datasets import IMAGE_EXTENSIONS
from ..custom.label_coding import LabelCoding
from .images import UNREADABLE, Seen, look_at_image, read_array


@dataclass(frozen=True)
class LabelledImage:
    """An image and its label image, either of which may be missing (None)."""

    image: str | None
    labels: str | None
    coding: LabelCoding


def pair_folders(images: str, labels: str, coding: LabelCoding) -> list[LabelledImage]:
    """Images and label images with the same path below their folders, and those without."""
    by_name = [_list(folder) for folder in (images, labels)]
    keys = sorted(by_name[0].keys() | by_name[1].keys())
    return [LabelledImage(by_name[0].get(key), by_name[1].get(key), coding) for key in keys]


def _list(folder: str) -> dict[str, str]:
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            stem, extension = os.path.splitext(os.path.join(parent, name))
            if extension.lower() in IMAGE_EXTENSIONS and not name.startswith("."):
                found[os.path.relpath(stem, folder)] = os.path.join(parent, name)
    return found


def look_at_labels(job: LabelledImage) -> Seen:
    """Decode both and compare them; counts are of pixels of each class."""
    seen = Seen()
    if job.image is None:
        seen.faults.append(("labels-without-image", job.labels))
        return seen
    if job.labels is None:
        seen.faults.append(("image-without-labels", job.image))
        look_at_image(job.image, None, seen)
        return seen
    try:
        labels = read_array(job.labels)
    except UNREADABLE as error:
        seen.faults.append(("unreadable-labels", f"{job.labels}: {error}"))
        look_at_image(job.image, None, seen)
        return seen
    faults = Seen()
    size = look_at_image(job.image, labels.shape[:2], faults)
    seen.digest = faults.digest
    for kind, where in faults.faults:
        # what states the size of an image is its label image
        seen.faults.append(
            ("label-size", f"{job.labels}: {where}") if kind == "image-size" else (kind, where)
        )
    _count(job, labels, seen)
    if size is not None and not seen.counts and not any(k == "label-value" for k, _ in seen.faults):
        seen.faults.append(("nothing-labelled", job.labels))
    return seen


def _count(job: LabelledImage, labels: np.ndarray, seen: Seen) -> None:
    numbers, wrong = count_classes(job.coding, labels)
    if wrong:
        seen.faults.append(("label-value", f"{job.labels}: {wrong}"))
    seen.counts = numbers


def count_classes(coding: LabelCoding, labels: np.ndarray) -> tuple[dict[int, int], str]:
    """Pixels of each class that occurs, ignored ones left out; and what values are no class."""
    if labels.ndim == 3 and labels.shape[2] == 2:
        labels = labels[..., 0]
    if labels.ndim == 3 and coding.colors is None:
        return {}, f"{labels.shape[2]} channels, and no colours of classes are known"
    image, keys = coding.pixel_keys(labels)
    values, counts = np.unique(image, return_counts=True)
    numbers, wrong = {}, []
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        number = keys.get(value)
        if number is None:
            wrong.append(f"#{value:06x}" if labels.ndim == 3 else str(value))
        elif number != coding.decoded_ignore:
            numbers[number] = numbers.get(number, 0) + count
    return numbers, ", ".join(wrong[:8]) + (", …" if wrong[8:] else "")
