"""A paho client without a thread: whoever has it reads and writes it, as the load generator and the echo do."""

import select
import time
from collections.abc import Callable, Iterable
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from benchmarks.errors import BenchmarkError
from kkt_bridge.mqtt.paho_client import set_nodelay

CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 60


class Connection:
    """One connection that is made and subscribed on return; it never comes back when it is lost."""

    def __init__(self, host: str, port: int, protocol: int, client_id: str, topics: Iterable[str]) -> None:
        self._subscribed = False
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion(protocol),
            reconnect_on_failure=False,
        )
        self.client.max_inflight_messages = 0  # the window is the load's own; paho would stop at 20
        self.client.on_socket_open = set_nodelay
        # Being set, it keeps paho from writing by itself: what a callback publishes goes out in one go, after it.
        self.client.on_socket_register_write = _leave_writing_to_us
        self.client.on_subscribe = self._on_subscribe
        self.client.connect(host, port, KEEPALIVE_S)
        self._settle(self.client.is_connected, "CONNACK")
        self.client.subscribe([(topic, 1) for topic in topics])
        self._settle(lambda: self._subscribed, "SUBACK")

    def on_message(self, handler: Callable[[MQTTMessage], None]) -> None:
        """Have it called with each message."""
        self.client.on_message = lambda _client, _userdata, message: handler(message)

    def fileno(self) -> int:
        """Of the socket, for a selector."""
        sock: Any = self.client.socket()
        if sock is None:
            raise BenchmarkError("the broker has closed a connection of the load")
        return int(sock.fileno())

    def turn(self) -> None:
        """Read what has come, and write what is to go."""
        self.client.loop_read()
        self.write()

    def write(self) -> None:
        """Write what is to go."""
        while self.client.want_write():
            self.client.loop_write()
            if self.client.want_write():
                select.select([], [self.fileno()], [], KEEPALIVE_S)

    def close(self) -> None:
        """Take leave."""
        self.client.disconnect()
        self.write()

    def _settle(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while not done():
            if time.monotonic() > deadline:
                raise BenchmarkError(f"no {what} from the broker within {CONNECT_TIMEOUT_S:g} s")
            self.write()
            if select.select([self.fileno()], [], [], 0.1)[0]:
                self.client.loop_read()

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed = True


def _leave_writing_to_us(_client: Any, _userdata: Any, _sock: Any) -> None:
    pass
