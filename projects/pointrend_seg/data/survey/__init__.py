"""Survey whole data sets: find every problem that would break training."""
