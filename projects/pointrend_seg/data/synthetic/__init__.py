"""Seeded synthetic scenes, and data sets of them in several layouts."""
