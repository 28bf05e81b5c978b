"""What one receipt really takes: bytes and messages on the broker, in the journal, on the way to the OFD."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from benchmarks.bridge import Bridge, Shop
from benchmarks.contenders import load_bridge, load_of
from benchmarks.ofd import Ofd
from benchmarks.ports import HOST
from benchmarks.processes import wait_until
from benchmarks.site import Site
from kkt_bridge.mqtt.client import BrokerClient, Received

RATE = 20.0
"""Receipts a second: slow enough that each has its own commits and events, as in a shop."""
MEASURE_S = 10.0
QUIET_S = 30.0


@dataclass(frozen=True)
class Sizes:
    """For each receipt, topics and bodies included, protocols' headers not; state for each bridge."""

    request_bytes: float
    reply_bytes: float
    event_bytes: float
    events: float
    state_topics: int
    state_bytes: float
    """Of all its retained state together."""
    journal_bytes: float
    storage_bytes: float
    """In the register's own file."""
    ofd_bytes: float
    """Of a document's body."""


def measure_sizes(site: Site) -> Sizes:
    """Let a bridge take receipts one by one, deliver them, and stop; and count what it took."""
    ofd = Ofd(site.directory)
    bridge = site.bridge(Shop(ofd.url))
    with ofd:
        with _watched(site, bridge.branch) as seen, bridge:
            # Files are as large as that before the first receipt.
            empty = _file_bytes(bridge)
            receipts = load_bridge(bridge, replace(load_of(site), rate=RATE, measure_s=MEASURE_S)).answered
            wait_until(lambda: ofd.books()["total"] == receipts, QUIET_S, "every document at the OFD")
        bodies = [entry["body"] for entry in ofd.books(full=True)["documents"]]
    grown = {name: size - empty.get(name, 0) for name, size in _file_bytes(bridge).items()}
    numbers, lengths, states = Counter[str](), Counter[str](), {}
    for message in seen:
        kind = _kind(message.topic)
        numbers[kind] += 1
        lengths[kind] += _bytes(message)
        if kind == "state":
            states[message.topic] = _bytes(message)
    return Sizes(
        request_bytes=lengths["receipt"] / receipts,
        reply_bytes=lengths["reply"] / receipts,
        event_bytes=lengths["event"] / receipts,
        events=numbers["event"] / receipts,
        state_topics=len(states),
        state_bytes=sum(states.values()),
        journal_bytes=grown["journal.db"] / receipts,
        storage_bytes=grown["kkt-1.fn"] / receipts,
        ofd_bytes=sum(len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()) for body in bodies)
        / receipts,
    )


@contextmanager
def _watched(site: Site, branch: str) -> Iterator[list[Received]]:
    """Everything under a bridge's branch, until the end of the block."""
    seen: list[Received] = []
    with BrokerClient(HOST, site.broker.port) as client:
        client.on_message = seen.append
        client.subscribe([f"{branch}/#"])
        yield seen


def _file_bytes(bridge: Bridge) -> dict[str, int]:
    files = [bridge.journal, *bridge.storages.values()]
    return {file.name: file.stat().st_size for file in files if file.exists()}


def _kind(topic: str) -> str:
    levels = topic.split("/")
    return levels[-1] if "pos" in levels else next(level for level in levels if level in {"event", "state"})


def _bytes(message: Received) -> int:
    return len(message.topic.encode()) + len(message.payload)
