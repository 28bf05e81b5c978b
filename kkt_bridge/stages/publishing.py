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
from kkt_bridge.journal.records import OutboxMessage, Step
from kkt_bridge.journal.steps import set_steps_published, steps_after, steps_published
from kkt_bridge.journal.transaction import Touched, Transaction
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
        self._last_message = 0
        self._last_step = 0
        self._in_flight: set[int] = set()
        self._delivered: list[int] = []
        self._events: deque[_Sent] = deque()
        self._messages_wait = False
        self._steps_wait_since: float | None = None
        self._unreadable_until = float("-inf")

    def committed(self, touched: Touched) -> None:
        """Take note of a commit; from any thread."""
        if touched.outbox:
            self._messages_wait = True
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
            self._messages_wait = True
            self._steps_wait_since = self._clock.monotonic()
            self._unreadable_until = self._clock.monotonic() + UNREADABLE_S
            return UNREADABLE_S

    def _publish(self) -> float | None:
        if self._starting_over:
            self._start_over()
        if self._messages_wait and len(self._in_flight) < IN_FLIGHT_MAX:
            self._publish_messages()
        return self._publish_steps()

    def _start_over(self) -> None:
        self._last_message = 0
        self._last_step = self._journal.read(steps_published)
        self._in_flight.clear()
        self._events.clear()
        self._messages_wait = True
        self._steps_wait_since = self._clock.monotonic() - EVENT_DELAY_S
        self._starting_over = False

    def _publish_messages(self) -> None:
        self._messages_wait = False  # before reading: a commit during the read sets it again
        room = IN_FLIGHT_MAX - len(self._in_flight)
        messages = self._journal.read(lambda connection: messages_after(connection, self._last_message, room))
        for message in messages:
            self._hand_over(message)
        if len(messages) == room:
            self._messages_wait = True

    def _hand_over(self, message: OutboxMessage) -> None:
        self._last_message = message.id
        self._in_flight.add(message.id)
        self._link.publish(Outgoing(message.topic, message.payload, correlation=message.correlation, token=message.id))

    def _publish_steps(self) -> float | None:
        since = self._steps_wait_since
        if since is None or len(self._events) >= EVENTS_IN_FLIGHT_MAX:
            return None
        wait = since + EVENT_DELAY_S - self._clock.monotonic()
        if wait > 0:
            return wait
        self._steps_wait_since = None
        steps = self._journal.read(lambda connection: steps_after(connection, self._last_step, STEPS_READ_MAX))
        if len(steps) == STEPS_READ_MAX:
            self._steps_wait_since = since  # there is more: go on at once
        for event in _grouped(steps, complete=len(steps) < STEPS_READ_MAX):
            self._publish_event(event)
        return 0.0 if self._steps_wait_since is not None else None

    def _publish_event(self, steps: list[Step]) -> None:
        self._last_step = steps[-1].id
        sent = _Sent(self._last_step)
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


def _grouped(steps: list[Step], *, complete: bool) -> Iterator[list[Step]]:
    """Steps in messages of their size, those of one commit in one message where they fit.

    When more steps follow than were read, the last commit may be cut: it is left for the next time.
    """
    if not complete and steps[0].commit_no != steps[-1].commit_no:
        steps = [step for step in steps if step.commit_no != steps[-1].commit_no]
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
        at=rfc3339(step.at_ms, zone),
    )
