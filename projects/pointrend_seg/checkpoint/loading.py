"""Loading weights, with an answer when they cannot be reached or do not fit."""

import logging
import os

from detectron2.checkpoint import DetectionCheckpointer

from ..errors import InputError
from .names import upgrade_names

logger = logging.getLogger(__name__)


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, which remembers what did not fit and explains what it cannot read.

    Attributes:
        incompatible: of the last `load`, with ``missing_keys``, ``unexpected_keys`` and
            ``incorrect_shapes``; None before.
    """

    incompatible = None

    def load(self, path: str, *args, **kwargs):
        """As `DetectionCheckpointer.load`.

        Raises:
            InputError: no such file, an address that cannot be reached, or a file that is no
                checkpoint.
        """
        if not path:
            return super().load(path, *args, **kwargs)
        try:
            local = self.path_manager.get_local_path(path.split("?")[0])
        except Exception as error:
            raise InputError(
                f"The weights {path} cannot be downloaded ({_reason(error)}). Fetch the file on a "
                "machine that can reach it and set MODEL.WEIGHTS to the local copy, or set "
                "MODEL.WEIGHTS to '' to start from random weights."
            ) from error
        if not os.path.isfile(local):
            raise InputError(
                f"There are no weights at {path}. Set MODEL.WEIGHTS to a checkpoint that exists, "
                "or to '' to start from random weights."
            )
        try:
            return super().load(path, *args, **kwargs)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{path} cannot be read as a checkpoint ({_reason(error)}). It may be cut off or "
                "of another kind: fetch it again, or set MODEL.WEIGHTS to a file that "
                "Detectron2 or this package has written."
            ) from error
        finally:
            self._parsed_url_during_load = None

    def _load_model(self, checkpoint):
        weights = upgrade_names(checkpoint["model"])
        if list(weights) != list(checkpoint["model"]):
            logger.info(
                "The checkpoint is of an older format: its weights get their present names."
            )
        checkpoint["model"] = weights
        self.incompatible = super()._load_model(checkpoint)
        return self.incompatible


def load_weights(checkpointer: Checkpointer, path: str, *, resume: bool, complete: bool) -> None:
    """Load a model's weights, or go on from the last checkpoint.

    Args:
        path: ``cfg.MODEL.WEIGHTS``.
        resume: go on from the last checkpoint in the output folder if there is one.
        complete: every parameter must come from the file, as evaluation needs it. Without it, at
            least one must: a backbone's weights are enough to train on.

    Raises:
        InputError: the weights cannot be read, or do not fit the model so.
    """
    resuming = resume and checkpointer.has_checkpoint()
    path = checkpointer.get_checkpoint_file() if resuming else path
    checkpointer.resume_or_load(path, resume=resume)
    if not path or checkpointer.incompatible is None:
        if complete:
            raise InputError(
                "There are no weights to evaluate. Set MODEL.WEIGHTS to a checkpoint of this "
                "model, e.g. MODEL.WEIGHTS output/model_final.pth."
            )
        return
    missing = set(checkpointer.incompatible.missing_keys)
    wrong = {key: shapes for key, *shapes in checkpointer.incompatible.incorrect_shapes}
    unfit = sorted(missing | set(wrong))
    wanted = [name for name, _ in checkpointer.model.named_parameters()]
    if unfit and (complete or resuming or len(unfit) >= len(wanted)):
        what = [f"{n} is {tuple(wrong[n][0])} there, {tuple(wrong[n][1])} here" for n in wrong]
        what += [f"{name} is not there" for name in sorted(missing)]
        raise InputError(
            f"{path} does not fit this model: {'; '.join(what[:3])}"
            f"{f'; and {len(what) - 3} more' if len(what) > 3 else ''}. Use the config it was "
            "trained with (NUM_CLASSES, IN_FEATURES, DEPTH), or other weights."
        )


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
