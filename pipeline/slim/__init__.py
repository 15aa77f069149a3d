"""Kernel modules as they are shipped, made smaller."""
