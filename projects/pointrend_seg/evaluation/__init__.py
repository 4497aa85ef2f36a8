"""Evaluators and boundary metrics."""
