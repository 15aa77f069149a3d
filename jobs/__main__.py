"""``python -m jobs`` is the command ``splitbtf``."""

import sys

from .cli import main

sys.exit(main())
