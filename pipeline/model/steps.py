"""What is being done now, for whoever listens: the command line shows it, a library's user may."""

from __future__ import annotations

import logging

NAME = "splitbtf"
STEPS = logging.getLogger(NAME)
"""Steps of weight are INFO, the others DEBUG. Nothing is shown unless somebody asks for it."""
