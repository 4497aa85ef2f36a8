"""Generate synthetic scenes from a seed, and write data sets of them in several layouts."""
