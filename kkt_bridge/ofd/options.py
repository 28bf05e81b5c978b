"""How the OFD is reached, without pydantic: what the process that speaks to it is told when it starts.

Standard library only, see `kkt_bridge.ofd.child`.
"""

import json
from dataclasses import asdict, dataclass
from typing import Final, Self

RECEIPT_PATH: Final = "/ofd/v1/receipt"

DEADLINE_FACTOR: Final = 3
"""An exchange may take so many times `timeout_s`: once to connect, once for the head and once for the body."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where and how documents are sent. Secrets among it go from process to process over their socket only."""

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
        """The options as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The options in this JSON."""
        return cls(**json.loads(data))


def read_token(path: str) -> str:
    """The bearer token in this file. OSError: it cannot be read; ValueError: what stands there is none."""
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 (pathlib costs the small process a megabyte)
        token = file.read(_TOKEN_MAX + 1).strip()
    if not token or len(token) > _TOKEN_MAX or not all("!" <= char <= "~" for char in token):
        raise ValueError("expected one token of printable ASCII characters, without spaces")
    return token


_TOKEN_MAX: Final = 8192
"""Characters of a token; servers refuse longer headers anyway."""
