"""What is being done now, for whoever listens: the command line shows it, a library's user may."""

from __future__ import annotations

import logging

from btf.format.text import printable

NAME = "splitbtf"
STEPS = logging.getLogger(NAME)
"""Steps of weight are INFO, the others DEBUG. Nothing is shown unless somebody asks for it."""


def _escape(record: logging.LogRecord) -> bool:
    """Names and paths that a step is about are input: whoever listens gets what can be printed."""
    if isinstance(record.args, tuple):
        record.args = tuple(printable(v) if isinstance(v, str) else v for v in record.args)
    return True


STEPS.addFilter(_escape)
