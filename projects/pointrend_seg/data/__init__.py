"""Data sets: synthetic scenes, mappers, augmentation, registration and checks."""
