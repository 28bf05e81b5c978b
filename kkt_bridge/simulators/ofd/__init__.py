"""The simulated OFD: an operator of fiscal data to run against, with faults on demand."""

from kkt_bridge.simulators.ofd.ledger import StateFileError
from kkt_bridge.simulators.ofd.server import OfdSimulator

__all__ = ["OfdSimulator", "StateFileError"]
