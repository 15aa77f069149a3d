"""What a run keeps: committed output, cached results, what is known of inputs."""
