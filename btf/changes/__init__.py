"""What changed between two objects: which names, and in C's terms."""
