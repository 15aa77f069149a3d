"""Where everything is: the one place that works out folders from its own."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
DATA = TESTS / "data"
DATASETS = ROOT / "datasets"
DEMO = DATASETS / "demo"
DEMO_LATER = DATASETS / "demo-6.12"
DEMO_S390X = DATASETS / "demo-s390x"
