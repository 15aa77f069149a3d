"""The batch pipeline: from sources on disk to split BTF files and Parquet tables.

    source -> discover -> batch -> dedupe -> describe -> write -> commit

Lives here: finding inputs, reading files, running batches in this process, in local worker
processes or on Ray, building tables, committing them. Does not live here: anything about the BTF
format or deduplication (``btf``), and argument parsing and wording for people (``jobs``).

Words used throughout:

kernel   one base and the modules that belong to it; the unit that is committed
input    one file that should hold a module's BTF
batch    inputs that one call of the batch function handles
record   what is known about one module afterwards: a row of the table ``modules``
part     one Parquet file of one table
manifest the file that makes a kernel's parts visible to readers
"""

from btf import __version__ as __version__
