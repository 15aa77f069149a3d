"""What a worker does with a module: open, encode, deduplicate, describe, write."""
