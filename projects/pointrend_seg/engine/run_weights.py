"""Choose the weights of a training's folder where none are given."""

import logging
import os

from ..checkpoint.files import load_torch
from ..checkpoint.last_checkpoint import find_last_checkpoint
from ..checkpoint.saving import LAST
from ..errors import InputError

RUN_CONFIG = "config.yaml"

logger = logging.getLogger(__name__)


def weights_of_run(config_file: str | os.PathLike) -> str:
    """Return the last checkpoint beside a config that training wrote, and log it.

    ``MODEL.WEIGHTS`` of such a config is what the training began from. A finished training's last
    checkpoint is ``model_final.pth``.

    Args:
        config_file: the path of a config.

    Returns:
        the path; "" if the file is not the ``config.yaml`` of a folder with checkpoints.

    Raises:
        InputError: there are checkpoints, but none can be read.
    """
    folder, name = os.path.split(os.path.abspath(config_file))
    final = os.path.join(folder, "model_final.pth")
    if name != RUN_CONFIG or not (
        os.path.isfile(final) or os.path.isfile(os.path.join(folder, LAST))
    ):
        return ""
    try:
        path = find_last_checkpoint(folder, load_torch)
    except InputError as error:
        raise InputError(
            f"The checkpoints in {folder} cannot be used: {error} Or name one: MODEL.WEIGHTS FILE "
            "(--weights FILE of predict.py)."
        ) from error
    logger.info("Using the weights of this training, %s.", path)
    return path
