"""Stage 4: the outbox and the steps of receipts to the broker, at least once, in order.

Works in the session's thread. A message stays in the journal until the broker's PUBACK; on a new
connection everything unacknowledged goes out again. Steps are gathered for a moment, so that a busy
bridge publishes a few large events and not thousands of small ones.
"""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final, Protocol

from kkt_bridge.broker.link import Outgoing
from kkt_bridge.clock import Clock
from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.outbox import forget_messages, messages_after
from kkt_bridge.journal.rows import Message, Step
from kkt_bridge.journal.steps import set_steps_published, steps_after, steps_published, with_sales
from kkt_bridge.journal.transaction import Touched, Transaction
from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.stages.feed import Feed
from kkt_bridge.wire.messages import STEPS_PER_EVENT_MAX, ReceiptEvent, ReceiptStep
from kkt_bridge.wire.times import rfc3339
from kkt_bridge.wire.topics import Topics

UNREADABLE_S: Final = 1.0
"""How long a journal that could not be read is left alone."""

IN_FLIGHT_MAX: Final = 400
"""Messages handed to the session and not yet acknowledged."""

EVENT_DELAY_S: Final = 0.03
"""How long steps are gathered; the contract allows 100 ms."""

STEPS_READ_MAX: Final = 2 * STEPS_PER_EVENT_MAX
EVENTS_IN_FLIGHT_MAX: Final = 20

log = logging.getLogger(__name__)


class Link(Protocol):
    """What the publisher needs of the MQTT session."""

    def publish(self, message: Outgoing) -> None:
        """Queue a message at QoS 1."""
        ...


@dataclass(slots=True)
class _Sent:
    """An event on its way: up to which step it tells."""

    last_step: int
    acknowledged: bool = False


class Publisher:
    """Tells the world what the disk holds."""

    def __init__(
        self, *, journal: Journal, link: Link, topics: Topics, zone: tzinfo, events_max_age_s: float, clock: Clock
    ) -> None:
        self._journal = journal
        self._link = link
        self._receipt_event = topics.event("receipt")
        self._zone = zone
        self._events_max_age_ms = int(events_max_age_s * 1000)
        self._clock = clock
        self._up = False
        self._starting_over = False
        self._messages: Feed[Message] = Feed(self._read_messages)
        self._steps: Feed[Step] = Feed(self._read_steps)
        self._cut_off: list[Step] = []
        """Steps of a commit of which there are more, taken and not yet told."""
        self._in_flight: set[int] = set()
        self._delivered: list[int] = []
        self._events: deque[_Sent] = deque()
        self._steps_wait_since: float | None = None
        self._unreadable_until = float("-inf")

    def committed(self, touched: Touched) -> None:
        """Take note of a commit; from any thread."""
        self._messages.committed(touched.messages)
        self._steps.committed(touched.steps)
        if touched.steps and self._steps_wait_since is None:
            self._steps_wait_since = self._clock.monotonic()

    def link_up(self) -> None:
        """Start over: what the broker has acknowledged is gone from the journal, the rest goes out."""
        self._up = self._starting_over = True

    def link_down(self) -> None:
        """Wait for the next connection."""
        self._up = False

    def published(self, token: object) -> None:
        """The broker has a message: forget it, with the next commit."""
        match token:
            case _Sent():
                token.acknowledged = True
            case int():
                self._in_flight.discard(token)
                self._delivered.append(token)

    def step(self) -> float | None:
        """Hand over what is due. A journal that cannot be read must not silence the session: it has the same thread."""
        self._forget_delivered()
        if not self._up or self._clock.monotonic() < self._unreadable_until:
            return None if not self._up else UNREADABLE_S
        try:
            return self._publish()
        except StorageUnavailable as problem:
            log.warning("what is to be published cannot be read: %s", problem)
            self._steps_wait_since = self._clock.monotonic()
            self._unreadable_until = self._clock.monotonic() + UNREADABLE_S
            return UNREADABLE_S

    def _publish(self) -> float | None:
        if self._starting_over:
            self._start_over()
        self._publish_messages()
        return self._publish_steps()

    def _start_over(self) -> None:
        self._steps.start_over(self._journal.read(steps_published))
        self._messages.start_over(0)
        self._cut_off = []
        self._in_flight.clear()
        self._events.clear()
        self._steps_wait_since = self._clock.monotonic() - EVENT_DELAY_S
        self._starting_over = False

    def _publish_messages(self) -> None:
        for message in self._messages.take(IN_FLIGHT_MAX - len(self._in_flight)):
            self._hand_over(message)

    def _hand_over(self, message: Message) -> None:
        self._in_flight.add(message.id)
        self._link.publish(Outgoing(message.topic, message.payload, correlation=message.correlation, token=message.id))

    def _read_messages(self, after: int, limit: int) -> list[Message]:
        return self._journal.read(lambda connection: messages_after(connection, after, limit))

    def _read_steps(self, after: int, limit: int) -> list[Step]:
        return self._journal.read(lambda connection: steps_after(connection, after, limit))

    def _publish_steps(self) -> float | None:
        since = self._steps_wait_since
        if since is None or len(self._events) >= EVENTS_IN_FLIGHT_MAX:
            return None
        wait = since + EVENT_DELAY_S - self._clock.monotonic()
        if wait > 0:
            return wait
        self._steps_wait_since = None  # before taking: a commit meanwhile sets it again
        steps = self._steps.take(STEPS_READ_MAX)
        there_is_more = len(steps) == STEPS_READ_MAX
        steps, self._cut_off = _divided(self._cut_off + steps) if there_is_more else (self._cut_off + steps, [])
        for event in _grouped(self._with_sales(steps)):
            self._publish_event(event)
        if there_is_more:
            self._steps_wait_since = since
        return 0.0 if self._steps_wait_since is not None else None

    def _with_sales(self, steps: list[Step]) -> list[Step]:
        try:
            return self._journal.read(lambda connection: with_sales(connection, steps))
        except StorageUnavailable:
            return steps  # better told without their sums than taken from the feed and not told

    def _publish_event(self, steps: list[Step]) -> None:
        sent = _Sent(steps[-1].id)
        self._events.append(sent)
        news = self._journal.steady_ms() - self._events_max_age_ms
        told = [_told(step, self._zone) for step in steps if step.at_steady_ms >= news]
        if told:
            self._link.publish(Outgoing(self._receipt_event, ReceiptEvent(steps=told).payload(), token=sent))
        else:
            sent.acknowledged = True

    def _forget_delivered(self) -> None:
        """What the broker has need not be sent again; if this is lost in a crash, it is sent twice."""
        published = 0
        while self._events and self._events[0].acknowledged:
            published = self._events.popleft().last_step
        delivered, self._delivered = self._delivered, []
        if delivered or published:
            self._journal.post(lambda tx: _note_delivered(tx, delivered, published))


