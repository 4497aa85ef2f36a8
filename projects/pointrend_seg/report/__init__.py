"""Turn what an evaluation wrote into a page of scores and pictures. No model is run."""

from .writing import write_report

__all__ = ["write_report"]
