"""The faults an operator can put on the simulated OFD, and the board that holds those in force."""

import dataclasses
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

LATENCY_MAX_S = 3600
COUNT_MAX = 1_000_000_000

BODY_BYTES_MAX = 100_000_000
DEPTH_MAX = 1_000_000
RATE_MAX_PER_S = 1_000_000
DRIP_S = 0.3
"""Seconds between two bytes of an answer that drips."""

PORTAL_URL = "http://portal.example/login"
"""The place of a redirection without a `location`."""

Countdown = Literal["fail_next", "drop_answers_next", "close_kept_next"]
Drip = Literal["head", "body", "continue"]


class InvalidOfdFaults(Exception):
    """A fault object that is not understood; the message names the field."""


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= COUNT_MAX


def _is_latency(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= LATENCY_MAX_S


def _is_status(value: Any) -> bool:
    # A 1xx or 2xx is no fault: the sender would take it for an acceptance that never happened.
    return type(value) is int and 300 <= value <= 599


def _is_keys(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(key, str) for key in value)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_rate(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= RATE_MAX_PER_S


def _is_location(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and 0 < len(value) <= 2000


def _is_up_to(most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and 0 <= value <= most


@dataclass(frozen=True, slots=True)
class Field:
    """A key of `PUT /_faults`."""

    is_valid: Callable[[Any], bool]
    expected: str
    does: str
    """For the help."""


_STATUS = "an HTTP status from 300 to 599"
_KEYS = 'a list of keys "pos:uuid"'


def _fault(default: Any, is_valid: Callable[[Any], bool], expected: str, does: str) -> Any:
    return dataclasses.field(default=default, metadata={"field": Field(is_valid, expected, does)})


@dataclass(frozen=True, slots=True)
class OfdFaults:
    """The faults of the OFD; by default none."""

    outage: bool = _fault(
        False, _is_flag, "true or false", "answer `status` (503) to everything, the health check included"
    )
    status: int | None = _fault(None, _is_status, _STATUS, "what an outage answers, and fail_next (500)")
    fail_next: int = _fault(
        0, _is_count, "a whole number of requests, 0 or more", "answer `status` to so many documents"
    )
    latency_s: float = _fault(0.0, _is_latency, f"seconds from 0 to {LATENCY_MAX_S}", "wait before each answer")
    drop_answers_next: int = _fault(
        0, _is_count, "a whole number of answers, 0 or more", "take so many documents, and close without an answer"
    )
    refuse_keys: tuple[str, ...] = _fault((), _is_keys, _KEYS, "answer 422 to these documents")
    error_keys: tuple[str, ...] = _fault((), _is_keys, _KEYS, "answer 500 to these documents")
    retry_after_s: int | None = _fault(
        None, _is_count, "whole seconds, 0 or more (Retry-After knows no fractions)", "say Retry-After with each error"
    )
    post_status: int | None = _fault(
        None, _is_status, _STATUS, "answer so to every document; the health check is as it is"
    )
    health_status: int | None = _fault(
        None, _is_status, _STATUS, "answer so to the health check (404: there is none); documents go in"
    )
    location: str = _fault(PORTAL_URL, _is_location, "an address of printable ASCII", "where a 3xx leads")
    login_page: bool = _fault(False, _is_flag, "true or false", "be a captive portal: 200 and a web page to everything")
    rate_limit_per_s: float | None = _fault(
        None, _is_rate, f"a number above 0, up to {RATE_MAX_PER_S}", "answer 429 to documents beyond so many a second"
    )
    drip: Drip | None = _fault(  # noqa: RUF009 (a field)
        None,
        lambda value: value in ("head", "body", "continue"),
        '"head", "body" or "continue"',
        "send the head or the body byte by byte; or `100 Continue` again and again, and nothing else",
    )
    drip_s: float = _fault(
        DRIP_S, _is_latency, f"seconds from 0 to {LATENCY_MAX_S}", f"how long between two of them ({DRIP_S:g})"
    )
    body_bytes: int = _fault(
        0, _is_up_to(BODY_BYTES_MAX), f"bytes, up to {BODY_BYTES_MAX}", "make each answer's object at least so long"
    )
    deep_json: int = _fault(
        0, _is_up_to(DEPTH_MAX), f"a depth, up to {DEPTH_MAX}", "answer 200 with so many opening brackets"
    )
    garbage: bool = _fault(False, _is_flag, "true or false", "answer with bytes that are not HTTP")
    close_kept_next: int = _fault(
        0,
        _is_count,
        "a whole number of connections, 0 or more",
        "close so many kept-alive connections as the next request comes in, and do not take it",
    )

    def as_json(self) -> dict[str, Any]:
        """Return only what is in force: a healthy OFD is an empty object, a used-up counter is gone."""
        return {
            field.name: list(value) if isinstance(value, tuple) else value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


HEALTHY = OfdFaults()
"""Nothing is wrong."""

FIELDS: Mapping[str, Field] = {field.name: field.metadata["field"] for field in dataclasses.fields(OfdFaults)}
"""Every fault; an empty object heals them all."""


def parse_faults(content: Mapping[str, Any]) -> OfdFaults:
    """Return the faults that a JSON object asks for.

    Raises:
        InvalidOfdFaults: An unknown field or a value of the wrong kind; nothing is taken from the object.
    """
    for name, value in content.items():
        if name not in FIELDS:
            raise InvalidOfdFaults(f"{name[:100]}: unknown fault; known are {', '.join(FIELDS)}")
        if not FIELDS[name].is_valid(value):
            raise InvalidOfdFaults(f"{name}: expected {FIELDS[name].expected}")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }
    return OfdFaults(**fields)


class FaultBoard:
    """The faults in force, shared by all connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current = HEALTHY

    @property
    def current(self) -> OfdFaults:
        """The faults at this moment."""
        return self._current

    def replace(self, faults: OfdFaults) -> None:
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
