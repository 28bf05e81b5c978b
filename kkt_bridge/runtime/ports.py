"""The doors of a bridge: everything through which it meets the world outside, given to it at once."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from kkt_bridge.clock import Clock, SystemClock
from kkt_bridge.journal.database import NewEngine, new_engine
from kkt_bridge.mqtt.paho_client import Dial, dial_tcp
from kkt_bridge.ofd.exchange import Exchange
from kkt_bridge.ofd.process_exchange import ProcessExchange
from kkt_bridge.registers.base import FiscalRegister
from kkt_bridge.registers.virtual.driver import VirtualRegister
from kkt_bridge.settings import OfdSettings, Settings, VirtualKktSettings


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything that the composition root cannot make out of settings alone."""

    clock: Clock
    dial: Dial
    """Opens the connection to the broker."""
    new_engine: NewEngine
    """Makes the journal's SQLAlchemy engines."""
    new_register: Callable[[Settings, VirtualKktSettings, Clock], FiscalRegister]
    """Makes the driver of a register; it touches nothing yet."""
    new_exchange: Callable[[OfdSettings, Clock], Exchange]
    """Makes the exchange with the OFD."""
    rng_for: Callable[[str], Random]
    """Makes a source of random numbers for the part of this name."""


def _virtual_register(settings: Settings, kkt: VirtualKktSettings, clock: Clock) -> FiscalRegister:
    return VirtualRegister(kkt.id, kkt.state, settings.zone, clock, kkt.print_time_s, shop=settings.bridge_id)


SYSTEM: Final = Ports(
    clock=SystemClock(),
    dial=dial_tcp,
    new_engine=new_engine,
    new_register=_virtual_register,
    new_exchange=ProcessExchange,
    rng_for=lambda _part: Random(),  # noqa: S311 (jitter, and names that are no secrets)
)
"""The doors of a real bridge: the machine's clock and network, SQLite, and a child process that speaks to the OFD."""
