"""Stage 4: the outbox and the steps of receipts to the broker, at least once, in order.

Works in the session's thread. A message stays in the journal until the broker's PUBACK; on a new
connection everything unacknowledged goes out again. Steps are gathered for a moment, so that a busy
bridge publishes a few large events and not thousands of small ones. What the broker refuses stays in the journal
too, and is tried again: replies for ever, events until they are too old.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import tzinfo
from itertools import groupby
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from kkt_bridge.clock import Clock
from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.outbox import (
    forget_messages,
    messages_after,
    set_steps_published,
    steps_after,
    steps_published,
    with_sales,
)
from kkt_bridge.journal.records import Message, Step
from kkt_bridge.journal.transaction import Committed
from kkt_bridge.mqtt.messages import BrokerSession, Publication
from kkt_bridge.mqtt.refused_publications import REFUSED_WAIT_MAX_S
from kkt_bridge.receipts.amounts import format_kopecks
from kkt_bridge.stages.refused_messages import RefusedMessages
from kkt_bridge.wire.messages import STEPS_PER_EVENT_MAX, ReceiptStep, rfc3339
from kkt_bridge.wire.topics import Topics

AHEAD_MAX: Final = 4000
"""Rows kept in memory for a reader; beyond that the journal keeps them."""


class Row(Protocol):
    """A row with an id that follows the order of commits."""

    @property
    def id(self) -> int:
        """Above the ids of all earlier rows."""


R = TypeVar("R", bound=Row)


class OutboxCursor(Generic[R]):
    """One reader's place in a table that only ever grows: the rows that the journal has committed, in their order.

    While the reader keeps up they come from memory, straight from the commit; where it does not, or starts over, from
    the journal. Either way only what is on the disk is told, and nothing is left out.
    """

    def __init__(self, read: Callable[[int, int], list[R]]) -> None:
        """`read` asks the journal for so many rows behind an id, in order."""
        self._read = read
        self._fresh: deque[R] = deque()
        self._behind = True
        self.position = 0
        """The last row that was taken."""

    def committed(self, rows: Sequence[R]) -> None:
        """Take note of a commit; from the thread that committed."""
        if self._behind:
            return  # the journal is asked anyway, and after this
        self._fresh.extend(rows)
        if len(self._fresh) > AHEAD_MAX:
            self._behind = True

    def start_over(self, after: int) -> None:
        """Begin again behind this row."""
        self.position = after
        self._behind = True

    def take(self, limit: int) -> list[R]:
        """The next rows, at most so many; fewer only if there are no more, or these came meanwhile.

        Errors: those of `read`.
        """
        if self._behind:
            rows = self._catch_up(limit)
        else:
            fresh = self._fresh
            while fresh and fresh[0].id <= self.position:
                fresh.popleft()  # committed while the journal was being read, and taken from there
            rows = [fresh.popleft() for _ in range(min(limit, len(fresh)))]
        if rows:
            self.position = rows[-1].id
        return rows

    def _catch_up(self, limit: int) -> list[R]:
        # In this order: what is committed from here on is in memory, and what was before is in the journal.
        self._behind = False
        self._fresh.clear()
        try:
            rows = self._read(self.position, limit)
        except Exception:
            self._behind = True
            raise
        if len(rows) == limit:
            self._behind = True  # and never False here: the thread that commits may have fallen back meanwhile
        return rows


UNREADABLE_S: Final = 1.0
"""Seconds for which a journal that could not be read is left alone."""

IN_FLIGHT_MAX: Final = 400
"""Messages handed to the session and not yet acknowledged."""

EVENT_DELAY_S: Final = 0.03
"""Seconds for which steps are gathered; the contract allows 100 ms."""

STEPS_READ_MAX: Final = 2 * STEPS_PER_EVENT_MAX
EVENTS_IN_FLIGHT_MAX: Final = 60
"""Events handed to the session and not yet acknowledged."""

EVENT_BYTES_MAX: Final = 8 * 1024
"""Of an event's whole packet: brokers with a limit that they do not tell cut the connection over more."""

NAME_SHOWN_MAX: Final = 64
"""Characters of a name in an event; names that the bridge takes are no longer, see the contract's identifiers."""

HELD_LOOK_S: Final = 0.5
"""The shortest time between two looks at what is held."""

