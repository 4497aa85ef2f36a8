"""Translate the names of weights of other libraries into those of a model.

Each `_RULES` turns names of one library into names of another. Which of them a file needs is
found by trying: the one counts that gives the most weights of the model, in the right shape.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

# Put around a whole model by data parallelism, by Lightning, by torch.compile and others.
_WRAPPERS = ("module.", "model.", "_orig_mod.", "net.", "network.")
# What a backbone is called in the models of other libraries; the longest first.
_BACKBONES = (
    *("backbone.bottom_up.", "backbone.body.", "backbone.net.", "backbone.", "image_encoder."),
    *("encoder.", "visual.", "trunk."),
)
_OURS = (
    *("", "backbone.", "backbone.bottom_up.", "backbone.bottom_up.net.", "backbone.net."),
    *("backbone.bottom_up.net.model.", "backbone.net.model."),
)
_COUNTERS = "num_batches_tracked"

Names = dict[str, str]  # new name by the name in the file


@dataclass(frozen=True)
class Translation:
    """Names of a file's weights in a model.

    Attributes:
        source: whose names the file has; "" if only their beginnings differ.
        names: the name in the model by the name in the file, for the weights that have one.
    """

    source: str
    names: Names


def _substitute(*rules: tuple[str, str]) -> Callable[[list[str], list[str]], Names]:
    """Return a rule that replaces the first pattern that matches a name as a whole."""
    compiled = [(re.compile(pattern), new) for pattern, new in rules]

    def translate(names: list[str], model: list[str]) -> Names:
        translated = {}
        for name in names:
            for pattern, new in compiled:
                if pattern.fullmatch(name):
                    translated[name] = pattern.sub(new, name)
                    break
        return translated

    return translate


def _resnet(names: list[str], model: list[str]) -> Names:
    """From torchvision's, timm's or mmdetection's ResNet to Detectron2's."""
    stem = r"(?:conv1|stem)\.(\d)"  # three convolutions instead of one
    deep = sorted({int(m[1]) for n in names if (m := re.fullmatch(rf"{stem}\.weight", n))})
    places = {place: index for index, place in enumerate(deep)}
    translated = {}
    for name in names:
        head, _, leaf = name.rpartition(".")
        found = re.fullmatch(r"layer(\d)\.(\d+)\.(\w+?)(\d?)(?:\.(\d))?", head)
        if found:
            stage, block, part, number, place = found.groups()
            inner = {
                "conv": f"conv{number}",
                "bn": f"conv{number}.norm",
                "downsample": "shortcut" if place == "0" else "shortcut.norm",
            }.get(part)
            if inner and (part == "downsample") == (place is not None):
                translated[name] = f"res{int(stage) + 1}.{block}.{inner}.{leaf}"
        elif head in ("conv1", "bn1"):
            number = len(deep) // 2 + 1 if deep and head == "bn1" else 1
            translated[name] = f"stem.conv{number}{'.norm' * (head == 'bn1')}.{leaf}"
        elif (inner_stem := re.fullmatch(stem, head)) and deep:
            index = places[int(inner_stem[1])]
            translated[name] = f"stem.conv{index // 2 + 1}{'.norm' * (index % 2)}.{leaf}"
    return translated


def _swin(names: list[str], model: list[str]) -> Names:
    """From timm's Swin, which halves a map at the begin of a stage, to one that does at the end."""
    pattern = re.compile(r"layers\.([1-9])(\.downsample\..*)")
    return {
        name: f"layers.{int(found[1]) - 1}{found[2]}"
        if (found := pattern.fullmatch(name))
        else name
        for name in names
    }


def _swin_to_timm(names: list[str], model: list[str]) -> Names:
    """From the published Swin to timm's, the other way round."""
    pattern = re.compile(r"layers\.(\d)(\.downsample\..*)")
    moved = {
        name: f"layers.{int(found[1]) + 1}{found[2]}"
        if (found := pattern.fullmatch(name))
        else name
        for name in names
    }
    return {old: new.replace(".", "_", 1) for old, new in moved.items()}


def _flat(names: list[str], model: list[str]) -> Names:
    """From timm's models to its models of feature maps, which may join the first two parts."""
    known = set(model)
    joined = {name: name.replace(".", "_", 1) for name in names}
    return {name: new if new in known else name for name, new in joined.items()}


