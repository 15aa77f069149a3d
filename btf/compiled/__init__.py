"""Compiled functions: hot loops in Python that run as machine code, and where that is kept."""
