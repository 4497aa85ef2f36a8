"""Average the class probabilities that a semantic model predicts for the views of an image.

Shapes:
    C: number of channels; 1 is a binary model with one logit
    H, W: of the output
"""

import torch
from torch import Tensor, nn

from .views import views

_ROWS = 64  # that are converted to probabilities at a time, so that no second map is in memory
_LEAST = torch.finfo(torch.float32).tiny
_NEXT_TO_0 = 2.0**-24  # for one logit: the closest that a probability comes to 0 or 1


class SemanticViews(nn.Module):
    """A `SemanticSegmentor` whose ``sem_seg`` is that of the mean of all views of an image.

    ``sem_seg`` stays what it is without augmentation, logits: of several channels the logarithms
    of the mean probabilities, whose softmax these are; of one channel the logit of the mean
    probability, at most about 16.6 on either side.
    """

    def __init__(self, model: nn.Module, *, flip: bool):
        """
        Args:
            model: in evaluation mode; returns logits (C, H, W) of the size asked for.
            flip: whether each size is also shown mirrored.
        """
        super().__init__()
        self.model = model
        self.flip = flip
        self.training = model.training

    def forward(self, records: list[dict]) -> list[dict]:
        """Run the model on all views of each image, one at a time.

        Args:
            records: as `views` takes them.
        """
        return [{"sem_seg": self._logits(record)} for record in records]

    def _logits(self, record: dict) -> Tensor:
        total, count = torch.zeros(()), 0
        for view in views(record, flip=self.flip):
            logits = self.model([view.inputs])[0]["sem_seg"]
            if not count:
                total = torch.zeros_like(logits, dtype=torch.float32)
            add_probabilities(total, logits, is_flipped=view.is_flipped)
            del logits  # before the next run
            count += 1
        return to_logits(total.div_(count))


def add_probabilities(total: Tensor, logits: Tensor, *, is_flipped: bool) -> None:
    """Add the probabilities of logits (C, H, W), mirrored back, to ``total`` in place."""
    for sums, part in zip(total.split(_ROWS, 1), logits.split(_ROWS, 1), strict=True):
        part = part.float().flip(2) if is_flipped else part.float()
        sums += part.softmax(0) if len(part) > 1 else part.sigmoid()


def to_logits(probabilities: Tensor) -> Tensor:
    """Turn probabilities (C, H, W) into logits, in place."""
    if len(probabilities) > 1:
        return probabilities.clamp_(min=_LEAST).log_()
    return probabilities.logit_(_NEXT_TO_0)