_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
    "_se_reduce": "se.conv_reduce",
    "_se_expand": "se.conv_expand",
}
_FIRST_BLOCK = _BLOCK | {"_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_AROUND = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def _efficientnet(names: list[str], model: list[str]) -> Names:
    """From efficientnet-pytorch, which counts blocks through, to timm, which does by stage."""
    found = (re.match(r"blocks\.(\d+)\.(\d+)\.", name) for name in model)
    blocks = list(dict.fromkeys((int(each[1]), int(each[2])) for each in found if each))
    expanded = {name.split(".")[1] for name in names if "._expand_conv." in name}
    translated = {}
    for name in names:
        parts = name.split(".")
        if parts[0] == "_blocks" and parts[1].isdigit() and int(parts[1]) < len(blocks):
            stage, block = blocks[int(parts[1])]
            layer = (_BLOCK if parts[1] in expanded else _FIRST_BLOCK).get(parts[2])
            if layer:
                translated[name] = ".".join(["blocks", str(stage), str(block), layer, *parts[3:]])
        elif parts[0] in _AROUND:
            translated[name] = ".".join([_AROUND[parts[0]], *parts[1:]])
    return translated


_RULES: dict[str, Callable[[list[str], list[str]], Names]] = {
    "": _substitute((r"(.*)", r"\1")),
    "a ResNet of torchvision, timm or mmdetection": _resnet,
    "a model of timm": _flat,
    "timm's Swin": _swin,
    "the published Swin": _swin_to_timm,
    "efficientnet-pytorch": _efficientnet,
}
# Feature pyramids of mmdetection and of torchvision, beside the backbone.
_NECK = (
    (re.compile(r"neck\.lateral_convs\.(\d)\.conv\.(.*)"), "fpn_lateral"),
    (re.compile(r"neck\.fpn_convs\.(\d)\.conv\.(.*)"), "fpn_output"),
    (re.compile(r"neck\.lateral_convs\.(\d)\.bn\.(.*)"), "fpn_lateral norm."),
    (re.compile(r"neck\.fpn_convs\.(\d)\.bn\.(.*)"), "fpn_output norm."),
    (re.compile(r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(weight|bias)"), "fpn_lateral"),
    (re.compile(r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(weight|bias)"), "fpn_output"),
)


def find_translation(
    weights: Mapping[str, Tensor], model: Mapping[str, Tensor]
) -> Translation | None:
    """Find the names that most of a file's weights have in a model.

    Args:
        weights: the file's weights by name.
        model: the model's state dict. A weight counts if it has the model's shape; the first
            layer may be for another number of channels.

    Returns:
        None where the names are the model's own, or where no rule finds a weight of the model.
    """
    targets = {name for name in model if not name.endswith(_COUNTERS)}
    plain = {name: name for name in weights}
    best, most = None, _count(plain, weights, model, targets)
    neck = _neck(weights)
    for view in _views(list(weights)):
        for ours in _OURS:
            inner = [name.removeprefix(ours) for name in targets if name.startswith(ours)]
            if not inner:
                continue
            ordered = [n.removeprefix(ours) for n in model if n.startswith(ours)]
            for source, rule in _RULES.items():
                names = rule(list(view), ordered)
                found = {view[inner]: ours + new for inner, new in names.items()} | neck
                count = _count(found, weights, model, targets)
                if count > most:
                    best, most = Translation(source, found), count
    return best


def translate(weights: Mapping[str, Tensor], translation: Translation) -> OrderedDict:
    """Return weights under the names of a model; those without one keep theirs."""
    return OrderedDict((translation.names.get(name, name), each) for name, each in weights.items())


def _views(names: list[str]) -> Iterator[dict[str, str]]:
    """Yield the names without what was put around the model, and those of its backbone alone.

    A view has the name in the file by the shorter name.
    """
    view = {name: name for name in names}
    yield view
    while True:
        wrapper = next((w for w in _WRAPPERS if all(name.startswith(w) for name in view)), None)
        if wrapper is None:
            break
        view = {name.removeprefix(wrapper): old for name, old in view.items()}
        yield view
    for prefix in _BACKBONES:
        inner = {n.removeprefix(prefix): old for n, old in view.items() if n.startswith(prefix)}
        if inner:
            yield inner


def _neck(weights: Mapping[str, Tensor]) -> Names:
    """Return the names of a feature pyramid's layers: the finest has the number 2."""
    names = {}
    for name in weights:
        for pattern, new in _NECK:
            found = pattern.fullmatch(name)
            if found:
                layer, _, norm = new.partition(" ")
                names[name] = f"backbone.{layer}{int(found[1]) + 2}.{norm}{found[2]}"
    return names


def _count(
    names: Names, weights: Mapping[str, Tensor], model: Mapping[str, Tensor], targets: set[str]
) -> int:
    """Count the weights of a model that have a value of their shape."""
    return sum(
        new in targets and fits(weights[old].shape, model[new].shape) for old, new in names.items()
    )


def fits(there: tuple[int, ...], here: tuple[int, ...]) -> bool:
    """Tell whether a weight has the right shape, or is a first layer for other channels."""
    return there == here or (
        len(there) == len(here) == 4
        and there[1] in (1, 3)
        and (there[0], *there[2:]) == (here[0], *here[2:])
    )
