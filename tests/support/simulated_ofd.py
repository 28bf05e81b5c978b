"""The simulated OFD, asked and ordered over HTTP, and as a process of its own."""

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.brokers import HOST, free_port
from support.processes import ChildProcess, clean_environment, python

TIMEOUT_S = 30.0


class OfdClient:
    """A client of the simulated OFD at this URL: sets its faults, and asks what it has received."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request; AssertionError unless it is answered with 200. OSError or HTTPException if it is away."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=TIMEOUT_S)
        try:
            connection.request(method, path, None if content is None else json.dumps(content).encode())
            answer = connection.getresponse()
            told = json.loads(answer.read())
        finally:
            connection.close()
        assert answer.status == 200, told
        return dict(told)

    def set_faults(self, **faults: Any) -> None:
        """Put these faults on it, instead of all others; none heal it."""
        self.ask("PUT", "/_faults", faults)

    def received(self, *, full: bool = False) -> dict[str, Any]:
        """Return what it has received; `full` with the bodies."""
        return self.ask("GET", "/_received?full=1" if full else "/_received")

    def answers(self) -> bool:
        """Return whether it takes requests."""
        try:
            self.ask("GET", "/_faults")
        except (OSError, http.client.HTTPException):
            return False
        return True


class OfdProcess(ChildProcess, OfdClient):
    """`kkt-bridge sim ofd` on a port that is known before it runs, with its ledger in a file, if one is named."""

    def __init__(self, directory: Path, state: Path | None = None, *, measured: bool = True) -> None:
        self.port = free_port()
        self._state = state
        OfdClient.__init__(self, f"http://{HOST}:{self.port}")
        super().__init__("the OFD", directory / "ofd.log", clean_environment(measured=measured))

    def command(self) -> list[str]:
        """See `ChildProcess`."""
        state = [] if self._state is None else ["--state", self._state]
        return python("kkt_bridge", "sim", "ofd", "--port", self.port, *state)

    def is_ready(self) -> bool:
        """See `ChildProcess`."""
        return self.answers()
