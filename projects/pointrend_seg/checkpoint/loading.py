"""Load weights, with clear errors if they cannot be read or do not fit the model."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import Tensor, nn

from ..config.reading import check_address, is_remote
from ..errors import InputError, first_line
from .adapting import adapt_shapes
from .addresses import cached_path, find_address
from .architectures import recognise
from .files import load_torch, read_checkpoint
from .finite import first_bad_weight
from .last_checkpoint import find_last_checkpoint
from .names import upgrade_names
from .saving import SavingCheckpointer
from .translation import Translation, find_translation, translate

logger = logging.getLogger(__name__)

_OTHER_CONFIG = (
    "Use the config it was trained with (NUM_CLASSES, IN_FEATURES, DEPTH), or other weights."
)


class Checkpointer(SavingCheckpointer):
    """Detectron2's checkpointer without code from files, and with clear errors.

    Attributes:
        incompatible: ``missing_keys``, ``unexpected_keys`` and ``incorrect_shapes`` of the last
            `load`; None before.
        translation: of the names of the last `load`; None where they are the model's own.
        adapts: whether weights may be fitted to other shapes, as `adapt_shapes` does.
    """

    incompatible = None
    translation: Translation | None = None
    adapts = False
    _file_weights: Mapping[str, Tensor] | None = None

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict:
        """Load a checkpoint as `DetectionCheckpointer.load` does.

        Raises:
            InputError: the file does not exist, cannot be downloaded, or is not a checkpoint.
        """
        if not path:
            return super().load(path, *args, **kwargs)
        name, path = path, find_address(path)
        if is_remote(path):
            check_address(path)
        try:
            local = self.path_manager.get_local_path(path.split("?")[0])
        except Exception as error:
            what = name if name == path else f"{name}, which are {path},"
            place = f", or copy it to {cached_path(path)}" if path.startswith("http") else ""
            raise InputError(
                f"The weights {what} cannot be downloaded ({first_line(error)}). Download the file "
                f"on another machine and set MODEL.WEIGHTS to the local copy{place}, or set "
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
        self._file_weights, self.translation = weights, None
        model = self.model.state_dict()
        if not _heuristics_suffice(checkpoint, weights, model):
            self.translation = find_translation(weights, model)
        translation = self.translation
        if translation is not None:
            weights = translate(weights, translation)
            checkpoint.pop("matching_heuristics", None)
            logger.info(
                "The names of the weights are translated: %s.%s",
                f"they are those of {translation.source}"
                if translation.source
                else "in the file they have other beginnings",
                _expectations(self.model) if "ResNet" in translation.source else "",
            )
        if self.adapts and (adapted := adapt_shapes(weights, model)):
            logger.info("Adapted: %s", "; ".join(adapted))
        checkpoint["model"] = weights
        self.incompatible = super()._load_model(checkpoint)
        return self.incompatible

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """Log how much of the model a file has, with all names for log.txt alone."""
        in_model = self.model.state_dict().keys()
        shapes = [name for name, *_ in incompatible.incorrect_shapes]
        missing, unused = incompatible.missing_keys, incompatible.unexpected_keys
        in_model = {name for name in in_model if not name.endswith("num_batches_tracked")}
        new = [name for name in (*missing, *shapes) if name in in_model]
        unused = [name for name in unused if not name.endswith("num_batches_tracked")]
        logger.info(
            "Weights: %d of %d loaded%s%s",
            len(in_model) - len(set(new)),
            len(in_model),
            "".join(
                f", {len(names)} new{why}: {_in_groups(names)}"
                for why, names in (
                    ("", sorted(set(new) - set(shapes))),
                    (" because of another shape in the file", shapes),
                )
                if names
            ),
            f"; not used: {_in_groups(unused)}" if unused else "",
        )
        logger.debug("Not in the file: %s", missing)
        logger.debug("Of another shape in the file: %s", incompatible.incorrect_shapes)
        logger.debug("Not in the model: %s", unused)


def _heuristics_suffice(
    checkpoint: dict, weights: Mapping[str, Tensor], model: Mapping[str, Tensor]
) -> bool:
    """Tell whether a file is for Detectron2's matching of names, and that finds any.

    It looks for names of the model that end with one of the file.
    """
    if not checkpoint.get("matching_heuristics"):
        return False
    ends = {name.split(".", cut)[-1] for name in model for cut in range(name.count(".") + 1)}
    return checkpoint.get("__author__") == "Caffe2" or not ends.isdisjoint(weights)


def _expectations(model: nn.Module) -> str:
    """Say where a model treats images otherwise than ResNets of torchvision, timm and others do."""
    wrong = []
    means, deviations = (getattr(model, name, None) for name in ("pixel_mean", "pixel_std"))
    # semantic models have no `input_format`; blue has the lowest of ImageNet's means
    is_bgr = means is not None and len(means) == 3 and bool(means[0] < means[2])
    if getattr(model, "input_format", "BGR" if is_bgr else None) == "BGR":
        wrong.append("INPUT.FORMAT RGB")
    if deviations is not None and bool((deviations == 1).all()):
        wrong.append("MODEL.PIXEL_MEAN [123.675, 116.28, 103.53]")
        wrong.append("MODEL.PIXEL_STD [58.395, 57.12, 57.375]")
    blocks = [each for each in model.modules() if isinstance(each, BottleneckBlock)]
    if any(tuple(block.conv1.stride) == (2, 2) for block in blocks):
        wrong.append("MODEL.RESNETS.STRIDE_IN_1X1 False")
    return f" Most such weights expect {', '.join(wrong)}: set them." if wrong else ""


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
    checkpointer.adapts = not (complete or last)
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
    is_other = checkpointer.translation is not None and any(
        n.startswith("backbone.") for n in wrong
    )
    if unfit and (complete or resuming or is_other or len(unfit) >= len(parameters)):
        problems = [
            f"{name} has shape {tuple(in_file)} in the file, {tuple(in_model)} in the model"
            for name, (in_file, in_model) in wrong.items()
        ]
        problems += [f"{name} is not in the file" for name in sorted(missing)]
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        likely = recognise(checkpointer._file_weights or {}, path)
        raise InputError(
            f"{path} does not fit this model: {'; '.join(problems[:3])}{more}. "
            + (f"It looks like {likely.sentence}" if likely else _OTHER_CONFIG)
        )
