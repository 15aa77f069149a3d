"""From what the user names to kernels: folders, packages, manifests, names."""
