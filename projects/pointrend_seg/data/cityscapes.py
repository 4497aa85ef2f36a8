"""Make Detectron2's Cityscapes data sets and evaluators work with `cityscapesscripts` from PyPI.

Detectron2's main branch imports the Cityscapes scripts from a path that exists only where it is
developed (its issue 5436), inside functions: everything imports, then loading instance data and
both evaluators fail with "No module named 'deeplearning'". Here that path becomes another name
of the public package, and only where nothing else answers to it.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import InputError

_PUBLIC = "cityscapesscripts"
_INTERNAL = "deeplearning.projects.cityscapesApi.cityscapesscripts"
_INSTALL = 'pip install "pointrend-seg[cityscapes]"'


def ensure_cityscapes_importable(*, instances: bool = False) -> None:
    """Make the Cityscapes scripts importable under both names; call it before loading data.

    Calling it again changes nothing.

    Args:
        instances: whether instance data sets will be loaded, too. That takes `shapely`, and
            prepares the processes in which Detectron2 parses annotations, however they start.

    Raises:
        InputError: `cityscapesscripts` (or `shapely`) is not installed.
    """
    for package in (_PUBLIC, "shapely") if instances else (_PUBLIC,):
        if find_spec(package) is None:
            raise InputError(
                f"Cityscapes needs the package {package}, which is not installed. Install it "
                f"with: {_INSTALL}"
            )
    if not any(isinstance(finder, _InternalPathFinder) for finder in sys.meta_path):
        sys.meta_path.append(_InternalPathFinder())
    if instances:
        _prepare_pool_workers()


def check_cityscapes_evaluation() -> None:
    """Check that the installed Cityscapes evaluation scripts work with the installed NumPy.

    cityscapesscripts 2.3.0 calls `numpy.in1d`, which NumPy 2.4 removed. NumPy is left as it is:
    adding the function back would change it for every other package, too.

    Raises:
        InputError: names the two packages and the NumPy to install; or `cityscapesscripts` is
            not installed.
    """
    ensure_cityscapes_importable()
    if hasattr(np, "in1d"):
        return
    scripts = find_spec(f"{_PUBLIC}.evaluation.evalPixelLevelSemanticLabeling")
    if scripts and scripts.origin and "np.in1d" in Path(scripts.origin).read_text(encoding="utf-8"):
        raise InputError(
            f"The Cityscapes evaluation scripts call numpy.in1d, which NumPy {np.__version__} no "
            "longer has (removed in 2.4). Install an older one: pip install 'numpy<2.4'"
        )


class _InternalPathFinder(MetaPathFinder, Loader):
    """Find modules below the internal path, and no others.

    It is the last in `sys.meta_path`, so a real package of that name wins. Packages become empty
    ones without a search path, so that the import system cannot find a second copy of the
    modules in them; modules are the public ones themselves.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if f"{_INTERNAL}.".startswith(f"{fullname}."):
            return ModuleSpec(fullname, self, is_package=True)
        if not fullname.startswith(f"{_INTERNAL}."):
            return None
        public = find_spec(_public_name(fullname))
        if public is None:
            return None
        is_package = public.submodule_search_locations is not None
        return ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ and module.__spec__.submodule_search_locations is None:
            name = module.__name__
            sys.modules[name] = importlib.import_module(_public_name(name))


def _public_name(internal_name: str) -> str:
    return _PUBLIC + internal_name.removeprefix(_INTERNAL)


_parse_files: Callable[..., Any] | None = None  # Detectron2's function, once it is replaced


def _prepare_pool_workers() -> None:
    """Make Detectron2's process pool run `_parse_files_in_worker`.

    A pool that does not fork starts fresh interpreters, which know the internal path only when
    this module is imported; looking up the pool's function imports it.
    """
    global _parse_files
    loader: Any = importlib.import_module("detectron2.data.datasets.cityscapes")
    if _parse_files is None:
        _parse_files = loader._cityscapes_files_to_dict
        loader._cityscapes_files_to_dict = _parse_files_in_worker


def _parse_files_in_worker(files: Sequence, **options: Any) -> Any:
    ensure_cityscapes_importable(instances=True)
    assert _parse_files is not None  # set by the line above
    return _parse_files(files, **options)