BATCHES_PER_STEP: Final = 10
"""Reads of the outbox in one step, where what is read is held back."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sent:
    """An event on its way: up to which step it tells."""

    last_step: int
    acknowledged: bool = False


class _EncodedStep(NamedTuple):
    """A step as it stands in an event."""

    step: int
    commit_no: int
    body: bytes
    """In JSON; empty if it is too old to be published."""


class Publisher:
    """Publishes what the journal holds: the outbox, and the steps of receipts as events."""

    def __init__(
        self,
        *,
        journal: Journal,
        link: BrokerSession,
        topics: Topics,
        zone: tzinfo,
        events_max_age_s: float,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._link = link
        self._receipt_event = topics.event("receipt")
        self._zone = zone
        self._events_max_age_ms = int(events_max_age_s * 1000)
        self._clock = clock
        self._starting_over = False
        self._messages: OutboxCursor[Message] = OutboxCursor(self._read_messages)
        self._steps: OutboxCursor[Step] = OutboxCursor(self._read_steps)
        self._cut_off: list[Step] = []
        """Steps of a commit of which there are more, taken and not yet told."""
        self._holds = link.holds
        self._held = RefusedMessages(journal, link.holds, without=self._receipt_event)
        self._trial: _Sent | None = None
        """The one event that shows whether the broker takes them again."""
        self._all_again_at: float | None = None
        """The time at which the outbox is gone through anew: more was refused than could be noted."""
        self._event_room = EVENT_BYTES_MAX - Publication(self._receipt_event, _event(())).size
        self._in_flight: set[int] = set()
        self._delivered: list[int] = []
        self._events: deque[_Sent] = deque()
        self._steps_wait_since: float | None = None
        self._unreadable_until = float("-inf")

    def committed(self, touched: Committed) -> None:
        """Take note of a commit; from any thread."""
        self._messages.committed(touched.messages)
        self._steps.committed(touched.steps)
        if touched.steps and self._steps_wait_since is None:
            self._steps_wait_since = self._clock.monotonic()

    def link_up(self) -> None:
        """Start over: what the broker has acknowledged is gone from the journal, the rest goes out."""
        self._starting_over = True

    def published(self, token: object) -> None:
        """The broker has a message: forget it, with the next commit."""
        match token:
            case _Sent():
                token.acknowledged = True
                if token is self._trial:
                    self._trial = None
                    self._holds.release(self._receipt_event)
            case int():
                self._in_flight.discard(token)
                self._delivered.append(token)
                if self._holds:
                    self._held.taken(token)

    def refused(self, token: object) -> None:
        """The broker does not take a message: it stays in the journal, and is tried again when the holds say so."""
        match token:
            case _Sent():
                if token is self._trial:
                    self._trial = None
            case int():
                self._in_flight.discard(token)
                self._held.refused(token)

    def step(self) -> float | None:
        """Hand over what is due. A journal that cannot be read must not silence the session: it has the same thread."""
        # What the broker has need not be sent again; if this is lost in a crash, it is sent twice.
        told_to = 0
        while self._events and self._events[0].acknowledged:
            told_to = self._events.popleft().last_step
        if told_to:
            self._journal.post(lambda tx: set_steps_published(tx, told_to))
        if self._delivered:
            delivered, self._delivered = self._delivered, []
            self._journal.post(lambda tx: forget_messages(tx, delivered))
        if not self._link.online:
            return None
        if self._clock.monotonic() < self._unreadable_until:
            return UNREADABLE_S
        try:
            if self._starting_over:
                self._start_over()
            waits = [
                self._publish_messages(),
                self._publish_held() if self._holds else None,
                self._try_steps() if self._receipt_event in self._holds else self._publish_steps(),
            ]
        except StorageUnavailable as problem:
            log.warning("what is to be published cannot be read: %s", problem)
            self._steps_wait_since = self._clock.monotonic()
            self._unreadable_until = self._clock.monotonic() + UNREADABLE_S
            return UNREADABLE_S
        return min((wait for wait in waits if wait is not None), default=None)

    def _start_over(self) -> None:
        self._start_steps_over()
        self._messages.start_over(0)
        self._held.start_over()
        self._in_flight.clear()
        self._starting_over = False

    def _start_steps_over(self) -> None:
        self._steps.start_over(self._journal.read(steps_published))
        self._cut_off = []
        self._events.clear()
        self._trial = None
        self._steps_wait_since = self._clock.monotonic() - EVENT_DELAY_S

    def _publish_messages(self) -> float | None:
        for _ in range(BATCHES_PER_STEP):
            room = IN_FLIGHT_MAX - len(self._in_flight)
            if room <= 0:
                return None
            messages = self._messages.take(room)
            for message in messages:
                if message.id not in self._in_flight and (not self._holds or self._held.may_go(message)):
                    self._hand_over(message)
            if len(messages) < room:
                return None
        return 0.0

    def _publish_held(self) -> float | None:
        """Try again what the broker refused, where that is due."""
        now = self._clock.monotonic()
        if self._holds.overflowed:
            self._holds.overflowed, self._all_again_at = False, now + REFUSED_WAIT_MAX_S
        if self._all_again_at is not None and now >= self._all_again_at:
            if self._receipt_event not in self._holds:
                self._start_steps_over()  # among what was refused and not noted may have been events
            self._messages.start_over(0)
            self._all_again_at = None  # last: where the journal cannot be read, this is still to be done
        for message in self._held.due(now, self._messages.position, IN_FLIGHT_MAX - len(self._in_flight)):
            if message.id not in self._in_flight:
                self._hand_over(message)
        dues = [due - now for due in (self._holds.next_due(), self._all_again_at) if due is not None]
        return 0.0 if self._held.has_more else max(HELD_LOOK_S, min(dues)) if dues else None

    def _hand_over(self, message: Message) -> None:
        self._in_flight.add(message.id)
        self._link.publish(
            Publication(message.topic, message.payload, correlation=message.correlation, token=message.id, owner=self)
        )

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
        for event in self._events_of(steps):
            self._publish_event(event)
        if there_is_more:
            self._steps_wait_since = since
        return 0.0 if self._steps_wait_since is not None else None

    def _try_steps(self) -> float | None:
        """One event shows whether they are taken again, from the first that was not; none follows before it has.

        A second one behind it could be taken where it was refused, and would tell the end of a life before its middle.
        """
        if self._trial is not None:
            return None
        if not self._holds.is_trying(self._receipt_event):
            if self._receipt_event not in self._holds.due(self._clock.monotonic()):
                return None
            self._start_steps_over()
            self._holds.try_again(self._receipt_event)
        steps = self._steps.take(STEPS_READ_MAX)
        for event in self._events_of(steps):
            sent = self._publish_event(event)
            if not sent.acknowledged:
                self._trial = sent
                self._steps.start_over(sent.last_step)
                return None
        if len(steps) < STEPS_READ_MAX:
            self._holds.release(self._receipt_event)  # nothing is left to try it with; the next one will show
        return 0.0

    def _events_of(self, steps: list[Step]) -> Iterator[list[_EncodedStep]]:
        # Better published without their sums than taken from the cursor and not published.
        with suppress(StorageUnavailable):
            steps = self._journal.read(lambda connection: with_sales(connection, steps))
        oldest_ms = self._journal.steady_ms() - self._events_max_age_ms
        encoded = [
            _EncodedStep(
                step.id,
                step.commit_no,
                _step(step, self._zone).payload() if step.at_steady_ms >= oldest_ms else b"",
            )
            for step in steps
        ]
        return _grouped(encoded, self._event_room)

    def _publish_event(self, steps: list[_EncodedStep]) -> _Sent:
        sent = _Sent(steps[-1].step)
        self._events.append(sent)
        if bodies := [step.body for step in steps if step.body]:
            self._link.publish(Publication(self._receipt_event, _event(bodies), token=sent, owner=self))
        else:
            sent.acknowledged = True
        return sent


def _divided(steps: list[Step]) -> tuple[list[Step], list[Step]]:
    """Return the steps of whole commits, and those of the last one: where more follow, it may be cut in the middle."""
    last = steps[-1].commit_no
    if steps[0].commit_no == last:
        return steps, []  # more than a message holds: it is cut anyway
    whole = [step for step in steps if step.commit_no != last]
    return whole, steps[len(whole) :]


def _event(steps: Sequence[bytes]) -> bytes:
    """The payload of `event/receipt` with these steps, each in JSON."""
    return b'{"steps":[' + b",".join(steps) + b"]}"


def _grouped(steps: Iterable[_EncodedStep], room: int) -> Iterator[list[_EncodedStep]]:
    """Steps in messages of so many bytes and `STEPS_PER_EVENT_MAX`, those of one commit in one where they fit."""
    message: list[_EncodedStep] = []
    size = 0
    for _, together in groupby(steps, key=lambda step: step.commit_no):
        commit = list(together)
        commit_size = sum(len(step.body) + 1 for step in commit)  # a comma behind each
        if message and (len(message) + len(commit) > STEPS_PER_EVENT_MAX or size + commit_size > room):
            yield message
            message, size = [], 0
        for step in commit:
            step_size = len(step.body) + 1
            if message and (len(message) == STEPS_PER_EVENT_MAX or size + step_size > room):
                yield message
                message, size = [], 0
            message.append(step)
            size += step_size
    if message:
        yield message


def _step(step: Step, zone: tzinfo) -> ReceiptStep:
    return ReceiptStep(
        receipt_id=None if step.receipt_id is None else _shown(step.receipt_id),
        pos_id=_shown(step.pos_id),
        kkt=None if step.kkt is None else _shown(step.kkt),
        from_=step.from_status,
        to=step.to_status,
        fd_number=step.fd_number,
        error=step.error,
        type=step.type,
        total=None if step.total is None else format_kopecks(step.total),
        received_at=None if step.received_ms is None else rfc3339(step.received_ms, zone),
        at=rfc3339(step.at_ms, zone),
    )


def _shown(name: str) -> str:
    """A name as it stands in an event: one that is no identifier may be of any length."""
    return name if len(name) <= NAME_SHOWN_MAX else name[: NAME_SHOWN_MAX - 1] + "…"
