"""Fit weights of other shapes into a model, where a part of them still means the same."""

import re
from collections.abc import Iterator, Mapping, MutableMapping

import torch
from torch import Tensor

_POINT_LAYER = re.compile(r"(.*point_head\.)fc\d+\.weight")


def adapt_shapes(weights: MutableMapping[str, Tensor], model: Mapping[str, Tensor]) -> list[str]:
    """Change weights in place to the shapes of a model, and say what was changed.

    Two are known. A first convolution for images of 3 channels is made one for grey images by the
    sum over the channels, and one for C channels by repeating them, scaled by 3 / C; the input of
    the next layer keeps its size then. Layers of a point head, whose input ends with the coarse
    prediction, keep what they do with the fine features where the number of classes differs.

    Args:
        weights: by the model's names.
        model: the model's state dict.

    Returns:
        a description of each change.
    """
    done = []
    for name, weight in weights.items():
        here = model.get(name)
        if here is None or weight.shape == here.shape:
            continue
        if _is_first_convolution(weight.shape, here.shape):
            weights[name] = _with_channels(weight, here.shape[1])
            done.append(f"{name} from {weight.shape[1]} to {here.shape[1]} channels")
    layers = list(_point_layers(weights, model))
    for name, fine in layers:
        changed = model[name].detach().clone()
        changed[:, :fine] = weights[name][:, :fine].to(changed)
        weights[name] = changed
    if layers:
        done.append(
            f"the fine features' part of {len(layers)} layer{'s' * (len(layers) > 1)} of "
            f"{layers[0][0].rpartition('.fc')[0]} (other number of classes)"
        )
    return done


def _is_first_convolution(there: torch.Size, here: torch.Size) -> bool:
    same = len(there) == len(here) == 4 and (there[0], *there[2:]) == (here[0], *here[2:])
    return same and there[1] == 3 and here[1] in (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12)


def _with_channels(weight: Tensor, channels: int) -> Tensor:
    if channels == 1:
        return weight.sum(1, keepdim=True)
    repeated = weight.repeat(1, -(-channels // 3), 1, 1)[:, :channels]
    return repeated * (3 / channels)


def _point_layers(
    weights: Mapping[str, Tensor], model: Mapping[str, Tensor]
) -> Iterator[tuple[str, int]]:
    """Yield the layers that differ in the coarse prediction alone, and their other inputs."""
    for name, weight in weights.items():
        found = _POINT_LAYER.fullmatch(name)
        predictor = f"{found[1]}predictor.weight" if found else ""
        if predictor not in weights or predictor not in model or name not in model:
            continue
        here = model[name]
        if weight.shape == here.shape or weight.shape[0] != here.shape[0]:
            continue
        fine = weight.shape[1] - weights[predictor].shape[0]
        if fine > 0 and fine == here.shape[1] - model[predictor].shape[0]:
            yield name, fine
