"""The nearest of the known names, for messages about a name that is none of them."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question that begins with a space, or "" where nothing is near.

    Names that differ in case alone, or whose last part (behind a dot) is the same, are near, too.
    """
    known = list(known)
    near = [other for other in known if other.lower() == name.lower()]
    near += difflib.get_close_matches(name, known, n=3, cutoff=0.75)
    if not near:
        leaf = name.rpartition(".")[2].lower()
        same_leaf = [other for other in known if other.rpartition(".")[2].lower() == leaf]
        near = difflib.get_close_matches(name, same_leaf, n=3, cutoff=0.0)
    near = list(dict.fromkeys(near))[:3]
    return f" Did you mean {' or '.join(near)}?" if near else ""
