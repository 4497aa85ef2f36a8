"""Evaluate instance segmentation with LVIS annotations ("LVIS", CVPR 2019)."""

import itertools
import logging
from typing import Any

from .average_precision import Curves
from .coco import CocoInstanceEvaluator

logger = logging.getLogger(__name__)

FREQUENCIES = {"APr": "r", "APc": "c", "APf": "f"}  # rare, common, frequent


class LvisInstanceEvaluator(CocoInstanceEvaluator):
    """Box, mask and Boundary AP with the LVIS rules, as in Detectron2's ``LVISEvaluator``.

    The package ``lvis`` is not needed; it calls ``numpy.float``, which NumPy 1.24 removed. The
    images' ``neg_category_ids`` and ``not_exhaustive_category_ids`` and the categories'
    ``frequency`` are read from the annotations.

    To score a model of COCO's 80 classes with the better masks of LVIS (AP* in the PointRend
    paper), evaluate on ``lvis_v0.5_val_cocofied``.
    """

    _results_file = "lvis_instances_results.json"
    usual_limit = 300
    _federated = True

    def __init__(
        self,
        dataset_name: str,
        *args: Any,
        max_dets_per_image: int | None = None,
        **options: Any,
    ):
        """
        Args:
            max_dets_per_image: the limit on detections of all categories together; None for the
                300 of LVIS.
            dataset_name, args, options: passed on to `CocoInstanceEvaluator`.
        """
        limit = max_dets_per_image or self.usual_limit
        super().__init__(dataset_name, *args, max_dets_per_image=limit, **options)
        self._groups = self._frequency_groups()

    def _contiguous_ids(self) -> dict[int, int]:
        known = self._metadata.get("thing_dataset_id_to_contiguous_id")
        return known or {category: category - 1 for category in self._coco_api.getCatIds()}

    def _limited(self, detections: list[dict]) -> list[dict]:
        detections = sorted(detections, key=lambda d: (d["image_id"], -d["score"]))
        images = itertools.groupby(detections, key=lambda d: d["image_id"])
        limit = self._max_dets_per_image[-1]
        return [d for _, in_image in images for d in itertools.islice(in_image, limit)]

    def _metrics(self, curves: Curves) -> dict[str, float]:
        groups = {name: curves.average_precision(group) for name, group in self._groups.items()}
        return {**curves.metrics(), **groups}

    def _frequency_groups(self) -> dict[str, list[int]]:
        """Return the indices, in the order of category ids, that APr, APc and APf average over."""
        categories = sorted(self._coco_api.dataset["categories"], key=lambda c: c["id"])
        frequencies = [category.get("frequency") for category in categories]
        if None in frequencies:
            logger.warning(
                "APr, APc and APf cannot be computed and are NaN: category '%s' in %s has no "
                "'frequency'.",
                categories[frequencies.index(None)]["name"],
                self._truth_file,
            )
            frequencies = []
        return {
            name: [k for k, frequency in enumerate(frequencies) if frequency == letter]
            for name, letter in FREQUENCIES.items()
        }

    def _per_class(self, curves: Curves, names: list[str]) -> dict[str, float]:
        return {}  # omitted, as in Detectron2: there are more than a thousand
