"""What a dashboard can know of a bridge: everything here comes from the contract's topics, nothing from elsewhere.

States, events, replies, and the requests that POS terminals publish; time is an argument, seconds of the
monotonic clock.
"""

import json
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from kkt_bridge.demo import captions
from kkt_bridge.demo.captions import Caption
from kkt_bridge.demo.paper import PaperLine, receipt_lines, shift_lines
from kkt_bridge.demo.pulse import Pulse
from kkt_bridge.wire.topics import Topics

CAPTIONS_MAX: Final = 50
PAPER_MAX: Final = 300
REQUESTS_MAX: Final = 500
"""Requests remembered for the goods on the paper, until their replies come."""

TillState = Literal["free", "asks", "in line", "printing", "safe", "printed", "rejected"]


@dataclass(slots=True)
class Till:
    """A POS terminal, as far as its messages tell."""

    state: TillState = "free"
    since: float = 0.0
    total: str = ""
    fd_number: int | None = None
    error: str = ""
    latency_ms: float | None = None
    """From taken to printed, by the bridge's own clock."""


@dataclass(slots=True)
class Register:
    """A fiscal register: its last state, and the paper that came out of it."""

    state: dict[str, Any] = field(default_factory=dict)
    paper: deque[PaperLine] = field(default_factory=lambda: deque(maxlen=PAPER_MAX))
    lines_printed: int = 0
    fd_number: int | None = None
    """Of the last document that is known of."""


