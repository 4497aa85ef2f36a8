"""Survey data sets: read every image and label, and compare the data sets with each other."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from detectron2.data import MetadataCatalog

from ...config.reading import is_remote
from ...errors import InputError
from ...files.progress import progress_bar
from ..annotations import (
    Annotation,
    CheckedAnnotation,
    Record,
    Size,
    all_points_problem,
    checked_annotations,
    has_points,
    stated_size,
)
from ..classes import IGNORED
from ..coco_json import JSON_TYPES, CocoJson, read_coco_json
from ..coco_records import use_own_reader
from ..coco_schema import is_id, unique_names
from ..custom.registration import check_same_classes, custom_dataset
from ..dataset_files import check_registered, evenly, load_dicts
from ..images.reader import ImageReader
from ..panoptic.classes import panoptic_classes
from ..panoptic.json_file import read_panoptic_json
from ..panoptic.records import EVALUATOR_TYPE, category_numbers, classes_of_file, is_separated
from ..point_sets import register_point_set
from ..problems import ERROR
from .findings import ObjectFigures, Survey
from .images import ImageSurvey
from .instance import InstanceImage, survey_instance_image
from .panoptic import PanopticImage, survey_panoptic_image
from .semantic import SemanticImage, semantic_images, survey_semantic_image

_MOST_CHUNK = 16


def survey_datasets(
    names: Iterable[str],
    *,
    trained_on: Iterable[str] = (),
    needs: Mapping[str, str] | None = None,
    semantic: bool | None = None,
    panoptic: bool | None = None,
    workers: int = 1,
    progress: bool = False,
    most: int | None = None,
    reader: ImageReader | None = None,
) -> Survey:
    """Read every image and label of registered data sets, and find their problems.

    Args:
        names: as in ``DATASETS``.
        trained_on: those among them that are trained on; classes that occur in others alone are
            an error.
        needs: "masks" or "points", what the objects of a data set need; None, and data sets that
            it lacks: masks where any object of the data set has one, else points likewise.
        semantic: whether the labels of pixels are meant, if a data set has labels of objects and of
            pixels; None: those that it has, of objects first.
        panoptic: whether the segments of panoptic PNGs are meant; None: where there are any, unless
            `semantic` says otherwise.
        workers: processes; the result does not depend on it.
        progress: show a progress bar.
        most: images of a data set that are read, evenly spread over it; None: all.
        reader: reads images as training does; None: as it does by default.

    Raises:
        InputError: a data set is not registered, or has neither kind of labels.
    """
    survey, names, trained_on = Survey(), list(dict.fromkeys(names)), set(trained_on)
    digests: dict[bytes, tuple[str, str]] = {}
    objects: dict[str, int] = {}  # by data set with objects
    annotated: set[str] = set()
    for name in names:
        strangers = _count(survey, "unknown-image")
        needed = (needs or {}).get(name, "")
        if _has_segments(name, panoptic, semantic):
            jobs, survey_image, class_names = _open_segments(name, survey)
        else:
            jobs, survey_image, class_names = _open(name, semantic, survey, needed)
        figures = ObjectFigures(_ids_by_number(survey_image))
        survey_image = partial(survey_image, reader=reader or ImageReader())
        counts = dict.fromkeys(range(len(class_names)), (0, 0))
        jobs = [job for job in jobs if not is_remote(job.image or "")]
        looked_at = jobs if most is None else evenly(jobs, most)
        for found, path in _survey_images(looked_at, survey_image, workers, progress):
            _merge(found, path, name, survey, digests, counts)
            if found.areas is not None:
                figures.add(found.areas, found.points)
        has_objects = bool(jobs) and isinstance(jobs[0], InstanceImage | PanopticImage)
        if has_objects and len(looked_at) == len(jobs):
            objects[name] = figures.total
            listed = any(isinstance(job, InstanceImage) and job.annotations for job in jobs)
            if listed or _count(survey, "unknown-image") > strangers:
                annotated.add(name)
        if name in trained_on and jobs and isinstance(jobs[0], SemanticImage):
            rest = [] if len(looked_at) == len(jobs) else jobs
            _check_several_classes(name, class_names, counts, map(survey_image, rest), survey)
        if has_objects and class_names:
            survey.objects[name] = figures
        survey.images[name] = len(jobs)
        survey.classes[name] = {each: counts[k] for k, each in enumerate(class_names)}
        if not jobs and "no-labels" not in survey.found:
            survey.add("no-images", name)
    _compare_classes(survey, trained_on)
    try:
        check_same_classes(names)
    except InputError as error:
        if trained_on and "other-classes" not in survey.found:
            survey.add("other-classes", str(error))
    for name in names:
        if name in annotated | trained_on and name in objects and not objects[name]:
            survey.add("no-usable-object", name)
    return survey


def _count(survey: Survey, kind: str) -> int:
    return survey.found[kind].count if kind in survey.found else 0


def _check_several_classes(
    name: str,
    class_names: Sequence[str],
    counts: dict[int, tuple[int, int]],
    more: Iterable[ImageSurvey],
    survey: Survey,
) -> None:
    """Check that the pixels of a training set are not all of one class.

    Args:
        name: of the data set.
        class_names: of the data set; without any, nothing is checked.
        counts: of the images that were read, as in `_merge`.
        more: other images, which are read until there is a second class.
        survey: to which the problem is added. Problems of the labels come first.
    """
    occurring = {number for number, (_, pixels) in counts.items() if pixels}
    for found in more:
        if len(occurring) > 1:
            break
        occurring |= found.counts.keys() & counts.keys()
    if class_names and len(occurring) < 2 and not survey.with_severity(ERROR):
        only = ", ".join(class_names[number] for number in occurring) or "every pixel is ignored"
        survey.add("one-class", f"{name}: {only}")


def _survey_images(
    jobs: list, survey_image: Callable, workers: int, progress: bool
) -> Iterable[tuple[ImageSurvey, str]]:
    """Yield what is found in each image, and its path."""
    paths = (job.image or "" for job in jobs)
    bar = partial(progress_bar, total=len(jobs), unit="image", shown=progress)
    if workers <= 1 or len(jobs) < 2:
        yield from zip(bar(map(survey_image, jobs)), paths, strict=True)
        return
    with ProcessPoolExecutor(workers) as pool:
        chunk = max(1, min(_MOST_CHUNK, len(jobs) // (4 * workers)))
        found = pool.map(survey_image, jobs, chunksize=chunk)
        yield from zip(bar(found), paths, strict=True)


def _merge(
    found: ImageSurvey,
    path: str,
    name: str,
    survey: Survey,
    digests: dict[bytes, tuple[str, str]],
    counts: dict[int, tuple[int, int]],
) -> None:
    """Add what was found in an image.

    Args:
        path: of the image.
        name: of the data set.
        survey, digests, counts: what was found before, which is updated. Digests have the data set
            and the path of the image; counts have, for each class, the images and the objects or
            pixels.
    """
    for kind, where in found.problems:
        survey.add(kind, where)
    for number, count in found.counts.items():
        if number in counts:
            images, total = counts[number]
            counts[number] = images + 1, total + count
    if found.digest is None:
        return
    before = digests.setdefault(found.digest, (name, path))
    if before != (name, path):
        kind = "same-image" if before[0] == name else "image-in-two-sets"
        survey.add(kind, f"{path} ({name}) and {before[1]} ({before[0]})")


def _compare_classes(survey: Survey, trained_on: set[str]) -> None:
    occurring = {
        name: {each for each, (_, count) in classes.items() if count}
        for name, classes in survey.classes.items()
    }
    trained = set().union(*(occurring[name] for name in occurring if name in trained_on))
    first = next(iter(survey.classes), "")
    for name, classes in survey.classes.items():
        if trained_on and classes and list(classes) != list(survey.classes[first]):
            survey.add("other-classes", f"{name} and {first}")
        for each in classes:
            if each not in occurring[name]:
                survey.add("class-never-occurs", f"{each} in {name}")
            elif trained_on and name not in trained_on and each not in trained:
                survey.add("class-not-in-training", f"{each}, which is in {name}")


def _ids_by_number(survey_image: Callable) -> dict[int, Any]:
    """Return the data set's own numbers of the classes of objects, by the number of the class."""
    options = getattr(survey_image, "keywords", {})
    if "classes" in options:
        return dict(enumerate(options["classes"].thing_ids))
    return {number: category for category, number in options.get("class_numbers", {}).items()}


