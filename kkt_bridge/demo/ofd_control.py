"""The operator's side of the simulated OFD: its faults and its books."""

import json
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from kkt_bridge.errors import KktBridgeError

TIMEOUT_S: Final = 10.0


class OfdControl:
    """Talks to `/_faults` and `/_received` of the simulated OFD at this URL."""

    def __init__(self, url: str) -> None:
        self._netloc = urlsplit(url).netloc
        self._url = url

    def begin_outage(self) -> None:
        """Have it answer 503 to everything, its health check included."""
        self._ask("PUT", "/_faults", {"outage": True, "status": 503})

    def end_outage(self) -> None:
        """Heal it."""
        self._ask("PUT", "/_faults", {})

    def received(self) -> dict[str, Any]:
        """Its books: `documents`, `duplicates` (repeats under one key), `conflicts` (other documents under one key)."""
        return self._ask("GET", "/_received")

    def _ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        connection = HTTPConnection(self._netloc, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, None if content is None else json.dumps(content))
            answer = connection.getresponse()
            body: dict[str, Any] = json.loads(answer.read())
        except (OSError, HTTPException, ValueError) as error:
            raise KktBridgeError(f"the simulated OFD at {self._url} does not answer on {path}: {error}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise KktBridgeError(f"the simulated OFD refuses {method} {path}: {answer.status} {body.get('error')}")
        return body
