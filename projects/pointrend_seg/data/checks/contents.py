"""Read a sample of the images and labels of a data set before training or evaluation.

What `tools/check_data.py` calls an error is refused here by the same rules, in sets of up to
`MOST_IMAGES` images completely. In larger sets, training and evaluation find the rest when they
read it.
"""

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...errors import InputError
from ..custom.registration import custom_dataset
from ..dataset_files import MOST_SIZES, some
from ..images.reader import ImageReader
from ..problems import ERROR, KINDS, WARNING
from ..survey.datasets import survey_datasets

logger = logging.getLogger(__name__)

MOST_IMAGES = 200
_LARGEST_JSON = 200_000_000  # bytes
_OF_MASKS = {"no-mask", "bad-mask"}
_OF_POINTS = {"no-points", "bad-points", "one-label"}
# Warnings that the checks of all annotations or of class names give, or that need all images.
_SAID_BEFORE = {
    *("unknown-image", "repaired-value", "area", "short-polygon", "no-polygon", "crowds"),
    *("no-masks", "empty-box", "outside-image", "image-without-labels", "same-name"),
}
_OF_ALL_IMAGES = {"class-never-occurs", "no-objects"}


def check_contents(
    name: str,
    *,
    reader: ImageReader,
    semantic: bool = False,
    panoptic: bool = False,
    is_train: bool,
    masks: bool = True,
    points: bool = False,
) -> None:
    """Read a sample of the images and labels of a data set; log a line about warnings.

    Left out are Cityscapes, annotation files of more than 200 MB, which take long to load, and data
    sets whose dicts come from code, without a file or folders in their metadata.

    Args:
        name: of a registered data set whose files exist.
        reader: reads images as training does.
        semantic: whether the labels of pixels are meant.
        panoptic: whether the segments of panoptic PNGs are meant.
        is_train: whether it is trained on.
        masks: whether objects need masks, or points instead.
        points: whether they need labelled points instead of masks.

    Raises:
        InputError: the first error, and how many images are like it.
    """
    metadata = MetadataCatalog.get(name)
    file = metadata.get("panoptic_json" if panoptic else "json_file")
    if not (custom_dataset(name) or file or metadata.get("sem_seg_root")):
        return
    is_large = file and os.path.isfile(file) and os.path.getsize(file) > _LARGEST_JSON
    if is_large or str(metadata.get("evaluator_type")).startswith("cityscapes"):
        return
    trained_on = [name] if is_train else []
    survey = survey_datasets(
        [name],
        trained_on=trained_on,
        needs={name: "points"} if points else None,
        semantic=semantic,
        panoptic=panoptic,
        most=MOST_IMAGES,
        reader=reader,
    )
    unused = (set() if masks and not points else _OF_MASKS) | (set() if points else _OF_POINTS)
    for kind, found in survey.with_severity(ERROR).items():
        if kind in unused:
            continue
        count = f" ({found.count} are like it.)" if found.count > 1 else ""
        raise InputError(
            f"The data set {name} has an error: {found.examples[0].rstrip('.')}. {KINDS[kind].fix}"
            f"{count} tools/check_data.py lists all problems."
        )
    left_out = _SAID_BEFORE | (_OF_ALL_IMAGES if survey.images[name] > MOST_IMAGES else set())
    counts = {kind: each.count for kind, each in survey.with_severity(WARNING).items()}
    shown = [f"{kind} ({count})" for kind, count in counts.items() if kind not in left_out]
    if shown:
        logger.warning(f"{name}: tools/check_data.py warns of {', '.join(shown)}.")


def warn_of_shared_images(name: str, trained_on: Iterable[str]) -> None:
    """Warn if images of one of the user's own data sets are also in a training set.

    Files are compared by their path, in sets of up to `MOST_SIZES` images also by their bytes.
    Training sets that cannot be loaded, such as those of a saved config on another machine, are
    left out.
    """
    if custom_dataset(name) is None:
        return
    paths = _images(name)
    for other in trained_on:
        if custom_dataset(other) is None:
            continue
        try:
            other_paths = _images(other)
        except InputError:
            continue
        shared = _shared(paths, other_paths)
        if shared:
            logger.warning(
                f"{len(shared)} of {len(paths)} images of {name} are also in {other} "
                f"({some(shared)}): scores on training images are too optimistic."
            )


def _images(name: str) -> list[str]:
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of images without labels: it was said
    try:
        return [record["file_name"] for record in DatasetCatalog.get(name)]
    finally:
        logging.disable(disabled)


def _shared(paths: Sequence[str], other_paths: Sequence[str]) -> list[str]:
    """Return the paths of the first list that are in the second, or equal a file of it."""
    known = {os.path.realpath(path) for path in other_paths}
    shared = [path for path in paths if os.path.realpath(path) in known]
    if shared or max(len(paths), len(other_paths)) > MOST_SIZES:
        return shared
    by_size = defaultdict(list)
    for path in filter(os.path.isfile, other_paths):
        by_size[os.path.getsize(path)].append(path)
    for path in filter(os.path.isfile, paths):
        candidates = by_size.get(os.path.getsize(path), ())
        if candidates and _digest(path) in map(_digest, candidates):
            shared.append(path)
    return shared


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read(), digest_size=16).digest()
