"""Import Detectron2's Panoptic-DeepLab, also where the package panopticapi is not installed.

Its package imports its data set mapper first, which needs panopticapi; the model itself does not.
"""

import importlib
import importlib.util
import sys
from types import ModuleType

from detectron2 import projects

PANOPTIC_DEEPLAB_HEAD = "PanopticDeepLabSemSegHead"
_PACKAGE = f"{projects.__name__}.panoptic_deeplab"
_ALIAS = "detectron2_panoptic_deeplab"  # the package's folder, without what its __init__ runs


def import_panoptic_deeplab() -> ModuleType:
    """Import the module of Panoptic-DeepLab's model, which registers it, its heads and branches.

    Returns:
        ``detectron2.projects.panoptic_deeplab.panoptic_seg``; without panopticapi the same file
        under another name. Its package has also ``config``, with `add_panoptic_deeplab_config`,
        and ``target_generator``.

    Example:
        >>> import_panoptic_deeplab().PanopticDeepLabSemSegHead.__name__
        'PanopticDeepLabSemSegHead'
    """
    return import_part("panoptic_seg")


def import_part(name: str) -> ModuleType:
    """Import a module of Panoptic-DeepLab by its name, such as ``config``."""
    if importlib.util.find_spec("panopticapi") is not None:
        return importlib.import_module(f"{_PACKAGE}.{name}")
    if _ALIAS not in sys.modules:
        spec = importlib.util.find_spec(_PACKAGE)  # which does not run its __init__
        if spec is None:
            raise ModuleNotFoundError(f"This Detectron2 has no {_PACKAGE}.")
        package = ModuleType(_ALIAS, f"The modules of {_PACKAGE}, without its __init__.")
        package.__path__ = list(spec.submodule_search_locations or ())
        sys.modules[_ALIAS] = package
    return importlib.import_module(f"{_ALIAS}.{name}")
