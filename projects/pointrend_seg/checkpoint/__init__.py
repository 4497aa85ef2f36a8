"""Read checkpoints without running code in them, describe them and compare them with a config."""
