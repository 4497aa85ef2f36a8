"""Run a model on images of any size: at the scale of training, in tiles, with limits that fit."""
