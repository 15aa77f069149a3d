"""Making and changing BTF: the builder, appending, renumbering."""