def _has_segments(name: str, panoptic: bool | None, semantic: bool | None) -> bool:
    """Return whether the panoptic PNGs of a data set are to be read."""
    register_point_set(name)
    check_registered(name, "DatasetCatalog.register(name, function)")
    wanted = semantic is None if panoptic is None else panoptic
    metadata = MetadataCatalog.get(name)
    if not wanted or is_separated(metadata):
        return False
    if metadata.get("panoptic_json"):
        return True
    dataset = custom_dataset(name)
    is_other = dataset is not None or metadata.get("evaluator_type") != EVALUATOR_TYPE
    return not is_other and any("pan_seg_file_name" in record for record in load_dicts(name))


def _open_segments(name: str, survey: Survey) -> tuple[list, Callable, list[str]]:
    """Return the same as `_open` for a data set with panoptic PNGs."""
    metadata = MetadataCatalog.get(name)
    if not metadata.get("panoptic_json"):
        classes = panoptic_classes(name)
        jobs = [PanopticImage(record) for record in load_dicts(name)]
    else:
        try:
            content = read_panoptic_json(name, metadata)
        except InputError as error:
            survey.add("unreadable-annotations", str(error))
            return [], survey_semantic_image, []
        for problem in content.problems:
            survey.add(problem.kind, f"{content.file}: {problem.found}")
        for category, count in Counter(content.categories.values()).items():
            if count > 1:
                survey.add("same-name", category)
        try:
            category_numbers(name, metadata, content)
        except InputError as error:
            survey.add("other-classes", str(error))
        classes = classes_of_file(content)
        jobs = [PanopticImage(record, is_checked=True) for record in content.records.values()]
    names = unique_names(dict(zip(classes.ids, classes.names, strict=True)))
    return jobs, partial(survey_panoptic_image, classes=classes), names


