"""From data set dicts to model inputs."""
