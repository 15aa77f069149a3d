"""Compiling with Numba: only imported when machine code is missing.

Numba compiles each function that another one calls to machine code of its own, linked with and
optimised together with all that it calls, and wraps it twice for callers in Python and C.
For a hundred small functions that call each other, that is most of the time (57 s for those of
deduplication, now 9). Here Numba's front end types a function and writes its LLVM IR, once; what
one call from Python reaches is linked once, optimised once and written as one object file, whose
only function takes the address of a frame with all arguments (see ``jit``). Of what is left, two
thirds are the front end: it runs the passes that matter here, and writes as little IR as can be.

frontend   the part of Numba's compiler that is used, and how
lowering   arrays and named tuples in LLVM: plain addresses instead of counted objects
entry      the function that takes the frame, and the object file
checks     lowering that has every index checked, for tests
image      the object file as machine code that needs no loader
machine    the processor, and loading where it has to be LLVM that does it

This builds on parts of Numba that are not its public interface; pyproject.toml names the versions
that were tried.
"""

from .entry import compile_entry
from .frontend import dispatcher_type, instruction_type
from .machine import load_object

__all__ = ["compile_entry", "dispatcher_type", "instruction_type", "load_object"]
