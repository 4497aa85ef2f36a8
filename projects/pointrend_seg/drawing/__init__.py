"""Draw predictions, labels and training input. Pictures are RGB arrays, (H, W, 3), uint8."""
