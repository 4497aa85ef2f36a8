"""Draw predictions, labels and training input as RGB arrays, (H, W, 3), uint8."""
