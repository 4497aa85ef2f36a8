"""Read data sets for panoptic segmentation: segments of PNGs that a JSON file lists."""
