"""Evaluate instance segmentation with the Cityscapes scripts."""

import contextlib
import importlib
import os
from collections.abc import Iterator
from typing import Any

from detectron2 import evaluation as detectron2_evaluation

from ..data.cityscapes import check_cityscapes_evaluation, ensure_cityscapes_importable
from ..errors import InputError

_SCRIPTS = "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling"


class CityscapesInstanceEvaluator(detectron2_evaluation.CityscapesInstanceEvaluator):
    """Detectron2's evaluator of AP and AP50 with the Cityscapes scripts, with better errors.

    Classes that Cityscapes does not have, models without masks and missing images each have their
    own message. ``matches.json`` is written to the temporary folder of the predictions instead of
    the current directory.
    """

    def __init__(self, dataset_name: str):
        """
        Args:
            dataset_name: a registered data set; its metadata has ``thing_classes``, ``gt_dir``.

        Raises:
            InputError: the Cityscapes scripts are not installed or do not work with this NumPy,
                or they do not score one of the data set's classes.
        """
        ensure_cityscapes_importable()
        check_cityscapes_evaluation()
        super().__init__(dataset_name)
        labels = importlib.import_module("cityscapesscripts.helpers.labels").labels
        known = [label.name for label in labels if label.hasInstances and not label.ignoreInEval]
        unknown = [name for name in self._metadata.thing_classes if name not in known]
        if unknown:
            raise InputError(
                f"Cityscapes' instance evaluation does not know class '{unknown[0]}' of data set "
                f"'{dataset_name}'. It knows {', '.join(known)}. Set evaluator_type to 'coco' "
                "for other classes."
            )
        self._dataset_name = dataset_name

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Add predictions.

        Args:
            inputs: records with ``file_name`` as in the data set.
            outputs: dicts with ``instances``: ``scores``, ``pred_classes`` and ``pred_masks``,
                N x H x W bool.

        Raises:
            InputError: the model predicts no masks, or a class that is not in the data set.
        """
        count = len(self._metadata.thing_classes)
        for output in outputs:
            instances = output.get("instances")
            if instances is None or not len(instances):
                continue
            if not instances.has("pred_masks"):
                raise InputError(
                    "Cityscapes scores instances by their masks, and the model predicts none: set "
                    "MODEL.MASK_ON to True."
                )
            highest = int(instances.pred_classes.max())
            if highest >= count:
                raise InputError(
                    f"The model predicts class {highest}, but data set '{self._dataset_name}' has "
                    f"{count} classes (0 to {count - 1}): set MODEL.ROI_HEADS.NUM_CLASSES to "
                    f"{count}."
                )
        super().process(inputs, outputs)

    def evaluate(self) -> dict | None:
        """Return ``{"segm": {"AP": ..., "AP50": ...}}`` in percent, None except on rank 0.

        Raises:
            InputError: images of the data set were not evaluated.
        """
        try:
            with _files_in(self._temp_dir):
                return super().evaluate()
        except SystemExit as error:  # the scripts exit after printing the reason
            raise InputError(
                f"The Cityscapes scripts failed on data set '{self._dataset_name}' (they printed "
                "the reason above). Evaluate every image under its gt_dir "
                f"({self._metadata.gt_dir})."
            ) from error


@contextlib.contextmanager
def _files_in(folder: str) -> Iterator[None]:
    """Make the scripts write ``matches.json`` to a folder instead of the current directory."""
    scripts: Any = importlib.import_module(_SCRIPTS)
    write = scripts.writeDict2JSON
    scripts.writeDict2JSON = lambda content, name: write(content, os.path.join(folder, name))
    try:
        yield
    finally:
        scripts.writeDict2JSON = write
