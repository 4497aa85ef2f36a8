"""What `tools/benchmark.py` measures: this package against the PointRend inside Detectron2."""
