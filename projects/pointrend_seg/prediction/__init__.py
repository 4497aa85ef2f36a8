"""Predicting on images, from Python and for whole folders."""

from .predictor import Predictor

__all__ = ["Predictor"]
