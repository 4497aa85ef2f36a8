"""Name the cases, and choose among them."""

import fnmatch
from collections.abc import Callable
from functools import partial

from ..errors import InputError
from .evaluation_cases import encoding, evaluation
from .inference_cases import instance_inference, model_inference, semantic_inference
from .measurement import Case
from .setting import Setting
from .training_cases import instance_training, semantic_training

MakeCase = Callable[[Setting], Case]


def all_cases() -> dict[str, MakeCase]:
    """Return what makes each case, by the case's name, in the order of measurement."""
    cases: dict[str, MakeCase] = {}
    for classes in (1, 80, 1203):
        for boxes in (5, 20, 100):
            cases[f"instance-inference-R{boxes}-C{classes}"] = partial(
                instance_inference, num_boxes=boxes, num_classes=classes
            )
    cases["instance-training"] = instance_training
    cases["semantic-inference"] = partial(semantic_inference, with_coarse=False)
    cases["semantic-inference-with-coarse"] = partial(semantic_inference, with_coarse=True)
    cases["semantic-training"] = semantic_training
    cases["model-inference"] = model_inference
    cases["encoding"] = encoding
    cases["evaluation"] = evaluation
    return cases


def choose(patterns: list[str]) -> dict[str, MakeCase]:
    """Return the cases that a pattern fits; all cases if there are no patterns.

    Args:
        patterns: parts of names, or whole names with ``*`` for any text.

    Raises:
        InputError: no case fits a pattern.
    """
    cases = all_cases()
    chosen = set()
    for pattern in patterns:
        found = set(fnmatch.filter(cases, pattern if "*" in pattern else f"*{pattern}*"))
        if not found:
            raise InputError(f"No case is called '{pattern}'. There are: {', '.join(cases)}.")
        chosen |= found
    return {name: make for name, make in cases.items() if not patterns or name in chosen}
