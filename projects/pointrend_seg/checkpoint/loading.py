"""Load weights, with clear errors if they cannot be read or do not fit the model."""

import logging
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from ..config.reading import check_address, is_remote
from ..errors import InputError, first_line
from .files import load_torch, read_checkpoint
from .finite import first_bad_weight
from .last_checkpoint import find_last_checkpoint
from .names import upgrade_names
from .saving import SavingCheckpointer

logger = logging.getLogger(__name__)


class Checkpointer(SavingCheckpointer):
    """Detectron2's checkpointer without code from files, and with clear errors.

    Attributes:
        incompatible: ``missing_keys``, ``unexpected_keys`` and ``incorrect_shapes`` of the last
            `load`; None before.
    """

    incompatible = None

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict:
        """Load a checkpoint as `DetectionCheckpointer.load` does.

        Raises:
            InputError: the file does not exist, cannot be downloaded, or is not a checkpoint.
        """
        if not path:
            return super().load(path, *args, **kwargs)
        if is_remote(path):
            check_address(path)
        try:
            local = self.path_manager.get_local_path(path.split("?")[0])
        except Exception as error:
            raise InputError(
                f"The weights {path} cannot be downloaded ({first_line(error)}). Download the file "
                "on another machine and set MODEL.WEIGHTS to the local copy, or set MODEL.WEIGHTS "
                "to '' to start from random weights."
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
                f"{path} cannot be read as a checkpoint ({first_line(error)}). It may be truncated "
                "or in another format: download it again, or set MODEL.WEIGHTS to a checkpoint of "
                "Detectron2 or of this package."
            ) from error
        finally:
            self._parsed_url_during_load = None

    def _load_file(self, filename: str) -> dict:
        """Read a file with `read_checkpoint`; ``?matching_heuristics=True`` may follow its name."""
        checkpoint = read_checkpoint(filename).for_checkpointer()
        strange = [name for name in checkpoint["model"] if not name.isprintable()]
        if strange:
            raise InputError(
                f"{filename} has the weight {ascii(strange[0])}. Names of weights are printable."
            )
        query = parse_qs(self._parsed_url_during_load.query if self._parsed_url_during_load else "")
        if query.pop("matching_heuristics", None) == ["True"]:
            checkpoint["matching_heuristics"] = True
        if query:
            raise InputError(
                f"MODEL.WEIGHTS ends in ?{'&'.join(query)}=…. Only ?matching_heuristics=True is "
                "known."
            )
        return checkpoint

    def _torch_load(self, f: str) -> Any:
        return load_torch(f)

    def _load_model(self, checkpoint: dict) -> Any:
        weights = upgrade_names(checkpoint["model"])
        if list(weights) != list(checkpoint["model"]):
            logger.info("The checkpoint has an older format: its weights are renamed.")
        checkpoint["model"] = weights
        self.incompatible = super()._load_model(checkpoint)
        return self.incompatible

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """Log how much of the model a file has, with all names for log.txt alone."""
        in_model = self.model.state_dict().keys()
        shapes = [name for name, *_ in incompatible.incorrect_shapes]
        missing, unused = incompatible.missing_keys, incompatible.unexpected_keys
        logger.info(
            "Weights: %d of the model's %d are taken from the file%s",
            len(in_model) - len({*missing, *shapes}),
            len(in_model),
            "".join(
                f"; {what}: {_in_groups(names)}"
                for what, names in (
                    ("not in the file", missing),
                    ("of another shape there", shapes),
                    ("not in the model", unused),
                )
                if names
            ),
        )
        logger.debug("Not in the file: %s", missing)
        logger.debug("Of another shape in the file: %s", incompatible.incorrect_shapes)
        logger.debug("Not in the model: %s", unused)


def _in_groups(names: Iterable[str]) -> str:
    """Return the parts of a model that weights belong to, and how many they are of each."""
    counts = Counter(".".join(name.split(".")[:2]) for name in names)
    shown = [f"{part} ({count})" for part, count in counts.most_common(4)]
    hidden = sum(counts.values()) - sum(count for _, count in counts.most_common(4))
    return ", ".join(shown) + (f" and {hidden} more" if hidden else "")


def load_weights(checkpointer: Checkpointer, path: str, *, resume: bool, complete: bool) -> str:
    """Load a model's weights, or continue from the last checkpoint that can be read.

    Args:
        path: ``cfg.MODEL.WEIGHTS``.
        resume: continue from the last checkpoint in the output folder, if there is one.
        complete: require every parameter in the file, as for evaluation. Otherwise one parameter
            is enough, so that training can start from a backbone.

    Returns:
        the checkpoint that was continued from, "" if there is none or ``resume`` is False.

    Raises:
        InputError: the weights cannot be read, do not fit the model, or are no finite numbers.
    """
    last = ""
    if resume and checkpointer.save_dir:
        last = find_last_checkpoint(checkpointer.save_dir, checkpointer._torch_load)
    path = last or path
    logger.info("Weights: %s", path or "none, the model starts from random ones")
    checkpointer.load(path, checkpointables=None if last else [])
    _check_fit(checkpointer, path, resuming=bool(last), complete=complete)
    bad = first_bad_weight(checkpointer.model) if path else None
    if bad:
        raise InputError(
            f"{path} cannot be used: its weight {bad} is NaN or infinite, because the training "
            "that wrote it diverged. Use an earlier checkpoint."
        )
    return last


def _check_fit(checkpointer: Checkpointer, path: str, *, resuming: bool, complete: bool) -> None:
    """Raise `InputError` where the weights that were loaded leave too much of the model."""
    if not path or checkpointer.incompatible is None:
        if complete:
            raise InputError(
                "There are no weights to evaluate. Set MODEL.WEIGHTS to a checkpoint of this "
                "model, e.g. MODEL.WEIGHTS output/model_final.pth."
            )
        return
    missing = set(checkpointer.incompatible.missing_keys)
    wrong = {key: shapes for key, *shapes in checkpointer.incompatible.incorrect_shapes}
    unfit = missing | set(wrong)
    parameters = list(checkpointer.model.named_parameters())
    if unfit and (complete or resuming or len(unfit) >= len(parameters)):
        problems = [
            f"{name} has shape {tuple(in_file)} in the file, {tuple(in_model)} in the model"
            for name, (in_file, in_model) in wrong.items()
        ]
        problems += [f"{name} is not in the file" for name in sorted(missing)]
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InputError(
            f"{path} does not fit this model: {'; '.join(problems[:3])}{more}. Use the config it "
            "was trained with (NUM_CLASSES, IN_FEATURES, DEPTH), or other weights."
        )
