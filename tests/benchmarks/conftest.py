from collections.abc import Iterator
from pathlib import Path

import pytest
from support.brokers import mosquitto_program

from benchmarks.brokers import Mosquitto
from benchmarks.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    mosquitto_program()  # or the test is left out
    with Mosquitto(tmp_path) as broker:
        yield Site(tmp_path, broker, runs=1)
