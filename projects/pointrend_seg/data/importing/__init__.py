"""Read labels in formats other than COCO's, and write them as a COCO data set."""
