"""BTF as text: raw and JSON as bpftool prints them, and C that compiles."""
