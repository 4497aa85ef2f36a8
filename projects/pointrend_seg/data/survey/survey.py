"""A survey of several sets: what is in each, and what they have in common."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from detectron2.data import MetadataCatalog
from tqdm import tqdm

from ...errors import InputError
from ..annotations import annotation_id, checked_annotations, stated_size
from ..classes import IGNORED
from ..coco_json import JSON_TYPES, CocoJson, read_coco_json
from ..custom.label_coding import LabelCoding
from ..custom.registration import custom_dataset
from ..dataset_files import check_registered, load_dicts
from .findings import Survey
from .images import Seen
from .objects import ImageOfObjects, collect_objects, look_at_objects
from .pixels import LabelledImage, look_at_labels, pair_folders

_MOST_CHUNK = 16


def survey_datasets(
    names: Iterable[str],
    *,
    trained_on: Iterable[str] = (),
    semantic: bool | None = None,
    workers: int = 1,
    progress: bool = False,
) -> Survey:
    """Read registered data sets whole.

    Args:
        names: as in ``DATASETS``.
        trained_on: those among them that are trained on; classes that occur in others alone are
            an error.
        semantic: whether labels of pixels are meant where a data set has both; None: those that
            it has, of objects first.
        workers: processes; the result does not depend on it.
        progress: show a progress bar.

    Raises:
        InputError: a data set is not registered, or has neither kind of labels.
    """
    survey, digests = Survey(), {}
    for name in dict.fromkeys(names):
        jobs, look, class_names = _open(name, semantic, survey)
        counts = {number: [0, 0] for number in range(len(class_names))}
        for seen, path in _look(jobs, look, workers, progress):
            _merge(seen, path, name, survey, digests, counts)
        survey.images[name] = len(jobs)
        survey.classes[name] = {
            each: tuple(counts[number]) for number, each in enumerate(class_names)
        }
        if not jobs:
            survey.add("no-images", name)
    _compare_classes(survey, set(trained_on))
    return survey


def _look(jobs: list, look: Callable, workers: int, progress: bool) -> Iterable[tuple[Seen, str]]:
    paths = (getattr(job, "image", None) or getattr(job, "path", "") for job in jobs)
    bar = partial(tqdm, total=len(jobs), unit="image", disable=not progress)
    if workers <= 1 or len(jobs) < 2:
        yield from zip(bar(map(look, jobs)), paths, strict=True)
        return
    with ProcessPoolExecutor(workers) as pool:
        chunk = max(1, min(_MOST_CHUNK, len(jobs) // (4 * workers)))
        found = pool.map(look, jobs, chunksize=chunk)
        yield from zip(bar(found), paths, strict=True)


def _merge(seen: Seen, path: str, name: str, survey: Survey, digests: dict, counts: dict) -> None:
    for kind, where in seen.problems:
        survey.add(kind, where)
    for number, count in seen.counts.items():
        if number in counts:
            counts[number][0] += 1
            counts[number][1] += count
    if seen.digest is None:
        return
    before = digests.setdefault(seen.digest, (name, path))
    if before[1] != path:
        kind = "same-image" if before[0] == name else "image-in-two-sets"
        survey.add(kind, f"{path} ({name}) and {before[1]} ({before[0]})")


def _compare_classes(survey: Survey, trained_on: set[str]) -> None:
    occurring = {
        name: {each for each, (_, count) in classes.items() if count}
        for name, classes in survey.classes.items()
    }
    trained = set().union(*(occurring[name] for name in occurring if name in trained_on))
    first = next(iter(survey.classes), None)
    for name, classes in survey.classes.items():
        if trained_on and classes and list(classes) != list(survey.classes[first]):
            survey.add("other-classes", f"{name} and {first}")
        for each in classes:
            if each not in occurring[name]:
                survey.add("class-never-occurs", f"{each} in {name}")
            elif trained_on and name not in trained_on and each not in trained:
                survey.add("class-not-in-training", f"{each}, which is in {name}")


def _open(name: str, semantic: bool | None, survey: Survey) -> tuple[list, Callable, list[str]]:
    """Return the images to look at, the function that does it, and the names of the classes."""
    check_registered(name, "DatasetCatalog.register(name, function)")
    dataset, metadata = custom_dataset(name), MetadataCatalog.get(name)
    if dataset is not None and dataset.is_semantic:
        pair = _without_files(metadata, metadata.label_coding)
        jobs = pair_folders(dataset.images, dataset.annotations, pair)
        return jobs, look_at_labels, _pixel_classes(metadata)
    if metadata.get("json_file") and metadata.get("evaluator_type") in JSON_TYPES and not semantic:
        lvis = metadata.evaluator_type == "lvis"
        try:
            content = read_coco_json(name, os.fspath(metadata.json_file), lvis=lvis)
        except InputError as error:
            survey.add("unreadable-annotations", str(error))
            return [], look_at_objects, []
        numbers = content.class_numbers(metadata)
        if numbers is not None or dataset is not None:
            return _open_json(content, metadata, numbers, survey)
    return _open_dicts(name, metadata, semantic)


def _open_json(
    content: CocoJson, metadata: Any, numbers: dict[Any, int] | None, survey: Survey
) -> tuple[list, Callable, list[str]]:
    for problem in content.problems:
        survey.add(problem.kind, f"{content.file}: {problem.found}")
    names = list(map(str, metadata.thing_classes if content.lvis else content.categories.values()))
    for name, count in Counter(names).items():
        if count > 1:
            survey.add("same-name", name)
    if numbers is None:  # registered with other classes than the file has
        numbers = {category: number for number, category in enumerate(content.categories)}
    masks = any("segmentation" in each for each in content.annotations or ())
    by_image = defaultdict(list)
    for checked in content.checked_annotations(numbers, masks=masks, is_train=False):
        image_id = checked.annotation.get("image_id")
        if image_id in content.images:
            by_image[image_id].append(checked)
            continue
        where = (
            f"annotation {annotation_id(checked.annotation, checked.number)} of image {image_id}"
        )
        for problem in checked.problems:
            survey.add(problem.kind, where)
    root = os.fspath(metadata.image_root)
    jobs = [
        collect_objects(
            content.image_path(image, root),
            stated_size(image),
            by_image[image_id],
            numbers,
            masks,
        )
        for image_id, image in content.images.items()
        if content.has_path(image)
    ]
    return jobs, look_at_objects, names


def _open_dicts(
    name: str, metadata: Any, semantic: bool | None
) -> tuple[list, Callable, list[str]]:
    records = load_dicts(name)
    has_objects = any("annotations" in record for record in records)
    has_labels = any("sem_seg_file_name" in record for record in records)
    if has_objects and semantic is not True:
        classes = list(metadata.get("thing_classes") or ())
        return _objects_of_records(records, classes), look_at_objects, classes
    if not has_labels:
        raise InputError(
            f"The data set {name} has neither 'annotations' nor 'sem_seg_file_name' in its dicts: "
            "there are no labels to check."
        )
    jobs = [
        replace(
            _without_files(metadata, record.get("label_coding")),
            image=record["file_name"],
            labels=record.get("sem_seg_file_name"),
        )
        for record in records
    ]
    return jobs, look_at_labels, _pixel_classes(metadata)


def _objects_of_records(records: Iterable[dict], classes: list[str]) -> list[ImageOfObjects]:
    numbers = {number: number for number in range(len(classes))}
    masks = any("segmentation" in each for r in records for each in r.get("annotations", ()))
    return [
        collect_objects(
            record["file_name"],
            stated_size(record),
            checked_annotations(record, len(classes) or None, masks=masks, is_train=False),
            numbers,
            masks,
        )
        for record in records
    ]


def _pixel_classes(metadata: Any) -> list[str]:
    """Return the names of the classes of pixels; a single one is that of the foreground."""
    names = list(metadata.get("stuff_classes") or ())
    return ["background", *names] if len(names) == 1 else names


def _without_files(metadata: Any, coding: LabelCoding | None) -> LabelledImage:
    ignore_value = metadata.get("ignore_label", IGNORED)
    return LabelledImage(None, None, coding, len(_pixel_classes(metadata)) or None, ignore_value)