def _open(
    name: str, semantic: bool | None, survey: Survey, needs: str
) -> tuple[list, Callable, list[str]]:
    """Return the images, the function that surveys one of them, and the names of the classes."""
    dataset, metadata = custom_dataset(name), MetadataCatalog.get(name)
    if dataset is not None and dataset.is_semantic:
        try:
            jobs = semantic_images(dataset, metadata.label_coding)
        except InputError as error:
            survey.add("no-labels", str(error))
            jobs = []
        return _open_semantic(jobs, metadata)
    if metadata.get("json_file") and metadata.get("evaluator_type") in JSON_TYPES and not semantic:
        try:
            content = read_coco_json(name, metadata)
        except InputError as error:
            survey.add("unreadable-annotations", str(error))
            return [], survey_semantic_image, []
        numbers = content.class_numbers(metadata)
        if numbers is None and dataset is not None:  # with other classes than the file has
            numbers = {category: number for number, category in enumerate(content.categories)}
        if numbers is not None:
            classes = metadata.thing_classes if content.lvis else unique_names(content.categories)
            own = use_own_reader(name)
            return _open_json(
                content,
                numbers,
                list(map(str, classes)),
                survey,
                needs=needs,
                repaired=own,
            )
    records = load_dicts(name)
    if semantic is not True and any("annotations" in record for record in records):
        classes = list(metadata.get("thing_classes") or ())
        return _open_records(name, records, classes, survey, needs)
    if any("sem_seg_file_name" in record for record in records):
        files = ("file_name", "sem_seg_file_name", "label_coding")
        return _open_semantic(
            [SemanticImage(*map(record.get, files)) for record in records], metadata
        )
    raise InputError(
        f"The data set {name} has neither 'annotations' nor 'sem_seg_file_name' in its dicts: "
        "there are no labels to check."
    )


