import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
PACKAGE = HERE / "projects" / "pointrend_seg"
VERSION = re.search(r'__version__ = "([^"]+)"', (PACKAGE / "__init__.py").read_text()).group(1)

EXTRAS = {
    "cityscapes": ["cityscapesscripts", "shapely"],
    # Not in install_requires: opencv-python and opencv-python-headless both serve, and pip would
    # install the one that is named over the other.
    "opencv": ["opencv-python-headless"],
    "coco": ["faster-coco-eval"],
    # Not in "dev": it is for Detectron2's loader of LVIS data sets alone, and brings opencv-python.
    "lvis": ["lvis"],
    "test": ["pytest", "pytest-xdist", "hypothesis", "ruff==0.17.6", "mypy==2.4.1"],
}
EXTRAS["dev"] = EXTRAS["test"] + EXTRAS["cityscapes"] + EXTRAS["coco"]

setup(
    name="pointrend-seg",
    version=VERSION,
    description="PointRend for semantic and instance segmentation, as a Detectron2 extension",
    package_dir={"pointrend_seg": "projects/pointrend_seg"},
    packages=["pointrend_seg"] + [f"pointrend_seg.{name}" for name in find_packages(str(PACKAGE))],
    python_requires=">=3.10",
    install_requires=[
        "detectron2>=0.6",
        "torch",
        "fvcore",
        "numpy",
        "pycocotools",
        "pillow",
        "tqdm",
    ],
    extras_require=EXTRAS,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
