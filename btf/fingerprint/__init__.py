"""Fingerprints: 128-bit structural hashes of types, cycles included. See ``fingerprints``."""
