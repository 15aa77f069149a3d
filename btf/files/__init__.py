"""From any file to BTF: ELF files, kernel images, raw BTF, standalone, split or distilled."""
