"""Evaluators: AP and Boundary AP of instances, IoU and Boundary IoU of label maps."""
