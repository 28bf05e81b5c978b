"""The circuit breaker before the OFD: the only importer of pybreaker.

pybreaker reckons with the wall clock, and goes half-open only inside a call. Both are met here: its
storage answers with the time that has really passed, and `seconds_to_probe` tells when a probe is worth making.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import pybreaker

from kkt_bridge.clock import Clock
from kkt_bridge.settings import BreakerSettings

CircuitState = Literal["closed", "open", "half_open"]

_NAMES: Final[dict[str, CircuitState]] = {
    pybreaker.STATE_CLOSED: "closed",
    pybreaker.STATE_OPEN: "open",
    pybreaker.STATE_HALF_OPEN: "half_open",
}


@dataclass(frozen=True, slots=True)
class BreakerChange:
    """A change of state, as it goes into `event/breaker`."""

    previous: CircuitState
    current: CircuitState
    failures: int
    last_error: str | None


class Breaker:
    """Lets calls through while the OFD is well, and one probe at a time when it may be again.

    Used by one thread, the delivery's; others may read.
    """

    def __init__(self, settings: BreakerSettings, clock: Clock, on_change: Callable[[BreakerChange], None]) -> None:
        self._clock = clock
        self.fail_max = settings.fail_max
        """The failures in a row that open it."""
        self.reset_timeout_s = settings.reset_timeout_s
        """The seconds that it stays open."""
        self._storage = _MonotonicStorage(clock)
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=settings.fail_max,
            reset_timeout=settings.reset_timeout_s,
            success_threshold=settings.success_threshold,
            listeners=[_Listener(self, on_change)],
            state_storage=self._storage,
            throw_new_error_on_trip=False,
        )
        # pybreaker tells its listeners of a change before its own state says so: ours follows the listener.
        self.state: CircuitState = "closed"
        self.last_error: str | None = None
        """The text of the last failure that counted."""
        self.opened_ms: int | None = None
        """When it opened, by the system clock; None while closed."""

    def note_change(self, current: CircuitState) -> None:
        """Take over the change that pybreaker tells its listener."""
        self.state = current
        if current == "open":
            self.opened_ms = self._clock.now_ms()
        elif current == "closed":
            self.opened_ms = self.last_error = None

    @property
    def failures(self) -> int:
        """Failures in a row, up to the one that opened it."""
        return min(self._breaker.fail_counter, self.fail_max)

    def seconds_to_probe(self) -> float:
        """Return the seconds for which calls are still refused; 0 when one is let through."""
        if self.state != "open":
            return 0.0
        return max(0.0, self.reset_timeout_s - self._storage.open_for_s())

    def begin_probe(self) -> None:
        """Become half-open: let one attempt through. Its end is told by `succeed` or `fail`."""
        if self.state == "open":
            self._breaker.half_open()

    def succeed(self) -> None:
        """The OFD took a document, or is well; while open, that is a probe which nobody had planned."""
        self.begin_probe()
        self._breaker.call(lambda: None)

    def fail(self, error: str) -> None:
        """An attempt failed through no fault of a document; one that ends when it is open already changes nothing."""
        if self.state != "open":
            with suppress(_Failure):
                self._breaker.call(_raise, error)


class _Failure(Exception):
    """A failure, for pybreaker to count."""


def _raise(error: str) -> None:
    raise _Failure(error)


class _MonotonicStorage(pybreaker.CircuitMemoryStorage):
    """Remembers when the circuit opened by the monotonic clock, and tells it as if the wall clock had never jumped."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(pybreaker.STATE_CLOSED)
        self._clock = clock
        self._opened_at_s: float | None = None

    def open_for_s(self) -> float:
        """Return the seconds since it opened."""
        return 0.0 if self._opened_at_s is None else self._clock.monotonic() - self._opened_at_s

    @property
    def opened_at(self) -> datetime | None:
        """The time that pybreaker adds the time-out to and compares with its own "now"."""
        return None if self._opened_at_s is None else datetime.now(UTC) - timedelta(seconds=self.open_for_s())

    @opened_at.setter
    def opened_at(self, _wall: datetime) -> None:
        self._opened_at_s = self._clock.monotonic()


class _Listener(pybreaker.CircuitBreakerListener):
    """Turns pybreaker's callbacks into changes with our names."""

    def __init__(self, owner: Breaker, on_change: Callable[[BreakerChange], None]) -> None:
        self._owner = owner
        self._on_change = on_change

    def failure(self, _breaker: pybreaker.CircuitBreaker, error: BaseException) -> None:
        self._owner.last_error = str(error)

    def state_change(
        self,
        breaker: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        owner = self._owner
        previous = _NAMES[old_state.name] if old_state is not None else "closed"
        current = _NAMES[new_state.name]
        owner.note_change(current)
        self._on_change(BreakerChange(previous, current, breaker.fail_counter, owner.last_error))
