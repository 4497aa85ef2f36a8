import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
PACKAGE = HERE / "projects" / "pointrend_seg"
VERSION = re.search(r'__version__ = "([^"]+)"', (PACKAGE / "__init__.py").read_text()).group(1)

setup(
    name="pointrend-seg",
    version=VERSION,
    description="PointRend for semantic and instance segmentation, as a Detectron2 extension",
    package_dir={"pointrend_seg": "projects/pointrend_seg"},
    packages=["pointrend_seg"]
    + [f"pointrend_seg.{name}" for name in find_packages(str(PACKAGE))],
    python_requires=">=3.10",
    install_requires=["detectron2>=0.6", "torch", "fvcore", "numpy", "pycocotools"],
)
