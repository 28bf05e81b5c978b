"""Ports of the loopback interface."""

import random
import socket

HOST = "127.0.0.1"
PORTS = range(20_000, 30_000)
"""Below the ports that the kernel lends to outgoing connections: one found free here stays free until it is used."""

_lent: set[int] = set()


def free_port() -> int:
    """A port on which nobody listens, and that this process was not given before."""
    for port in random.SystemRandom().sample(PORTS, 200):
        if port not in _lent and not is_open(port) and _can_bind(port):
            _lent.add(port)
            return port
    raise OSError(f"no free port among 200 of {PORTS.start} to {PORTS.stop - 1}")


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        return probe.connect_ex((HOST, port)) == 0


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
