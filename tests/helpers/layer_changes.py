"""What people do to a layer of a point head: functions of the head and the layer's name."""

from torch import nn
from torch.nn.utils import parametrizations, prune


class Halved(nn.Module):
    """Stands for what wraps a layer: LoRA, quantisation, a profiler."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x) / 2


def wrap(head, name):
    setattr(head, name, Halved(getattr(head, name)))


def hook(head, name):
    getattr(head, name).register_forward_hook(lambda module, args, out: out / 2)


def pre_hook(head, name):
    getattr(head, name).register_forward_pre_hook(lambda module, args: args[0] / 2)


def own_forward(head, name):
    """As accelerate and others do it."""
    layer = getattr(head, name)
    original = layer.forward
    layer.forward = lambda x: original(x) / 2


def no_bias(head, name):
    layer = getattr(head, name)
    setattr(head, name, nn.Conv1d(layer.in_channels, layer.out_channels, 1, bias=False))


def wider(head, name):
    layer = getattr(head, name)
    setattr(head, name, nn.Conv1d(layer.in_channels, layer.out_channels, 3, padding=1))


def grouped(head, name):
    layer = getattr(head, name)
    setattr(head, name, nn.Conv1d(layer.in_channels, layer.out_channels, 1, groups=2))


def parametrised(head, name):
    parametrizations.weight_norm(getattr(head, name))
    getattr(head, name).parametrizations.weight.original0.data.mul_(2)


def pruned(head, name):
    prune.l1_unstructured(getattr(head, name), "weight", amount=0.5)


def frozen(head, name):
    getattr(head, name).requires_grad_(False)


CHANGES = [wrap, hook, pre_hook, own_forward, no_bias, wider, grouped, parametrised, pruned, frozen]
