"""Read image files and arrays of every depth as 8-bit pixels, in one way for all that read them."""
