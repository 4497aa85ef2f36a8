"""Check data sets before training and evaluation."""
