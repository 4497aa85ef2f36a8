"""Save checkpoints whole or not at all, and none of a training that diverged."""

import errno
import os
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

from ..errors import InputError
from ..files.atomic import replaces, write_text
from .finite import first_bad_weight

LAST = "last_checkpoint"  # the file with the name of the last checkpoint
FINAL = "model_final"


class SavingCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer; a killed process or a full disk leaves the files before.

    Attributes:
        saved_iteration: of the last checkpoint that was saved; None before.
    """

    saved_iteration: int | None = None

    def save(self, name: str, **kwargs: Any) -> None:
        """Save a checkpoint as `DetectionCheckpointer.save` does: ``NAME.pth``.

        Raises:
            InputError: a weight is NaN or infinite, or the disk is full. The files are as before.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        os.makedirs(self.save_dir, exist_ok=True)
        path = os.path.join(self.save_dir, f"{name}.pth")
        bad = first_bad_weight(self.model)
        if bad:
            raise InputError(
                f"{path} is not saved, because the weight {bad} is NaN or infinite: the training "
                f"diverged. {self._kept()}Lower SOLVER.BASE_LR, increase SOLVER.WARMUP_ITERS, or "
                "set SOLVER.CLIP_GRADIENTS.ENABLED True."
            )
        content = {key: value.state_dict() for key, value in self.checkpointables.items()}
        self.logger.info("Saving checkpoint to %s", path)
        try:
            with replaces(path) as part, open(part, "wb") as file:
                torch.save({"model": self.model.state_dict()} | content | kwargs, file)
            self.tag_last_checkpoint(os.path.basename(path))
        except (OSError, RuntimeError) as error:
            if not is_disk_full(error):
                raise
            raise InputError(
                f"There is no space left on the device for {path}. {self._kept()}Free some space, "
                "or move the folder and set OUTPUT_DIR; then continue with --resume."
            ) from error
        self.saved_iteration = kwargs.get("iteration")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of the last checkpoint to ``last_checkpoint``."""
        write_text(os.path.join(self.save_dir, LAST), last_filename_basename)

    def _kept(self) -> str:
        last = self.get_checkpoint_file()
        return f"The checkpoint before it, {last}, is kept. " if last else ""


def is_disk_full(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it followed, says that a disk or a quota is full.

    `torch.save` turns that of the file into a `RuntimeError` about its own state.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
