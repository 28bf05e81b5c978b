"""The desk of the simulated OFD, where its books are read and its faults are ordered."""

import http.client
import json
from collections.abc import Mapping
from typing import Any

from kkt_bridge.simulators.ofd import OfdSimulator

TIMEOUT_S = 20.0


def ask_ofd(ofd: OfdSimulator, method: str, path: str, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the OFD answers there; AssertionError where it is not 200."""
    connection = http.client.HTTPConnection("127.0.0.1", ofd.port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, None if content is None else json.dumps(content).encode())
        answer = connection.getresponse()
        told = json.loads(answer.read())
    finally:
        connection.close()
    assert answer.status == 200, told
    return dict(told)
