"""Shapes of weights by name."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class MLP:
    """The layers ``fc1`` … ``fcN``, ``predictor`` of a point head.

    Attributes:
        inputs, outputs: channels of the first layer's input and of the predictor's output.
        width, hidden: of the hidden layers, and their number.
        repeated: channels that are put to the predictor's input again; 0 for none.
    """

    inputs: int
    outputs: int
    width: int
    hidden: int
    repeated: int


class Shapes(dict):
    """Shape of each weight by its name."""

    def under(self, prefix: str) -> "Shapes":
        """Those whose name begins so, without the prefix."""
        return Shapes({k.removeprefix(prefix): v for k, v in self.items() if k.startswith(prefix)})

    def first(self, pattern: str) -> tuple[int, ...] | None:
        """The shape of the first whose name has the pattern."""
        return next((shape for name, shape in self.items() if re.search(pattern, name)), None)

    def count(self, layer: str) -> int:
        """How many of ``<layer>1``, ``<layer>2``, … there are."""
        return sum(bool(re.fullmatch(rf"{layer}\d+\.weight", name)) for name in self)

    def mlp(self) -> MLP:
        """Of a point head; it has at least ``predictor.weight``."""
        outputs, behind = self["predictor.weight"][:2]
        hidden = self.count("fc")
        width, inputs = self["fc1.weight"][:2] if hidden else (behind, behind)
        return MLP(inputs, outputs, width, hidden, behind - width)
