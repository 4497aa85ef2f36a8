"""Find weights that are not finite numbers: a training that diverged left them."""

from torch import Tensor, nn


def first_bad_weight(model: nn.Module) -> str | None:
    """Return the name of the first parameter that is not finite, or buffer that holds NaN.

    Buffers may be infinite, as masks of attention are. None if there is no such weight.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> layer.bias.data[0] = float("nan")
        >>> first_bad_weight(nn.Sequential(nn.Linear(3, 2), layer))
        '1.bias'
    """
    for name, parameter in model.named_parameters():
        if not _all_finite(parameter):
            return name
    for name, buffer in model.named_buffers():
        if not _all_finite(buffer) and bool(buffer.isnan().any()):
            return name
    return None


def _all_finite(tensor: Tensor) -> bool:
    """Tell whether all values are finite; the sum says it ten times faster, unless it overflows."""
    tensor = tensor.detach()
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
