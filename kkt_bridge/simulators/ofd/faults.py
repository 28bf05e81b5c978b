"""The faults an operator can put on the simulated OFD, and the board that holds those in force."""

import dataclasses
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

LATENCY_MAX_S = 3600
COUNT_MAX = 1_000_000_000

Countdown = Literal["fail_next", "drop_answers_next"]


class InvalidFaultsError(Exception):
    """A fault object that is not understood; the message names the field."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with the OFD; the default is nothing.

    `status` is the answer of an outage (503 if None) and of `fail_next` (500 if None).
    """

    outage: bool = False
    status: int | None = None
    fail_next: int = 0
    latency_s: float = 0.0
    drop_answers_next: int = 0
    refuse_keys: tuple[str, ...] = ()
    error_keys: tuple[str, ...] = ()
    retry_after_s: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Only what is in force: a healthy OFD is an empty object, a used-up counter is gone."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= COUNT_MAX


def _is_latency(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= LATENCY_MAX_S


def _is_status(value: Any) -> bool:
    # A 1xx or 2xx is no fault: the sender would take it for an acceptance that never happened.
    return type(value) is int and 300 <= value <= 599


def _is_keys(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(key, str) for key in value)


FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "outage": (lambda value: isinstance(value, bool), "true or false"),
    "status": (_is_status, "an HTTP status from 300 to 599"),
    "fail_next": (_is_count, "a whole number of requests, 0 or more"),
    "latency_s": (_is_latency, f"seconds from 0 to {LATENCY_MAX_S}"),
    "drop_answers_next": (_is_count, "a whole number of answers, 0 or more"),
    "refuse_keys": (_is_keys, 'a list of keys "pos:uuid"'),
    "error_keys": (_is_keys, 'a list of keys "pos:uuid"'),
    "retry_after_s": (_is_count, "whole seconds, 0 or more (Retry-After knows no fractions)"),
}


def parse_faults(content: Mapping[str, Any]) -> Faults:
    """Return the faults that a JSON object asks for.

    Raises:
        InvalidFaultsError: An unknown field or a value of the wrong kind; nothing is taken from the object.
    """
    for name, value in content.items():
        if name not in FIELDS:
            raise InvalidFaultsError(f"{name[:100]}: unknown fault; known are {', '.join(FIELDS)}")
        is_valid, expected = FIELDS[name]
        if not is_valid(value):
            raise InvalidFaultsError(f"{name}: expected {expected}")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return Faults(**fields)


class FaultBoard:
    """The faults in force, shared by all connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current = Faults()

    @property
    def current(self) -> Faults:
        """The faults at this moment."""
        return self._current

    def replace(self, faults: Faults) -> None:
        """Put these faults in force instead of all others."""
        with self._lock:
            self._current = faults

    def spend(self, countdown: Countdown) -> bool:
        """Take one from a counter; False if there is none left to take."""
        if not getattr(self._current, countdown):
            return False  # the common case costs no lock
        with self._lock:
            left = getattr(self._current, countdown)
            if left:
                self._current = dataclasses.replace(self._current, **{countdown: left - 1})
            return bool(left)
