from collections.abc import Iterator
from pathlib import Path

import pytest
from support.brokers import MosquittoProcess

from benchmarks.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with MosquittoProcess(tmp_path) as broker:
        yield Site(tmp_path, broker, runs=1)
