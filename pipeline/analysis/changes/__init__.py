"""What changed between kernels, out of the tables of an output folder."""
