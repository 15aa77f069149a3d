"""The figures of a report about all kernels of an output folder."""

from .figures import Figure, figures

__all__ = ["Figure", "figures"]
