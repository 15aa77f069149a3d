"""Deduplication of BTF against itself and against a base, with libbpf's results to the byte."""
