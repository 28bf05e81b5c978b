"""A message through the broker to ourselves, on a topic of the bridge's own branch.

Brokers that map topics to something of their own may change them on the way: RabbitMQ makes slashes of dots, so that
receipts for `store.017` arrive where nobody listens, acknowledged.
"""

import secrets
import time
from dataclasses import dataclass
from typing import Final

from kkt_bridge.errors import BrokerAway
from kkt_bridge.mqtt.client import BrokerClient
from kkt_bridge.wire.topics import Topics

ECHO_TIMEOUT_S: Final = 3.0
"""For a message to the broker and back."""


@dataclass(frozen=True, slots=True)
class Echo:
    """What became of the message."""

    topic: str
    """Where it was sent."""
    heard_on: str | None = None
    """Where it came back; None if it did not."""
    problem: str | None = None
    """Why it could not be tried: the broker's access list, most likely."""

    @property
    def is_true(self) -> bool:
        """Whether it came back as it went."""
        return self.heard_on == self.topic


def echo_check(client: BrokerClient, topics: Topics, timeout_s: float = ECHO_TIMEOUT_S) -> Echo:
    """Send a message on the reply topic of a POS that does not exist, and listen for it there.

    Nobody else listens there: neither the bridge, which reads requests alone, nor a POS, nor a dashboard; and nothing
    of it stays at the broker. The client is connected; what it has received before is passed over.
    """
    topic = topics.reply(f"echo-{secrets.token_hex(4)}")
    content = secrets.token_hex(16).encode()
    try:
        client.subscribe([topic])
        client.publish(topic, content)
    except BrokerAway as problem:
        return Echo(topic, problem=str(problem))
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        message = client.get(left)
        if message is not None and message.payload == content:
            return Echo(topic, heard_on=message.topic)
    return Echo(topic)
