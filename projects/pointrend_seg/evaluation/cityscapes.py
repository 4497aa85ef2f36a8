"""The evaluator of Cityscapes instances: Detectron2's, with its files and errors in order."""

import contextlib
import importlib
import os

from detectron2 import evaluation as detectron2_evaluation

from ..data.cityscapes import check_cityscapes_evaluation, ensure_cityscapes_importable
from ..errors import InputError

_SCRIPTS = "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling"


class CityscapesInstanceEvaluator(detectron2_evaluation.CityscapesInstanceEvaluator):
    """AP and AP50 by the Cityscapes scripts, which leave nothing in the current directory.

    Detectron2's evaluator of the same name, with two differences: ``matches.json`` goes where the
    predictions are, into a temporary folder; and classes that are none of Cityscapes', a model
    without masks and missing images are told apart.
    """

    def __init__(self, dataset_name: str):
        """
        Args:
            dataset_name: with ``thing_classes`` and ``gt_dir`` in its metadata.

        Raises:
            InputError: the Cityscapes scripts are not installed or do not fit NumPy, or a class
                of the data set is none that they score.
        """
        ensure_cityscapes_importable()
        check_cityscapes_evaluation()
        super().__init__(dataset_name)
        labels = importlib.import_module("cityscapesscripts.helpers.labels").labels
        known = [label.name for label in labels if label.hasInstances and not label.ignoreInEval]
        unknown = [name for name in self._metadata.thing_classes if name not in known]
        if unknown:
            raise InputError(
                f"Class '{unknown[0]}' of data set '{dataset_name}' is none that Cityscapes' "
                f"instance evaluation knows: {', '.join(known)}. Set evaluator_type to 'coco' "
                "for other classes."
            )
        self._dataset_name = dataset_name

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Args:
            inputs: records with ``file_name`` as in the data set.
            outputs: dicts with ``instances``: ``scores``, ``pred_classes`` and ``pred_masks``,
                N x H x W bool.

        Raises:
            InputError: no masks, or a class that the data set has not.
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
        """``{"segm": {"AP": ..., "AP50": ...}}`` in percent; None on other ranks than the first.

        Raises:
            InputError: images of the data set were not evaluated.
        """
        try:
            with _files_in(self._temp_dir):
                return super().evaluate()
        except SystemExit as error:  # the scripts' way to fail, after printing why
            raise InputError(
                f"The Cityscapes scripts gave up on data set '{self._dataset_name}' (what they "
                "printed is above). Every image under its gt_dir "
                f"({self._metadata.gt_dir}) must be evaluated."
            ) from error


@contextlib.contextmanager
def _files_in(folder: str):
    """The scripts write ``matches.json``, by that name alone, to the current directory."""
    scripts = importlib.import_module(_SCRIPTS)
    write = scripts.writeDict2JSON
    scripts.writeDict2JSON = lambda content, name: write(content, os.path.join(folder, name))
    try:
        yield
    finally:
        scripts.writeDict2JSON = write
