"""Shapes of weights by name."""

import re
from dataclasses import dataclass

# (blocks in res2 … res5, convolutions per block) -> MODEL.RESNETS.DEPTH
DEPTHS = {
    ((2, 2, 2, 2), 2): 18,
    ((3, 4, 6, 3), 2): 34,
    ((3, 4, 6, 3), 3): 50,
    ((3, 4, 23, 3), 3): 101,
    ((3, 8, 36, 3), 3): 152,
}


@dataclass(frozen=True)
class MLP:
    """Sizes of a point head with layers ``fc1`` … ``fcN`` and ``predictor``.

    Attributes:
        inputs: channels of the first layer's input.
        outputs: channels of the predictor's output.
        width: channels of the hidden layers.
        hidden: number of hidden layers.
        repeated: number of coarse prediction channels that are repeated in each layer's input.
    """

    inputs: int
    outputs: int
    width: int
    hidden: int
    repeated: int


class WeightShapes(dict):
    """The shape of each weight by its name."""

    def under(self, prefix: str) -> "WeightShapes":
        """Return the shapes of names that begin with ``prefix``, without the prefix."""
        return WeightShapes(
            {k.removeprefix(prefix): v for k, v in self.items() if k.startswith(prefix)}
        )

    def first(self, pattern: str) -> tuple[int, ...] | None:
        """Return the shape of the first name that matches the pattern, None if none does."""
        return next((shape for name, shape in self.items() if re.search(pattern, name)), None)

    def count(self, layer: str) -> int:
        """Return the number of layers ``<layer>1``, ``<layer>2``, …."""
        return sum(bool(re.fullmatch(rf"{layer}\d+\.weight", name)) for name in self)

    def mlp(self) -> MLP:
        """Return the sizes of a point head; ``predictor.weight`` must exist."""
        outputs, last_inputs = self["predictor.weight"][:2]
        hidden = self.count("fc")
        width, inputs = self["fc1.weight"][:2] if hidden else (last_inputs, last_inputs)
        return MLP(inputs, outputs, width, hidden, repeated=last_inputs - width)
