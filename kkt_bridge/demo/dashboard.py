"""The bridge as a dashboard can know it: from the contract's topics, and from nothing else.

States, events, replies, and the requests that POS terminals publish; time is an argument, seconds of the
monotonic clock.
"""

import json
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from kkt_bridge.demo.paper import PaperLine, receipt_lines, shift_lines
from kkt_bridge.wire.topics import Topics

CAPTIONS_MAX: Final = 50
PAPER_MAX: Final = 300
REQUESTS_MAX: Final = 500
"""Requests remembered for the goods on the paper, until their replies come."""

FILL_STEPS: Final = (80, 90, 100)
"""Percent of the buffer at which a caption says so."""

SLICE_S: Final = 0.5
"""Events are counted by slices of time as long as this."""
SLICES_MAX: Final = 400

Mood = Literal["plain", "good", "warn", "bad", "story"]
PosState = Literal["free", "asks", "in line", "printing", "safe", "printed", "rejected"]


def _time_of_day() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence about an event, its mood, and the time of day."""

    text: str
    mood: Mood = "plain"
    at: str = field(default_factory=_time_of_day)


class Rate:
    """Counts of events in the last slices of time; `now` is the monotonic clock."""

    def __init__(self) -> None:
        self._counts: deque[int] = deque([0], maxlen=SLICES_MAX)
        self._slice = 0

    def count(self, times: int, now: float) -> None:
        """Count so many events."""
        self._move_on(now)
        self._counts[-1] += times

    def latest(self, width: int, now: float) -> list[int]:
        """Return the counts of the last `width` slices that are over, oldest first, zeros before the beginning."""
        self._move_on(now)
        over = list(self._counts)[:-1][-width:]
        return [0] * (width - len(over)) + over

    def per_second(self, now: float) -> float:
        """Return the rate over the last two seconds."""
        slices = int(2 / SLICE_S)
        return sum(self.latest(slices, now)) / (slices * SLICE_S)

    def _move_on(self, now: float) -> None:
        current = int(now / SLICE_S)
        # Before the first beat the slice is 0: the past that was not watched is not filled slice by slice.
        missed = min(current - self._slice, SLICES_MAX) if self._slice else 0
        self._counts.extend([0] * missed)
        self._slice = current


@dataclass(slots=True)
class PosTerminal:
    """A POS terminal, as far as its messages tell."""

    state: PosState = "free"
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
class Dashboard:
    """The bridge as seen from outside."""

    topics: Topics
    online: bool = False
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last message of each `state/...` topic but those of registers."""
    state_at: dict[str, float] = field(default_factory=dict)
    """The time of each."""
    breaker: str = "closed"
    network: str = "online"
    terminals: defaultdict[str, PosTerminal] = field(default_factory=lambda: defaultdict(PosTerminal))
    registers: defaultdict[str, Register] = field(default_factory=lambda: defaultdict(Register))
    printed: Rate = field(default_factory=Rate)
    delivered: Rate = field(default_factory=Rate)
    on_paper: set[tuple[str, str]] = field(default_factory=set)
    """POS and receipt id of whatever was printed, whoever sold it."""
    captions: deque[Caption] = field(default_factory=lambda: deque(maxlen=CAPTIONS_MAX))
    captions_so_far: int = 0
    """Those that are forgotten included."""
    started: bool = False
    """True once the bridge has been healthy, or has printed: before that its parts are still starting."""
    _requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    _fill_step: int = 0

    def subscriptions(self) -> list[str]:
        """Return the topics that it is made from."""
        branch = self.topics.branch
        return [f"{branch}/state/#", f"{branch}/event/#", f"{branch}/pos/+/receipt", f"{branch}/pos/+/reply"]

    def take(self, topic: str, payload: bytes, now: float) -> None:
        """Take a message in; one that is not understood changes nothing."""
        try:
            message = json.loads(payload)
            self._apply(topic.removeprefix(self.topics.branch + "/").split("/"), message, now)
        except (ValueError, LookupError, TypeError, AttributeError):
            return

    def add_caption(self, text: str, mood: Mood = "story") -> None:
        """Add a caption; by default about what the demo itself does."""
        self.captions.append(Caption(text, mood))
        self.captions_so_far += 1

    def buffer(self, name: str) -> int:
        """Return a number of `state/buffer`, or of its `by_status`; 0 before the first message."""
        state = self.states.get("buffer", {})
        return int(state.get(name, state.get("by_status", {}).get(name, 0)))

    @property
    def fill_percent(self) -> float:
        """The fill of the buffer in percent."""
        return float(self.states.get("buffer", {}).get("percent_full", 0.0))

    def oldest_waits_s(self) -> float:
        """Return the age of the oldest receipt in the buffer when the bridge last said so; 0 if none waits."""
        state = self.states.get("buffer", {})
        oldest = state.get("oldest_pending_at")
        return 0.0 if oldest is None else _ms_between(oldest, state["at"]) / 1000

    def seconds_to_probe(self, now: float) -> float | None:
        """Return the time until the open breaker lets the next request through; None if it does not say."""
        state = self.states.get("breaker", {})
        if self.breaker != "open" or state.get("next_probe_at") is None:
            return None
        # Both times are the bridge's: its clock need not agree with ours.
        ahead = datetime.fromisoformat(state["next_probe_at"]) - datetime.fromisoformat(state["at"])
        return max(0.0, ahead.total_seconds() - (now - self.state_at["breaker"]))

    def _apply(self, levels: list[str], message: dict[str, Any], now: float) -> None:
        match levels:
            case ["state", "kkt", kkt]:
                register = self.registers[kkt]
                register.state = message
                register.fd_number = max(message["last_fd_number"] or 0, register.fd_number or 0) or None
            case ["state", name]:
                self.states[name], self.state_at[name] = message, now
                self._on_state(name, message)
            case ["event", kind]:
                self._on_event(kind, message, now)
            case ["pos", pos, "receipt"]:
                self._on_request(pos, message)
            case ["pos", pos, "reply"]:
                self._on_reply(pos, message)

    def _on_state(self, name: str, state: dict[str, Any]) -> None:
        match name:
            case "online":
                self._on_online(state["online"])
            case "health":
                self.started = self.started or state["status"] == "healthy"
            case "buffer":
                self._on_fill(state["percent_full"])
            case "breaker":
                self.breaker = state["state"]
            case "sync":
                self.network = state["network"]

    def _on_event(self, kind: str, event: dict[str, Any], now: float) -> None:
        match kind:
            case "receipt":
                for step in event["steps"]:
                    self._on_step(step, now)
            case "breaker":
                self.breaker = event["to"]
                self._on_breaker(event)
            case "network":
                self.network = event["to"]
                self._on_network(event["from"], event["to"])
            case "shift":
                opened = "open" if event["open"] else "closed"
                self.add_caption(f"Shift {event['number']} is {opened} on {event['kkt']}", "plain")
                self._print(event, shift_lines(event))

    def _on_breaker(self, event: dict[str, Any]) -> None:
        match event["from"], event["to"]:
            case "half_open", "open":
                self.add_caption("One careful question to the OFD: no answer yet", "warn")
            case "half_open", "closed":
                self.add_caption("One careful question to the OFD, and it answers: the buffer drains", "good")
            case _, "open":
                text = f"Breaker open after {event['failures']} failures: the OFD is left in peace"
                self.add_caption(text, "bad")

    def _on_network(self, previous: str, current: str) -> None:
        if current == "online":
            self.add_caption("The OFD is back: what waited is being delivered", "good")
        elif previous == "online":
            self.add_caption("OFD is away: sales go on, documents wait", "bad")

    # -- what POS terminals and bridge say to each other --------------------------------------------------------

    def _on_request(self, pos: str, request: dict[str, Any]) -> None:
        if len(self._requests) >= REQUESTS_MAX:
            self._requests.clear()
        self._requests[request["receipt_id"]] = request
        self._change_terminal(pos, "asks")

    def _on_reply(self, pos: str, reply: dict[str, Any]) -> None:
        if not reply["final"]:
            self._change_terminal(pos, "safe" if reply["status"] == "buffered" else "free")
            return
        request = self._requests.pop(reply["receipt_id"], None)
        terminal = self._change_terminal(pos, reply["status"])
        if reply["status"] == "rejected":
            terminal.error = reply["error"]["code"]
            self.add_caption(f"{pos}: rejected, {terminal.error}", "bad")
            return
        fiscal = reply["fiscal"]
        terminal.total, terminal.fd_number = fiscal["total"], fiscal["fd_number"]
        terminal.latency_ms = _ms_between(reply["received_at"], reply["printed_at"])
        if not reply["duplicate"]:
            self._print(fiscal, receipt_lines(fiscal, request))

    def _change_terminal(self, pos: str, state: PosState) -> PosTerminal:
        terminal = self.terminals[pos]
        terminal.state = state
        return terminal

    # -- what the bridge says of itself ----------------------------------------------------------------------------

    def _on_online(self, online: bool) -> None:  # noqa: FBT001 (a field of a message)
        if online != self.online:
            self.online = online
            if online:
                self.add_caption("The bridge is online", "good")
            else:
                self.add_caption("The bridge is offline", "bad")

    def _on_fill(self, percent: float) -> None:
        reached = max((step for step in FILL_STEPS if percent >= step), default=0)
        if reached > self._fill_step:
            if reached < 100:
                self.add_caption(f"The buffer is {reached} % full", "warn")
            else:
                self.add_caption("The buffer is full: new receipts are refused until the OFD takes one", "bad")
        self._fill_step = reached

    def _on_step(self, step: dict[str, Any], now: float) -> None:
        if step["to"] == "printed":
            self.started = True
            self.printed.count(1, now)
            self.on_paper.add((step["pos_id"], step["receipt_id"]))
        elif step["to"] == "synced":
            self.delivered.count(1, now)
        elif step["to"] == "dead":
            text = f"A document of {step['pos_id']} is in the dead-letter queue: {step.get('error')}"
            self.add_caption(text, "bad")
        terminal = self.terminals.get(step["pos_id"])
        # Steps travel a moment later than replies: only a terminal that still waits learns from them.
        if terminal is not None and terminal.state in _WAITING and (state := _STEP_STATES.get(step["to"])):
            terminal.state = state

    def _print(self, document: dict[str, Any], lines: list[PaperLine]) -> None:
        register = self.registers[document["kkt"]]
        register.fd_number = max(document["fd_number"], register.fd_number or 0)
        register.paper.extend(lines)
        register.lines_printed += len(lines)


def _ms_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds() * 1000


_WAITING: Final = frozenset({"asks", "in line", "printing"})
_STEP_STATES: Final[dict[str, PosState]] = {"buffered": "in line", "printing": "printing"}
