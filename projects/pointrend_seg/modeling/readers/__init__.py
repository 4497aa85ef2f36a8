"""How features are read at points."""
