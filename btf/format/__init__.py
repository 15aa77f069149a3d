"""The bytes of BTF: kinds, header, type records, strings. Knows no types as objects."""
