"""kkt-bridge: receipts from MQTT to fiscal registers (KKT) and on to the operator of fiscal data (OFD)."""

from importlib.metadata import version

__version__ = version("kkt-bridge")
