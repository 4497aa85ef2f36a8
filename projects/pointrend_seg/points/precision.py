"""Keep float32 where half precision is wrong, whatever autocast or a model's dtype says.

Coordinates, boxes, interpolation weights, uncertainties, labels and losses are float32 at least:
bfloat16 has 8 binary digits, so that 303 becomes 304, and float16 has 11, which on a map of 1216
columns are off by half a column.
"""

import contextlib

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Convert half precision and integers to float32; float32 and wider stay as they are.

    Example:
        >>> at_least_float32(torch.tensor([303], dtype=torch.int32)).dtype
        torch.float32
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """Compute in the dtype of the operands within the block, also under autocast."""
    if not torch.amp.is_autocast_available(device.type):
        return contextlib.nullcontext()
    return torch.autocast(device.type, enabled=False)