@dataclass(slots=True)
class Picture:
    """The bridge as seen from outside."""

    topics: Topics
    online: bool = False
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last message of each `state/...` topic but those of registers."""
    state_at: dict[str, float] = field(default_factory=dict)
    """When each came."""
    breaker: str = "closed"
    network: str = "online"
    away_since: float | None = None
    """Since when the OFD is not reached; None while it is."""
    tills: dict[str, Till] = field(default_factory=dict)
    registers: dict[str, Register] = field(default_factory=dict)
    printed: Pulse = field(default_factory=Pulse)
    delivered: Pulse = field(default_factory=Pulse)
    on_paper: set[tuple[str, str]] = field(default_factory=set)
    """POS and receipt id of whatever was printed, whoever sold it."""
    captions: deque[Caption] = field(default_factory=lambda: deque(maxlen=CAPTIONS_MAX))
    told: int = 0
    """Captions so far, those forgotten included."""
    _requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    _fill: int = 0
    _started: bool = False

    def subscriptions(self) -> list[str]:
        """The topics that it is drawn from."""
        branch = self.topics.branch
        return [f"{branch}/state/#", f"{branch}/event/#", f"{branch}/pos/+/receipt", f"{branch}/pos/+/reply"]

    def take(self, topic: str, payload: bytes, now: float) -> None:
        """Take a message into the picture; what is not understood is left out of it."""
        try:
            message = json.loads(payload)
            self._place(topic.removeprefix(self.topics.branch + "/").split("/"), message, now)
        except (ValueError, LookupError, TypeError, AttributeError):
            return

    def tell(self, caption: Caption | None) -> None:
        """Add a caption to the story."""
        if caption is not None:
            self.captions.append(caption)
            self.told += 1

    def buffer(self, name: str) -> int:
        """A number of `state/buffer`, or of its `by_status`; 0 before the first message."""
        state = self.states.get("buffer", {})
        return int(state.get(name, state.get("by_status", {}).get(name, 0)))

    @property
    def started(self) -> bool:
        """Whether the bridge has once been well, or printed: before that its parts are still meeting."""
        return self._started

    @property
    def fill_percent(self) -> float:
        """How full the buffer is."""
        return float(self.states.get("buffer", {}).get("percent_full", 0.0))

    def oldest_waits_s(self) -> float:
        """How long the oldest receipt in the buffer had waited when the bridge last said so; 0 if none waits."""
        state = self.states.get("buffer", {})
        oldest = state.get("oldest_pending_at")
        return 0.0 if oldest is None else _ms_between(oldest, state["at"]) / 1000

    def seconds_to_probe(self, now: float) -> float | None:
        """Until the open breaker lets the next question through; None if it does not say."""
        state = self.states.get("breaker", {})
        if self.breaker != "open" or state.get("next_probe_at") is None:
            return None
        # Both times are the bridge's: its clock need not agree with ours.
        ahead = datetime.fromisoformat(state["next_probe_at"]) - datetime.fromisoformat(state["at"])
        return max(0.0, ahead.total_seconds() - (now - self.state_at["breaker"]))

    def _place(self, levels: list[str], message: dict[str, Any], now: float) -> None:
        match levels:
            case ["state", "kkt", kkt]:
                register = self._register(kkt)
                register.state = message
                register.fd_number = max(message["last_fd_number"] or 0, register.fd_number or 0) or None
            case ["state", name]:
                self.states[name], self.state_at[name] = message, now
                self._on_state(name, message, now)
            case ["event", kind]:
                self._on_event(kind, message, now)
            case ["pos", pos, "receipt"]:
                self._on_request(pos, message, now)
            case ["pos", pos, "reply"]:
                self._on_reply(pos, message, now)

    def _on_state(self, name: str, state: dict[str, Any], now: float) -> None:
        match name:
            case "online":
                self._on_online(state["online"])
            case "health":
                self._started = self._started or state["status"] == "healthy"
            case "buffer":
                self._on_fill(state["percent_full"])
            case "breaker":
                self.breaker = state["state"]
            case "sync":
                self._believe(state["network"], now)

    def _on_event(self, kind: str, event: dict[str, Any], now: float) -> None:
        match kind:
            case "receipt":
                for step in event["steps"]:
                    self._on_step(step, now)
            case "breaker":
                self.breaker = event["to"]
                self.tell(captions.breaker(event))
            case "network":
                self.tell(captions.network(event["from"], event["to"]))
                self._believe(event["to"], now)
            case "shift":
                self.tell(captions.shift(event))
                self._print(event, shift_lines(event))

    # -- what POS terminals and bridge say to each other --------------------------------------------------------

    def _on_request(self, pos: str, request: dict[str, Any], now: float) -> None:
        if len(self._requests) >= REQUESTS_MAX:
            self._requests.clear()
        self._requests[request["receipt_id"]] = request
        self._change_till(pos, "asks", now)

    def _on_reply(self, pos: str, reply: dict[str, Any], now: float) -> None:
        if not reply["final"]:
            self._change_till(pos, "safe" if reply["status"] == "buffered" else "free", now)
            return
        request = self._requests.pop(reply["receipt_id"], None)
        till = self._change_till(pos, reply["status"], now)
        if reply["status"] == "rejected":
            till.error = reply["error"]["code"]
            self.tell(captions.rejected(pos, till.error))
            return
        fiscal = reply["fiscal"]
        till.total, till.fd_number = fiscal["total"], fiscal["fd_number"]
        till.latency_ms = _ms_between(reply["received_at"], reply["printed_at"])
        if not reply["duplicate"]:
            self._print(fiscal, receipt_lines(fiscal, request))

    def _change_till(self, pos: str, state: TillState, now: float) -> Till:
        till = self.tills.setdefault(pos, Till())
        till.state, till.since = state, now
        return till

    # -- what the bridge says of itself ----------------------------------------------------------------------------

    def _on_online(self, online: bool) -> None:  # noqa: FBT001 (a field of a message)
        if online != self.online:
            self.online = online
            self.tell(captions.presence(online=online))

    def _on_fill(self, percent: float) -> None:
        reached = captions.fill_step(percent)
        if reached > self._fill:
            self.tell(captions.filling(reached))
        self._fill = reached

    def _believe(self, network: str, now: float) -> None:
        self.network = network
        if network == "online":
            self.away_since = None
        elif self.away_since is None:
            self.away_since = now

    def _on_step(self, step: dict[str, Any], now: float) -> None:
        if step["to"] == "printed":
            self._started = True
            self.printed.beat(1, now)
            self.on_paper.add((step["pos_id"], step["receipt_id"]))
        elif step["to"] == "synced":
            self.delivered.beat(1, now)
        elif step["to"] == "dead":
            self.tell(captions.dead(step))
        till = self.tills.get(step["pos_id"])
        # Steps travel a moment later than replies: only a till that still waits learns from them.
        if till is not None and till.state in _WAITING and (state := _STEP_STATES.get(step["to"])):
            till.state = state

    def _register(self, kkt: str) -> Register:
        return self.registers.setdefault(kkt, Register())

    def _print(self, document: dict[str, Any], lines: list[PaperLine]) -> None:
        register = self._register(document["kkt"])
        register.fd_number = max(document["fd_number"], register.fd_number or 0)
        register.paper.extend(lines)
        register.lines_printed += len(lines)


def _ms_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds() * 1000


_WAITING: Final = frozenset({"asks", "in line", "printing"})
_STEP_STATES: Final[dict[str, TillState]] = {"buffered": "in line", "printing": "printing"}
