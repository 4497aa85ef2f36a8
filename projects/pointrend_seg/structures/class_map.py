"""The classes of a large image's pixels, in the place of logits that would not fit into memory."""

import numpy as np
import torch
from torch import Tensor


class ClassMap:
    """A class for each pixel, where a model of C classes has logits of C x H x W.

    It is ``sem_seg`` of images that were seen in tiles. ``argmax(dim=0)`` works as it does for
    logits; the logits themselves are gone.

    Attributes:
        classes: H x W, uint8 or (for more than 256 classes) uint16.
        num_classes: C; 2 for binary models, whose logits have one channel.

    Example:
        >>> ClassMap(np.array([[0, 2]], np.uint8), 3).argmax(dim=0)
        tensor([[0, 2]])
    """

    def __init__(self, classes: np.ndarray, num_classes: int):
        self.classes, self.num_classes = classes, num_classes

    @property
    def shape(self) -> torch.Size:
        """The shape of the logits that it stands for, (C, H, W)."""
        return torch.Size([self.num_classes, *self.classes.shape])

    def __len__(self) -> int:
        return self.num_classes

    def argmax(self, dim: int = 0) -> Tensor:
        """Return the classes, H x W int64.

        Args:
            dim: must be 0, the dimension of the classes.
        """
        if dim not in (0, -3):
            raise ValueError("only the classes of pixels are known: argmax(dim=0)")
        return torch.from_numpy(self.classes.astype(np.int64))

    def to(self, *args: object, **kwargs: object) -> "ClassMap":
        """Return this map: it stays in main memory."""
        return self

    def cpu(self) -> "ClassMap":
        """Return this map."""
        return self
