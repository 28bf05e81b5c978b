"""Running bridges to try commands on."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.running_bridge import RunningBridge, opened
from support.brokers import AmqttProcess, free_port


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBridge]:
    """A bridge that the tests of a module share, each leaving it healthy."""
    with opened(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def own_shop(tmp_path: Path) -> Iterator[RunningBridge]:
    """A bridge to break."""
    with opened(tmp_path) as shop:
        yield shop


@pytest.fixture
def old_shop(tmp_path: Path) -> Iterator[RunningBridge]:
    """A bridge whose broker speaks MQTT 3.1.1."""
    with opened(tmp_path, AmqttProcess) as shop:
        yield shop


@pytest.fixture
def closed_port() -> int:
    """A port that nobody listens on."""
    return free_port()
