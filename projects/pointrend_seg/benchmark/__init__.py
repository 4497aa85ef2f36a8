"""Measure this package against the PointRend inside Detectron2, for `tools/benchmark.py`."""
