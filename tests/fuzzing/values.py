"""Values that no config and no annotation file should have, and some that it may."""

import random
from typing import Any

NUMBERS = (
    *(0, 1, -1, 2, 3, 5, 7, 19, 99, 255, 256, 1000, 2**31, 2**40, 2**63, 2**64, 10**30, -(2**63)),
    *(0.0, 0.5, 1.0, 1.5, -0.5, 2.0, 1e-9, 1e9, 1e30, 1e308, float("inf"), -float("inf")),
    float("nan"),
)
WORDS = (
    *(
        "",
        " ",
        "foo",
        "None",
        "True",
        "cpu",
        "cuda:99",
        "tpu",
        "a/b",
        "../..",
        "\0",
        "\n",
        "ä",
        "☃",
    ),
    *("nan", "1e5", "-", "--", "[", "{", "((", "x" * 300, "p2", "res4", "GN", "\ud800", "%s", "{}"),
)
CONTAINERS: tuple[Any, ...] = ([], (), {}, [[]], [None], [{}], [[[1]]], {"a": 1}, {"A": {"B": []}})


def any_value(rng: random.Random, depth: int = 0) -> Any:
    """Draw a value of any type."""
    kind = rng.randrange(9)
    if kind < 3:
        return rng.choice(NUMBERS)
    if kind == 3:
        return rng.choice(WORDS)
    if kind == 4:
        return rng.choice((True, False, None))
    if kind == 5:
        return rng.choice(CONTAINERS)
    if depth > 2:
        return rng.choice(NUMBERS)
    return [any_value(rng, depth + 1) for _ in range(rng.randrange(5))]


def change(value: Any, rng: random.Random) -> Any:
    """Draw a value that is near another, or any."""
    if rng.random() < 0.25:
        return any_value(rng)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        near = (-value, value + 1, value - 1, value * 2, value // 2, value * 1000, float(value))
        return rng.choice([*near, str(value), [value], rng.choice(NUMBERS)])
    if isinstance(value, str):
        return rng.choice(
            [value + "x", value[:-1], value.upper(), value.lower(), "", [value], *WORDS]
        )
    if isinstance(value, list | tuple):
        items = list(value)
        how = rng.randrange(7)
        if how == 0 and items:
            items.pop(rng.randrange(len(items)))
        elif how == 1:
            items.append(rng.choice(items) if items else any_value(rng))
        elif how == 2:
            items.reverse()
        elif how == 3 and items:
            place = rng.randrange(len(items))
            items[place] = change(items[place], rng)
        elif how == 4:
            items = []
        elif how == 5 and items:
            return items[0]
        else:
            items = [items]
        return items if rng.random() < 0.5 else tuple(items)
    if isinstance(value, dict):
        items = dict(value)
        if items:
            name = rng.choice(list(items))
            how = rng.randrange(3)
            if how == 0:
                del items[name]
            elif how == 1:
                items[name] = change(items[name], rng)
            else:
                items[f"{name}x"] = items.pop(name)
        return items
    return any_value(rng)
