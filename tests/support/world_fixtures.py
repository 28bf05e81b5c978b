"""Fixtures: worlds on the brokers that the contract names. A conftest takes them by importing their names."""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from support.brokers import AmqttProcess, BrokerProcess, MosquittoProcess
from support.world import World

MakeWorld = Callable[..., World]


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MosquittoProcess]:
    """MQTT 5."""
    with MosquittoProcess(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker


@pytest.fixture(scope="session")
def amqtt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AmqttProcess]:
    """MQTT 3.1.1."""
    with AmqttProcess(tmp_path_factory.mktemp("amqtt")) as broker:
        yield broker


@pytest.fixture(params=["mosquitto", "amqtt"])
def any_broker(request: pytest.FixtureRequest) -> BrokerProcess:
    """Each of them in turn."""
    broker: BrokerProcess = request.getfixturevalue(request.param)
    return broker


@pytest.fixture
def make_world(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[MakeWorld]:
    """Makes and starts a world; on Mosquitto, unless the test brings a broker."""
    worlds: list[World] = []

    def make(settings: dict[str, Any] | None = None, broker: BrokerProcess | None = None, **parts: Any) -> World:
        broker = broker or request.getfixturevalue("mosquitto")
        world = World(tmp_path / f"world-{len(worlds)}", broker, settings, **parts)
        worlds.append(world)
        return world.start()

    yield make
    failed = request.node.stash.get(FAILED, False)
    for world in worlds:
        world.close(check=not failed)


@pytest.fixture(scope="module")
def calm_shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeWorld]:
    """Makes worlds that the tests of a module share: none of them may break anything in it."""
    worlds: list[World] = []

    def make(broker: BrokerProcess | None = None, settings: dict[str, Any] | None = None, **parts: Any) -> World:
        broker = broker or request.getfixturevalue("mosquitto")
        world = World(tmp_path_factory.mktemp("shop"), broker, settings, **parts)
        worlds.append(world)
        return world.start()

    yield make
    for world in worlds:
        world.close()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    """One register, everything well."""
    return make_world()


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the bridge's log with a failure, and let the fixtures know of it."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
        worlds = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, World)]
        report.sections += [("the bridge's log", world.bridge.tail()) for world in worlds]
    return report
