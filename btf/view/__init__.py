"""BTF for people who explore it: objects, look-up by name, layout and spelling of types."""
