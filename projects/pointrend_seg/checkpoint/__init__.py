"""What a checkpoint holds, and whether it fits a config, without running code from it."""
