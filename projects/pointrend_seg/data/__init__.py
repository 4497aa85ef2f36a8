"""Read, check, register and map data sets."""
