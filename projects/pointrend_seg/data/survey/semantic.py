"""Survey images with label images: decode both and compare them."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from ..custom.datasets import CustomDataset, pair_files
from ..custom.label_coding import LabelCoding
from ..images.reader import ImageReader
from ..labels import read_label_image
from .images import ImageSurvey, survey_image


class SemanticImage(NamedTuple):
    """An image and its label image.

    Attributes:
        image, labels: paths; either may be missing (None).
        coding: how the label image gives the classes; None if its values are the class numbers.
    """

    image: str | None
    labels: str | None
    coding: LabelCoding | None


def semantic_images(dataset: CustomDataset, coding: LabelCoding) -> list[SemanticImage]:
    """Return all images and label images of a data set, also those without the other.

    Raises:
        InputError: as `pair_files`.
    """
    pairs = pair_files(dataset)
    return [
        *(SemanticImage(image, labels, coding) for image, labels in pairs.both.values()),
        *(SemanticImage(image, None, coding) for image in pairs.without_labels),
        *(SemanticImage(None, labels, coding) for labels in pairs.without_image),
    ]


def survey_semantic_image(
    job: SemanticImage, *, num_classes: int | None, ignore_value: int, reader: ImageReader
) -> ImageSurvey:
    """Decode an image and its labels and compare them.

    Args:
        num_classes: of the data set; None if it is not known, and any value is a class.
        ignore_value: of the labels when they are decoded.
        reader: reads images as training does.

    Returns:
        problems, and counts: the pixels of each class.
    """
    found = ImageSurvey()
    if job.image is None:
        found.problems.append(("labels-without-image", str(job.labels)))
        return found
    if job.labels is None:
        found.problems.append(("image-without-labels", job.image))
        survey_image(job.image, None, found, reader)
        return found
    labels, problems = read_label_image(
        {"sem_seg_file_name": job.labels, "label_coding": job.coding},
        num_classes=num_classes,
        ignore_value=ignore_value,
    )
    size = survey_image(job.image, None if labels is None else labels.shape[:2], found, reader)
    # what states the size of an image is its label image
    found.problems = [
        ("label-size", f"{job.labels}: {where}") if kind == "image-size" else (kind, where)
        for kind, where in found.problems
    ]
    found.problems += [(problem.kind, problem.found) for problem in problems]
    if labels is not None:
        if labels.dtype == np.uint8:  # as below, in a fraction of the time
            histogram = enumerate(Image.fromarray(labels).histogram())
            found.counts = {value: count for value, count in histogram if count}
        else:
            values, counts = np.unique(labels, return_counts=True)
            found.counts = dict(zip(values.tolist(), counts.tolist(), strict=True))
        found.counts.pop(ignore_value, None)
    if size is not None and not found.counts and not problems:
        found.problems.append(("nothing-labelled", job.labels))
    return found
