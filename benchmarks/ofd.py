"""The simulated OFD in a process of its own, and what it has received."""

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.ports import HOST, free_port, is_open
from benchmarks.processes import Child, python, wait_until

START_TIMEOUT_S = 15.0
DESK_TIMEOUT_S = 30.0


class Ofd(Child):
    """`kkt-bridge sim ofd` on a port that is known before it runs: until then the OFD is away."""

    def __init__(self, directory: Path, name: str = "ofd") -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        super().__init__(name, python("kkt_bridge", "sim", "ofd", "--port", str(self.port)), directory / f"{name}.log")

    def start(self) -> None:
        """Run it, and return when it takes connections."""
        super().start()
        wait_until(self._is_ready, START_TIMEOUT_S, f"an OFD on port {self.port}")

    def set_faults(self, **faults: Any) -> None:
        """Put these faults on it, instead of all others."""
        self._ask("PUT", "/_faults", faults)

    def books(self, *, full: bool = False) -> dict[str, Any]:
        """What it has received; `full` with the bodies."""
        return self._ask("GET", "/_received?full=1" if full else "/_received")

    def _is_ready(self) -> bool:
        self.check()
        return is_open(self.port)

    def _ask(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=DESK_TIMEOUT_S)
        try:
            connection.request(method, path, None if content is None else json.dumps(content).encode())
            return dict(json.loads(connection.getresponse().read()))
        finally:
            connection.close()


def away_url() -> str:
    """Of an OFD that is away: nobody listens there, as after the loss of a network."""
    return f"http://{HOST}:{free_port()}"
