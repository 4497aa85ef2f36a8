"""Let tools that know only setup.py install the package; pyproject.toml says everything else."""

from setuptools import setup

setup()
