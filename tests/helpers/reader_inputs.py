"""Both readers of boxes on the same small inputs."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mask_inputs import random_boxes
from pointrend_seg.modeling.coarse_mask_head import ConvFCHead
from pointrend_seg.modeling.point_heads import PointMLP, select_class
from pointrend_seg.modeling.readers import CoarsePrediction, ReadSettings
from pointrend_seg.modeling.readers.fast import FusedBoxReader, pooling
from pointrend_seg.modeling.readers.plain import PlainBoxReader
from pointrend_seg.points import boxes as box_points
from pointrend_seg.points.losses import mask_point_loss

# Of images of 48 x 64 pixels; "p4" is read with a stride of its own.
CHANNELS = {"p2": 6, "p3": 4, "p4": 3}
STRIDES = {"p2": 4, "p3": 8, "p4": 16}
HEIGHT, WIDTH = 48, 64


def woken_up(module: nn.Module) -> nn.Module:
    """With random weights and biases, whose outputs are about 1."""
    for layer in module.modules():
        if hasattr(layer, "weight"):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
            nn.init.normal_(layer.bias, std=0.3)
    return module


@dataclass
class Case:
    """What is given to both paths; `build` makes it from the settings."""

    counts: tuple = (3, 0, 5, 1)
    pooler: tuple = ("p2",)
    points: tuple = ("p2",)
    classes: int = 5
    agnostic: bool = False
    each_layer: bool = True
    num_fc: int = 2
    num_points: int = 7
    padding_mode: str = "zeros"
    conv_dim: int = 5
    dtype: torch.dtype = torch.float64
    features: dict = field(default_factory=dict)

    def build(self) -> "Case":
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        masks = 1 if self.agnostic else self.classes
        self.coarse_head = woken_up(
            ConvFCHead(
                in_channels=sum(CHANNELS[name] for name in self.pooler),
                pooler_size=4,
                conv_dim=self.conv_dim,
                fc_dims=[9],
                output_shape=(masks, 3, 3),
            )
        ).to(self.dtype)
        self.point_head = woken_up(
            PointMLP(
                in_channels=sum(CHANNELS[name] for name in self.points),
                num_classes=masks,
                fc_dim=8,
                num_fc=self.num_fc,
                coarse_pred_each_layer=self.each_layer,
            )
        ).to(self.dtype)
        self.features = {
            name: torch.randn(
                len(self.counts), channels, HEIGHT // STRIDES[name], WIDTH // STRIDES[name]
            ).to(self.dtype)
            for name, channels in CHANNELS.items()
        }
        for each in self.features.values():
            each.requires_grad_()
        self.boxes = [random_boxes(n, generator, HEIGHT, WIDTH).to(self.dtype) for n in self.counts]
        self.boxes[-1][-1:] += 30  # partly beyond the image
        number = sum(self.counts)
        self.box_classes = torch.randint(0, self.classes, (number,))
        self.coords = torch.rand(number, self.num_points, 2, dtype=self.dtype)
        self.labels = torch.rand(number, self.num_points, dtype=self.dtype)
        self.cells = (torch.rand(number, 3, 3) < 0.5).to(self.dtype)
        return self

    def reader(self, kind: type) -> PlainBoxReader | FusedBoxReader:
        return kind(
            self.features,
            self.boxes,
            ReadSettings(
                point_strides={name: STRIDES[name] for name in self.points},
                pooler_strides={name: STRIDES[name] for name in self.pooler},
                pooler_size=4,
                padding_mode=self.padding_mode,
            ),
            self.point_head,
        )

    def losses(self, kind: type) -> tuple[dict[str, Tensor], Tensor]:
        """The coarse and the point loss, and the logits at the points."""
        reader = self.reader(kind)
        coarse = reader.pool(self.coarse_head)
        mask = mask_point_loss(select_class(coarse, self.box_classes), self.cells)
        point, logits = reader.point_loss(
            CoarsePrediction(coarse, self.box_classes), self.coords, self.labels
        )
        return {"mask": mask, "point": point}, logits

    def parameters(self) -> dict[str, Tensor]:
        """All that has a gradient, by name."""
        modules = {"coarse_head": self.coarse_head, "point_head": self.point_head}
        named = {
            f"{name}.{key}": value
            for name, module in modules.items()
            for key, value in module.named_parameters()
        }
        named.update(self.features)
        return {name: value for name, value in named.items() if value.requires_grad}

    def gradients(self) -> dict[str, Tensor | None]:
        """They are taken away from the parameters."""
        values = self.parameters()
        found = {name: value.grad for name, value in values.items()}
        for value in values.values():
            value.grad = None
        return found


def points_in_double(monkeypatch) -> None:
    """The grid of the coarse head too, so that both paths read at the very same places."""
    original = box_points.regular_grid
    for module in (box_points, pooling):
        monkeypatch.setattr(module, "regular_grid", lambda *args: original(*args).double())


def assert_same_training(case: Case, backward=None, *, tolerance=1e-9) -> dict:
    """Losses, logits and every gradient of both paths; gives those of the fast one.

    Args:
        backward: takes the losses by name; their sum's gradients are computed by default.
        tolerance: of the largest of each tensor.
    """
    backward = backward or (lambda losses: sum(losses.values()).backward())
    results = []
    for kind in (PlainBoxReader, FusedBoxReader):
        losses, logits = case.losses(kind)
        backward(losses)
        values = {**losses, "logits": logits}
        results.append({name: x.detach() for name, x in values.items()} | case.gradients())
    want, got = results
    for name, value in want.items():
        if value is None or not value.any():
            assert got[name] is None or not got[name].any(), name
            continue
        assert got[name].shape == value.shape, name
        assert got[name].dtype == value.dtype or name == "logits", name
        error = (got[name] - value).abs().max() / value.abs().max()
        assert error <= tolerance, (name, error)
    return got
