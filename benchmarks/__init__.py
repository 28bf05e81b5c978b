"""Benchmarks of the bridge on this machine. Their programs are run by the harness of the tests (`tests/support`)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
