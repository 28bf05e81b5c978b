"""Outcomes of deliveries, written down: the one place where delivery changes rows and publishes events."""

import logging
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import StorageUnavailable
from kkt_bridge.journal.document_queue import dead_letter, end_waiting, failing_documents, record_failure, record_sent
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.records import DueDocument
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.ofd.breaker import BreakerChange
from kkt_bridge.ofd.exchange import OfdAnswer
from kkt_bridge.receipts.lifecycle import DeliveryState
from kkt_bridge.stages.delivery.backoff import DocumentBackoff
from kkt_bridge.stages.delivery.disposition import Disposition
from kkt_bridge.stages.delivery.failure_attribution import REMEMBERED_MAX
from kkt_bridge.stages.delivery.uplink import NetworkChange, Uplink
from kkt_bridge.wire.messages import BreakerEvent, NetworkEvent, rfc3339
from kkt_bridge.wire.topics import Topics

RECORD_MAX: Final = 64
"""Outcomes in one commit: all others who write wait for it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """The outcome of one attempt, not yet written down."""

    due: DueDocument
    answer: OfdAnswer
    disposition: Disposition
    wait_s: float = 0.0
    """For how long a waiting document waits."""


class OutcomeRecorder:
    """Keeps outcomes until they are written down; used by delivery's thread, the totals may be read by others."""

    def __init__(
        self,
        *,
        journal: Journal,
        uplink: Uplink,
        backoff: DocumentBackoff,
        topics: Topics,
        zone: tzinfo,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._uplink = uplink
        self._backoff = backoff
        self._topics = topics
        self._zone = zone
        self._clock = clock
        self._outcomes: list[DeliveryOutcome] = []
        self._changes: list[BreakerChange | NetworkChange] = []
        self._service_failed: bool | None = None
        """True where the service failed when outcomes were written last; None before the rows were read."""
        self.sent_total = 0
        self.failed_total = 0
        self.last_success_ms: int | None = None

    def recall(self) -> None:
        """Read from the rows, once, which documents failed before this process. Errors: StorageUnavailable."""
        if self._service_failed is None:
            evidence = self._uplink.evidence
            evidence.recall(self._journal.read(lambda at: failing_documents(at, REMEMBERED_MAX)))
            self._service_failed = evidence.service_fails()

    def add(self, outcome: DeliveryOutcome) -> None:
        """Keep an outcome until it is written down."""
        self._outcomes.append(outcome)

    def write(self) -> None:
        """Write down all outcomes, and the events of the uplink. Errors: StorageUnavailable."""
        self._changes += self._uplink.take_changes()
        service_fails = self._uplink.evidence.service_fails()
        if ends_waits := service_fails and not self._service_failed:
            log.error("different documents fail, and none is taken: it is the OFD, no document is given up for it")
        while self._outcomes or self._changes:
            outcomes = self._outcomes[:RECORD_MAX]
            try:
                self._journal.write(partial(self._write_together, outcomes, ends_waits=ends_waits))
            except StorageUnavailable:
                raise
            except Exception:
                log.exception("what became of %d documents cannot be written down together", len(outcomes))
                self._write_one_by_one(outcomes, ends_waits=ends_waits)
            del self._outcomes[: len(outcomes)]
            self._changes.clear()
            for outcome in outcomes:
                self._count(outcome)
        self._service_failed = service_fails

    def _write_together(self, outcomes: list[DeliveryOutcome], tx: Transaction, *, ends_waits: bool) -> None:
        for outcome in outcomes:
            _write_outcome(outcome, tx)
        at = rfc3339(tx.instant.wall_ms, self._zone)
        for change in self._changes:
            match change:
                case BreakerChange(previous, current, failures, error):
                    breaker = BreakerEvent(from_=previous, to=current, failures=failures, last_error=error, at=at)
                    tx.publish(self._topics.event("breaker"), breaker.payload(), is_event=True)
                case NetworkChange(previous, current):
                    network = NetworkEvent(from_=previous, to=current, at=at)
                    tx.publish(self._topics.event("network"), network.payload(), is_event=True)
        if ends_waits:
            # Nobody's fault after all: those that wait out back-offs go first again.
            end_waiting(tx, everything=True)

    def _write_one_by_one(self, outcomes: list[DeliveryOutcome], *, ends_waits: bool) -> None:
        """A bug that one document brings to light costs that one an attempt, and nobody else anything."""
        for outcome in outcomes:
            due = outcome.due
            try:
                self._journal.write(partial(_write_outcome, outcome))
            except StorageUnavailable:
                raise
            except Exception as error:
                log.exception("what became of %s is lost", due.key)
                wait_s = self._backoff.wait_s(due.attempts + 1)
                self._journal.write(partial(_write_failure, due, f"not written down: {error}", wait_s))
        try:
            self._journal.write(partial(self._write_together, [], ends_waits=ends_waits))
        except StorageUnavailable:
            raise
        except Exception:
            log.exception("the events of delivery are lost: %s", self._changes)

    def _count(self, outcome: DeliveryOutcome) -> None:
        due = outcome.due
        ids = {**due.key._asdict(), "kkt": due.kkt}
        if outcome.disposition.delivery is DeliveryState.SENT:
            self.sent_total += 1
            self.last_success_ms = self._clock.now_ms()
            log.info("the OFD has the document", extra=ids)
        else:
            self.failed_total += 1
            log.warning("the OFD has not taken the document: %s", outcome.answer.text, extra=ids)


def _write_outcome(outcome: DeliveryOutcome, tx: Transaction) -> None:
    due, answer, disposition = outcome.due, outcome.answer, outcome.disposition
    match disposition.delivery:
        case DeliveryState.SENT:
            record_sent(tx, due, answer.server_time)
        case DeliveryState.DEAD:
            dead_letter(tx, due, reason=disposition.reason or "refused", error=answer.text)
        case _:
            _write_failure(due, answer.text, outcome.wait_s, tx, strike=disposition.strike)


def _write_failure(due: DueDocument, error: str, wait_s: float, tx: Transaction, *, strike: bool = False) -> None:
    record_failure(tx, due, error, strike=strike, wait_ms=int(wait_s * 1000))
