"""A survey of several sets: what is in each, and what they have in common."""

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from detectron2.data import MetadataCatalog
from tqdm import tqdm

from ...errors import InputError
from ..classes import IGNORED
from ..custom.label_coding import LabelCoding
from ..custom.registration import custom_dataset
from ..dataset_files import check_registered, load_dicts
from .findings import Survey
from .images import Seen
from .objects import ImageOfObjects, check_entries, look_at_objects
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
    for kind, where in seen.faults:
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
    """What is to be looked at, by which function, and the names of the classes."""
    check_registered(name, "DatasetCatalog.register(name, function)")
    dataset, metadata = custom_dataset(name), MetadataCatalog.get(name)
    if dataset is not None and dataset.is_semantic:
        coding = metadata.label_coding
        jobs = pair_folders(dataset.images, dataset.annotations, coding)
        return jobs, look_at_labels, list(metadata.stuff_classes)
    if metadata.get("json_file") and metadata.get("evaluator_type") == "coco" and not semantic:
        return _open_json(metadata.json_file, metadata.image_root, survey)
    return _open_dicts(name, metadata, semantic)


def _open_json(file: str, folder: str, survey: Survey) -> tuple[list, Callable, list[str]]:
    try:
        with open(file) as opened:
            content = json.load(opened)
        if not isinstance(content, dict):
            raise ValueError(f"it is a {type(content).__name__}, not a dict")
    except (OSError, ValueError) as error:
        survey.add("unreadable-annotations", f"{file}: {error}")
        return [], look_at_objects, []
    images, annotations, names = check_entries(content, survey.add)
    numbers = {category: number for number, category in enumerate(names)}
    has_masks = any("segmentation" in each for group in annotations.values() for each in group)
    jobs = []
    for image_id, image in images.items():
        size = image.get("height"), image.get("width")
        found = [
            each | {"category": numbers.get(each.get("category_id"))}
            for each in annotations.get(image_id, ())
        ]
        path = os.path.join(
            folder, str(image.get("file_name", f"(image {image_id} has no file_name)"))
        )
        jobs.append(ImageOfObjects(path, size if all(size) else None, found, has_masks))
    return jobs, look_at_objects, list(names.values())


def _open_dicts(name: str, metadata, semantic: bool | None) -> tuple[list, Callable, list[str]]:
    records = load_dicts(name)
    has_objects = any("annotations" in record for record in records)
    has_labels = any("sem_seg_file_name" in record for record in records)
    if has_objects and semantic is not True:
        return _objects_of(records), look_at_objects, list(metadata.get("thing_classes") or ())
    if not has_labels:
        raise InputError(
            f"The data set {name} has neither 'annotations' nor 'sem_seg_file_name' in its dicts: "
            "there are no labels to look at."
        )
    classes = list(metadata.get("stuff_classes") or ())
    ignore = metadata.get("ignore_label", IGNORED)
    plain = LabelCoding(tuple(range(len(classes))), None, ignore, None, ignore)
    jobs = [
        LabelledImage(
            record["file_name"], record.get("sem_seg_file_name"), record.get("label_coding", plain)
        )
        for record in records
    ]
    return jobs, look_at_labels, classes


def _objects_of(records) -> list[ImageOfObjects]:
    jobs = []
    for record in records:
        size = record.get("height"), record.get("width")
        found = [each | {"category": each.get("category_id")} for each in record["annotations"]]
        masks = any("segmentation" in each for each in found)
        jobs.append(ImageOfObjects(record["file_name"], size if all(size) else None, found, masks))
    return jobs
