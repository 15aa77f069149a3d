"""A parsed BTF: the columnar table, and its types as objects, by name, as columns."""
