"""Would the kernel take this BTF: the rules of its own verifier, kernel/bpf/btf.c, by release."""
