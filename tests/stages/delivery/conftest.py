"""A simulated OFD for the tests of delivery."""

import pytest
from support.delivery import Ofd

from kkt_bridge.simulators.ofd import OfdSimulator


@pytest.fixture
def simulator():
    with OfdSimulator() as running:
        yield running


@pytest.fixture
def ofd(simulator):
    client = Ofd(simulator.url)
    yield client
    client.set_faults()
