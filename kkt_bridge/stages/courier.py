"""The way to the OFD and back: attempts, and what they bring back. Whose fault a failure is, the judge says."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kkt_bridge.clock import Clock
from kkt_bridge.errors import DocumentRefused, OfdError, OfdUnavailable, OfdUnreachable
from kkt_bridge.journal.records import DueDocument
from kkt_bridge.ofd.client import OfdClient

CARRY_S: Final = 0.2
"""Seconds after which what became of documents is brought back, though more of them were given along."""

log = logging.getLogger(__name__)


def idempotency_key(due: DueDocument) -> str:
    """The key under which the OFD takes a document once, however often it is sent."""
    return f"{due.pos_id}:{due.receipt_id}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one attempt brought back: the OFD's time, or an error.

    `began` and `ended` are moments: numbers that say of attempts in several threads which came first.
    """

    due: DueDocument
    server_time: int | None = None
    error: OfdError | None = None
    is_well: bool | None = None
    """What the OFD's health check said after the failure; None if it has none."""
    began: int = 0
    ended: int = 0


class Courier:
    """Carries documents to the OFD, for any thread; the only user of its client."""

    def __init__(self, *, ofd: OfdClient, clock: Clock) -> None:
        self._ofd = ofd
        self._clock = clock
        self._moments = itertools.count(1)

    def carry(self, train: Sequence[DueDocument], answers: list[Answer]) -> None:
        """Send one document after the other, until one fails or it is time to write down what became of them."""
        deadline = self._clock.monotonic() + CARRY_S
        for due in train:
            answers.append(self._attempt(due))
            if answers[-1].error is not None or self._clock.monotonic() > deadline:
                return

    def carry_one(self, due: DueDocument) -> Answer:
        """Send one document."""
        return self._attempt(due)

    def ask_health(self) -> bool:
        """Ask the OFD how it is; False if it has no health check. Errors: OfdError, it is not well."""
        return self._ofd.ask_health()

    def _attempt(self, due: DueDocument) -> Answer:
        began = next(self._moments)
        try:
            return Answer(due, server_time=self._ofd.deliver(idempotency_key(due), due.body), began=began)
        except DocumentRefused as error:
            return Answer(due, error=error, began=began)
        except (OfdUnavailable, OfdUnreachable) as error:
            return self._failure(due, error, began)
        except Exception as error:
            # A bug, or an answer that brings one to light: it must cost this document an attempt, not its register all.
            log.exception("the answer about %s:%s could not be understood", due.pos_id, due.receipt_id)
            return self._failure(due, OfdUnavailable(f"not understood: {type(error).__name__}: {error}"), began)

    def _failure(self, due: DueDocument, error: OfdError, began: int) -> Answer:
        return Answer(due, error=error, is_well=self._is_well(), began=began, ended=next(self._moments))

    def _is_well(self) -> bool | None:
        try:
            return self._ofd.ask_health() or None
        except OfdError:
            return False
