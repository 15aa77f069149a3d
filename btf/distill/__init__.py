"""Distilled base: the little base BTF that a module carries to survive small changes of vmlinux."""
