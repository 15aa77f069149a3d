"""Chains longer than base and split: what modules of one kernel share, as layers of their own."""
