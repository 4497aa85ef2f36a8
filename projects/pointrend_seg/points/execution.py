"""Decide when work is done in the order that suits a processor's caches."""

import torch
from torch import Tensor


def is_eager_on_cpu(tensor: Tensor, *, with_gradients: bool = False) -> bool:
    """Tell whether an operation may take the order that is fast on a CPU.

    That order looks at values and sizes on the host, works in parts and reuses memory. So it is
    left where a graph is made of the operation: in `torch.compile`, `torch.export` and
    `torch.jit.trace`, and for autograd.

    Args:
        tensor: what the operation reads; its device counts.
        with_gradients: take it also where autograd records; for operations whose parts autograd
            differentiates as it does the whole.
    """
    return (
        tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and (with_gradients or not torch.is_grad_enabled())
    )


def is_traced() -> bool:
    """Tell whether `torch.jit.trace` records operations of PyTorch, and not those of ONNX.

    A trace knows no number of boxes, points or parts.
    """
    return torch.jit.is_tracing() and not torch.onnx.is_in_onnx_export()
