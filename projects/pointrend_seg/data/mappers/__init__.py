"""Turn data set dicts into the input of models."""
