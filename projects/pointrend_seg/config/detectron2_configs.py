"""Detectron2's own Python configs, which those in configs/lazy/ build on."""

from pathlib import Path

import detectron2
from detectron2.config import LazyConfig
from omegaconf import DictConfig

from ..errors import InputError, did_you_mean


def get_config(path: str) -> DictConfig:
    """Load a Python config that comes with Detectron2, as `detectron2.model_zoo.get_config` does.

    It needs no ``pkg_resources``, which newer versions of setuptools no longer have.

    Args:
        path: relative to Detectron2's configs, such as "common/models/mask_rcnn_fpn.py".

    Raises:
        InputError: there is no such file.

    Example:
        >>> get_config("common/train.py").train.max_iter
        90000
    """
    folder = Path(detectron2.__file__).parent / "model_zoo" / "configs"
    if not (folder / path).is_file():
        known = [file.relative_to(folder).as_posix() for file in folder.rglob("*.py")]
        raise InputError(
            f"Detectron2 has no config {path}.{did_you_mean(path, known)} Its Python configs are "
            f"in {folder}."
        )
    return LazyConfig.load(str(folder / path))
