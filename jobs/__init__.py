"""The command line: one file per command, thin.

Lives here: arguments, wording, exit codes. Does not live here: anything that a program would want
to call (``pipeline``, ``btf``).
"""
