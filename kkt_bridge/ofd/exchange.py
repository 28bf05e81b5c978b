"""The port between delivery and the exchange with the OFD: requests out, classified answers back.

Nothing here may import more than the standard library: the process that carries out exchanges imports it too, and is
to stay small.
"""

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final, Literal, Protocol, Self

RECEIPT_PATH: Final = "/ofd/v1/receipt"
"""The path to which documents are posted, below `ofd.url`."""

NO_HEALTH_CHECK: Final = frozenset({404, 405})
"""Statuses of a health check that is none."""

DEADLINE_FACTOR: Final = 3
"""An exchange may take so many times `timeout_s`: once to connect, once for the head and once for the body."""


class AnswerKind(StrEnum):
    """The meaning of an answer of the OFD, or of the lack of one."""

    ACCEPTED = "accepted"
    """The OFD has the document, or is well."""
    NOT_THE_OFD = "not_the_ofd"
    """2xx, but not what an OFD says: a captive portal's page."""
    SLOW_DOWN = "slow_down"
    """429, 408, 425: not now, and nobody's fault."""
    BRIDGE_REFUSED = "bridge_refused"
    """401, 403, 404, 405, 407, 3xx: this bridge is refused or misdirected, not this document."""
    DOCUMENT_REFUSED = "document_refused"
    """Any other 4xx: this document will never be taken."""
    SERVICE_FAILED = "service_failed"
    """5xx: the OFD's fault or the document's; the answer alone does not tell."""
    LINE_FAILED = "line_failed"
    """No usable answer: whether the OFD took the document is unknown. Also a deadline passed, and a bug of ours."""


@dataclass(frozen=True, slots=True)
class OfdAnswer:
    """One exchange, classified."""

    kind: AnswerKind
    text: str = ""
    """For people: the status and the beginning of what was said, or what went wrong. One line."""
    server_time: int | None = None
    """The OFD's clock in Unix seconds, where it accepted a document and tells."""
    retry_after_s: float | None = None
    """For how long the OFD wants to be left alone, where it says so."""
    status: int | None = None
    """The HTTP status, where there was one: a health check answered with 404 or 405 is none at all."""


@dataclass(frozen=True, slots=True)
class OfdRequest:
    """One exchange to be carried out."""

    target: Literal["receipt", "health"]
    key: str = ""
    """The idempotency key; empty for a health check."""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class OfdOptions:
    """Options of the exchange, without pydantic. Secrets among it go from process to process over their socket only."""

    url: str
    timeout_s: float
    """Seconds for each step: to connect, and between two pieces of an answer."""
    health_path: str = ""
    token_file: str | None = None
    """A file with a bearer token (RFC 6750)."""
    proxy: str | None = None
    """`http://[name:password@]host[:port]`."""
    ca: str | None = None
    """A PEM file of authorities that are trusted instead of the public ones."""
    cert: str | None = None
    key: str | None = None
    """PEM files of a certificate of our own, and of its key."""

    @property
    def deadline_s(self) -> float:
        """Seconds for a whole exchange."""
        return DEADLINE_FACTOR * self.timeout_s

    def to_bytes(self) -> bytes:
        """Return the options as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the options in this JSON."""
        return cls(**json.loads(data))


class Exchange(Protocol):
    """Carries requests to the OFD, several batches at a time, each batch in its order.

    Used by one thread, delivery's. Nothing is raised for what the OFD, the network or the exchange itself does: each of
    those is an answer.
    """

    wakeup: threading.Event
    """Set when `take` has something to return."""

    def submit(self, batch: int, requests: Sequence[OfdRequest]) -> None:
        """Begin a batch under a number of the caller's: one request after the other, until one is not accepted."""
        ...

    def take(self) -> list[tuple[int, list[OfdAnswer]]]:
        """The batches that are done since the last call, with as many answers as requests were tried (at least one)."""
        ...

    def close(self) -> None:
        """Let go of everything; what is under way is given up."""
        ...
