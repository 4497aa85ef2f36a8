"""The evaluator of instance segmentation in LVIS' format ("LVIS", CVPR 2019), also for AP*."""

import itertools
import logging

from .average_precision import Curves
from .coco import CocoInstanceEvaluator

logger = logging.getLogger(__name__)

FREQUENCIES = {"APr": "r", "APc": "c", "APf": "f"}  # rare, common, frequent


class LvisInstanceEvaluator(CocoInstanceEvaluator):
    """Box, mask and Boundary AP by LVIS' rules: what Detectron2's ``LVISEvaluator`` reports.

    It does not need the package ``lvis``, whose evaluation calls ``numpy.float``, which NumPy
    1.24 removed. The images' ``neg_category_ids`` and ``not_exhaustive_category_ids`` and the
    categories' ``frequency`` are read from the annotations.

    A model of COCO's 80 classes is scored by LVIS' better masks (AP* of the PointRend paper) on
    ``lvis_v0.5_val_cocofied``.
    """

    _results_file = "lvis_instances_results.json"
    _federated = True

    def __init__(self, dataset_name: str, *args, max_dets_per_image: int | None = None, **options):
        """
        Args:
            max_dets_per_image: the limit on detections of all categories together; None for
                LVIS' 300.
            others: as of `CocoInstanceEvaluator`; the results go to
                ``lvis_instances_results.json``.
        """
        limit = max_dets_per_image or 300
        super().__init__(dataset_name, *args, max_dets_per_image=limit, **options)
        self._groups = self._frequency_groups()

    def _contiguous_ids(self) -> dict[int, int]:
        known = self._metadata.get("thing_dataset_id_to_contiguous_id")
        return known or {category: category - 1 for category in self._coco_api.getCatIds()}

    def _limited(self, detections: list[dict]) -> list[dict]:
        detections = sorted(detections, key=lambda d: (d["image_id"], -d["score"]))
        by_image = itertools.groupby(detections, key=lambda d: d["image_id"])
        limit = self._max_dets_per_image[-1]
        return [d for _, of_image in by_image for d in itertools.islice(of_image, limit)]

    def _metrics(self, curves: Curves) -> dict[str, float]:
        groups = {name: curves.average_precision(group) for name, group in self._groups.items()}
        return {**curves.metrics(), **groups}

    def _frequency_groups(self) -> dict[str, list[int]]:
        """The categories, in the order of their ids, of which APr, APc and APf are the AP."""
        categories = sorted(self._coco_api.dataset["categories"], key=lambda c: c["id"])
        frequencies = [category.get("frequency") for category in categories]
        if None in frequencies:
            logger.warning(
                "APr, APc and APf cannot be computed and are NaN: category '%s' in %s has no "
                "'frequency'.",
                categories[frequencies.index(None)]["name"],
                self._metadata.json_file,
            )
            frequencies = []
        return {
            name: [k for k, frequency in enumerate(frequencies) if frequency == letter]
            for name, letter in FREQUENCIES.items()
        }

    def _per_class(self, curves: Curves, names: list[str]) -> dict[str, float]:
        return {}  # more than a thousand, as Detectron2's leaves them out