def _open_semantic(jobs: list[SemanticImage], metadata: Any) -> tuple[list, Callable, list[str]]:
    classes = list(metadata.get("stuff_classes") or ())
    if len(classes) == 1:  # the name of the foreground
        classes = ["background", *classes]
    ignore_value = metadata.get("ignore_label", IGNORED)
    options = {"num_classes": len(classes) or None, "ignore_value": ignore_value}
    return jobs, partial(survey_semantic_image, **options), classes


def _open_json(
    content: CocoJson,
    numbers: dict[Any, int],
    classes: list[str],
    survey: Survey,
    *,
    needs: str,
    repaired: bool,
) -> tuple[list, Callable, list[str]]:
    for problem in [*content.problems, *content.warnings()]:
        survey.add(problem.kind, f"{content.file}: {problem.found}")
    for name, count in Counter(content.categories.values()).items():
        if count > 1:
            survey.add("same-name", name)
    masks, points = _labels(content.file, content.with_sizes(), survey, needs)
    by_image = defaultdict(list)
    for each in _without_optional(
        content.checked_annotations(numbers, masks=masks, points=points, repaired=repaired), masks
    ):
        image_id = each.annotation.get("image_id")
        by_image[image_id if is_id(image_id) else None].append(each)
    jobs = [
        InstanceImage(record, by_image.pop(image_id, []))
        for image_id, record in content.records.items()
    ]
    for each in itertools.chain.from_iterable(by_image.values()):  # of images that are not there
        for problem in each.problems:
            survey.add(problem.kind, f"{each.name}: {problem.found}")
    return jobs, partial(survey_instance_image, class_numbers=numbers, masks=masks), classes


def _open_records(
    name: str, records: Sequence[Record], classes: list[str], survey: Survey, needs: str
) -> tuple[list, Callable, list[str]]:
    count = len(classes) or None
    sized = [(each, stated_size(r)) for r in records for each in r.get("annotations", ())]
    masks, points = _labels(name, sized, survey, needs)
    options = {"masks": masks, "points": points, "is_train": False}
    jobs = [
        InstanceImage(
            each, list(_without_optional(checked_annotations(each, count, **options), masks))
        )
        for each in records
    ]
    numbers = {number: number for number in range(len(classes))}
    return jobs, partial(survey_instance_image, class_numbers=numbers, masks=masks), classes


def _labels(
    source: str,
    objects: Iterable[tuple[Annotation, Size | None]],
    survey: Survey,
    needs: str,
) -> tuple[bool, bool]:
    """Return whether objects are checked for masks and for points; add what is wrong with all."""
    objects = list(objects)
    points = needs == "points" or any(has_points(each) for each, _ in objects)
    masks = needs == "masks" or (
        needs != "points" and any("segmentation" in each for each, _ in objects)
    )
    wrong = all_points_problem(objects) if points else None
    if wrong:
        survey.add("unused-points" if masks else wrong.kind, f"{source}: {wrong.found}")
    return masks, points


def _without_optional(
    annotations: Iterable[CheckedAnnotation], masks: bool
) -> Iterator[CheckedAnnotation]:
    """Yield annotations; where objects have masks, they need no points, and no valid ones."""
    for each in annotations:
        if masks:
            problems = [
                problem._replace(kind="unused-points", stops=False)
                if problem.kind in ("no-points", "bad-points")
                else problem
                for problem in each.problems
                if problem.kind != "no-points" or has_points(each.annotation)
            ]
            each = each._replace(problems=problems)
        yield each
