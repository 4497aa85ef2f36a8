"""Predict on images from Python, and on folders and videos."""

from .predictor import Predictor

__all__ = ["Predictor"]
