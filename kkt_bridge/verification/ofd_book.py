"""Asking the OFD what it has: a simulated one tells, at `GET /_received`."""

import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from kkt_bridge.settings import OfdSettings
from kkt_bridge.verification.books import OfdEntry

PATH: Final = "/_received"
ANSWER_BYTES_MAX: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class OfdAnswer:
    """What the OFD told, or why it did not."""

    entries: Sequence[OfdEntry] | None
    reason: str | None = None


def ask_ofd(settings: OfdSettings) -> OfdAnswer:
    """Every document that the OFD took; not checked, with the reason, where it does not tell."""
    try:
        status, answer = _get(settings)
    except (OSError, http.client.HTTPException) as error:
        return OfdAnswer(None, f"{settings.url} does not answer: {error or type(error).__name__}")
    if status != http.client.OK:
        return OfdAnswer(None, f"{settings.url} does not tell what it has ({PATH}: {status})")
    try:
        told = json.loads(answer)["documents"]
        return OfdAnswer([_entry(document) for document in told])
    except (ValueError, LookupError, TypeError):
        return OfdAnswer(None, f"{settings.url}{PATH} is not what a simulated OFD answers")


def _get(settings: OfdSettings) -> tuple[int, bytes]:
    parts = urlsplit(settings.url)
    assert parts.hostname is not None, "the settings see to it"
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=settings.timeout_s)
    try:
        connection.request("GET", parts.path.rstrip("/") + PATH)
        response = connection.getresponse()
        return response.status, response.read(ANSWER_BYTES_MAX)
    finally:
        connection.close()


def _entry(document: dict[str, object]) -> OfdEntry:
    return OfdEntry(
        key=str(document["key"]),
        fn_number=str(document["fn_number"]),
        fd_number=int(str(document["fd_number"])),
        order=int(str(document["order"])),
    )
