"""The broker, whether it delivers what it takes on the same topic, and the bridge as seen through it."""

import secrets
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from kkt_bridge.cli.checkup import CheckupFinding, fail, ok, warn
from kkt_bridge.cli.checkup.journal import LockHolder
from kkt_bridge.cli.connection import BridgeAway, BridgeClient, CommandRefused, whoami
from kkt_bridge.errors import BrokerAway
from kkt_bridge.mqtt.client import BridgeAddress, BrokerClient
from kkt_bridge.wire.topics import Topics

ECHO_TIMEOUT_S: Final = 3.0
"""For a message to the broker and back."""


@dataclass(frozen=True, slots=True)
class Echo:
    """The fate of a message through the broker to ourselves."""

    topic: str
    """Where it was published."""
    heard_on: str | None = None
    """Where it came back; None if it did not."""
    problem: str | None = None
    """Why it could not be tried: the broker's access list, most likely."""

    @property
    def is_true(self) -> bool:
        """True if it came back on the same topic."""
        return self.heard_on == self.topic


def echo_check(client: BrokerClient, topics: Topics, timeout_s: float = ECHO_TIMEOUT_S) -> Echo:
    """Send a message on the reply topic of a POS that does not exist, and listen for it there.

    Brokers that map topics to something of their own may change them on the way: RabbitMQ makes slashes of dots, so
    that receipts for `store.017` arrive where nobody listens, acknowledged.

    Nobody else listens there: neither the bridge, which reads requests alone, nor a POS, nor a dashboard; and nothing
    of it stays at the broker. The client is connected; what it has received before is passed over.
    """
    topic = topics.reply(f"echo-{secrets.token_hex(4)}")
    content = secrets.token_hex(16).encode()
    try:
        client.subscribe([topic])
        client.publish(topic, content)
    except BrokerAway as problem:
        return Echo(topic, problem=str(problem))
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        message = client.get(left)
        if message is not None and message.payload == content:
            return Echo(topic, heard_on=message.topic)
    return Echo(topic)


ROUND_TRIPS: Final = 3
ANSWER_TIMEOUT_S: Final = 5.0
SLOW_MS: Final = 40.0
"""The least cost of TCP's delayed acknowledgement where a side of the connection lacks TCP_NODELAY."""

_VERSIONS: Final = {5: "5", 4: "3.1.1"}


@dataclass(slots=True)
class BrokerCheckup:
    """Findings, and the registers' states by the bridge's answer; None without an answer."""

    findings: list[CheckupFinding] = field(default_factory=list)
    registers: dict[str, Any] | None = None


def examine_broker(where: BridgeAddress, hold: LockHolder | None) -> BrokerCheckup:
    """Check that the broker lets us in, and that the bridge answers there; `hold` is that of its journal."""
    checkup = BrokerCheckup()
    checkup.findings.extend(_examine(where, hold, checkup))
    return checkup


def _examine(where: BridgeAddress, hold: LockHolder | None, checkup: BrokerCheckup) -> Iterator[CheckupFinding]:
    started = time.monotonic()
    try:
        with BridgeClient(where) as client:
            took_ms = (time.monotonic() - started) * 1000
            version = _VERSIONS[client.client.protocol]
            yield ok("broker", f"{where.host}:{where.port} lets us in with MQTT {version}, in {took_ms:.0f} ms")
            yield _examine_echo(_echo(where))
            yield from _examine_bridge(client, hold, checkup)
    except BrokerAway as away:
        advice = "start the broker, or check mqtt.host, port, username and password; the bridge waits for it meanwhile"
        yield fail("broker", str(away), advice)


def _echo(where: BridgeAddress) -> Echo:
    """Send and receive on a connection of its own: some brokers end it over a topic that they do not allow."""
    with where.client() as client:
        return echo_check(client, where.topics)


def _examine_echo(echo: Echo) -> CheckupFinding:
    if echo.is_true:
        return ok("topics", "what is sent under the bridge's names comes back as it went")
    if echo.problem is not None:
        return warn(
            "topics", f"not tried: {echo.problem}", "no harm where the access list does not let us read replies"
        )
    if echo.heard_on is not None:
        what = f"the broker changes topics: {echo.topic} comes back as {echo.heard_on}"
        return fail(
            "topics", what, "receipts would be lost: choose a bridge_id, POS and topic_root that it leaves alone"
        )
    # Mosquitto grants a subscription that its access list forbids, and delivers nothing.
    advice = (
        "no harm where the access list does not let the bridge's user read replies; or else look at the broker's log"
    )
    return warn("topics", f"{echo.topic} was taken by the broker and did not come back", advice)


def _examine_bridge(client: BridgeClient, hold: LockHolder | None, checkup: BrokerCheckup) -> Iterator[CheckupFinding]:
    client.listen("status")
    try:
        client.require_bridge()
    except BridgeAway as away:
        yield _examine_absence(str(away), hold)
        return
    if hold is None:
        advice = "run this on the bridge's own machine; or is there a second bridge with this bridge_id?"
        yield warn("bridge", "online at the broker, but not running on this journal", advice)
    else:
        yield ok("bridge", f"online at the broker, and running on this journal ({hold})")
    try:
        yield _examine_round_trip(client, checkup)
    except BrokerAway as refused:
        if not client.client.connected:
            raise
        # As it should be where there is an access list: the bridge carries commands out, and sends none.
        yield ok("bridge answers", f"not asked, as the bridge's own user may not send commands ({refused})")
    except (BridgeAway, CommandRefused) as problem:
        yield fail("bridge answers", str(problem), "look at the bridge's log")


def _examine_absence(how: str, hold: LockHolder | None) -> CheckupFinding:
    if hold is None:
        return warn("bridge", f"not running: {how}", "start it when all else is well")
    advice = "look at the bridge's log; was it started with another configuration?"
    return fail("bridge", f"running on this journal ({hold}), but not at this broker: {how}", advice)


def _examine_round_trip(client: BridgeClient, checkup: BrokerCheckup) -> CheckupFinding:
    """Check the time from a command to its answer: twice through the broker, and two commits of the bridge."""
    times_ms = []
    for _ in range(ROUND_TRIPS):
        started = time.monotonic()
        checkup.registers = client.exchange("status", {}, whoami(), ANSWER_TIMEOUT_S).get("kkt", {})
        times_ms.append((time.monotonic() - started) * 1000)
    took_ms = statistics.median(times_ms)
    reason = f"a command and its answer take {took_ms:.1f} ms"
    if took_ms >= SLOW_MS:
        advice = "set_tcp_nodelay true in mosquitto.conf; if it is set, the journal's disk is slow"
        return warn("bridge answers", reason, advice)
    return ok("bridge answers", reason)
