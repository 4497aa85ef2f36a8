"""Test-time augmentation: a model sees an image at several scales and mirrored."""
