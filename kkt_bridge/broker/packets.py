"""What our MQTT clients ask of paho in the same way: the socket, the properties of packets, odd topics."""

import socket
from contextlib import suppress
from typing import Any

from paho.mqtt.client import MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def set_nodelay(_client: Any, _userdata: Any, sock: Any) -> None:
    """For `on_socket_open`: without it a request and its reply take 40 ms and more (Nagle against delayed ACKs)."""
    with suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def leave_writing_to_us(_client: Any, _userdata: Any, _sock: Any) -> None:
    """For `on_socket_register_write`: being set, it keeps paho from writing in the middle of a callback."""


def session_properties(expiry_s: int, receive_maximum: int) -> Properties:
    """Of a CONNECT that keeps its session, and bounds what may be unacknowledged."""
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = expiry_s
    properties.ReceiveMaximum = receive_maximum
    return properties


def correlated(correlation: bytes) -> Properties:
    """Of a PUBLISH that answers a request."""
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.CorrelationData = correlation
    return properties


def topic_of(message: MQTTMessage) -> str:
    """The topic; empty, so nobody's, if it is not UTF-8."""
    try:
        return message.topic
    except UnicodeDecodeError:
        return ""