def _note_delivered(tx: Transaction, messages: list[int], steps: int) -> None:
    if messages:
        forget_messages(tx, messages)
    if steps:
        set_steps_published(tx, steps)


def _divided(steps: list[Step]) -> tuple[list[Step], list[Step]]:
    """Where more steps follow: those of whole commits, and those of the last one, which may be cut in the middle."""
    last = steps[-1].commit_no
    if steps[0].commit_no == last:
        return steps, []  # more than a message holds: it is cut anyway
    whole = [step for step in steps if step.commit_no != last]
    return whole, steps[len(whole) :]


def _grouped(steps: list[Step]) -> Iterator[list[Step]]:
    """Steps in messages of their size, those of one commit in one message where they fit."""
    message: list[Step] = []
    for commit in _by_commit(steps):
        if message and len(message) + len(commit) > STEPS_PER_EVENT_MAX:
            yield message
            message = []
        message += commit
        while len(message) > STEPS_PER_EVENT_MAX:
            yield message[:STEPS_PER_EVENT_MAX]
            message = message[STEPS_PER_EVENT_MAX:]
    if message:
        yield message


def _by_commit(steps: list[Step]) -> Iterator[list[Step]]:
    commit: list[Step] = []
    for step in steps:
        if commit and commit[0].commit_no != step.commit_no:
            yield commit
            commit = []
        commit.append(step)
    if commit:
        yield commit


def _told(step: Step, zone: tzinfo) -> ReceiptStep:
    return ReceiptStep(
        receipt_id=step.receipt_id,
        pos_id=step.pos_id,
        kkt=step.kkt,
        from_=step.from_status,
        to=step.to_status,
        fd_number=step.fd_number,
        error=step.error,
        type=step.type,
        total=None if step.total is None else format_kopecks(step.total),
        received_at=None if step.received_ms is None else rfc3339(step.received_ms, zone),
        at=rfc3339(step.at_ms, zone),
    )
