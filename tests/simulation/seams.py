"""Where the simulated world is let into the real program: every place, in one list.

The program gets another socket, another register, another engine and other dice; nothing of
what it decides is touched. The changes are made to the modules of this process, so a simulation has a process of
its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from kkt_bridge.journal import database
from kkt_bridge.mqtt import paho_client as packets
from kkt_bridge.mqtt import session
from kkt_bridge.registers.virtual import driver as virtual
from kkt_bridge.runtime import wiring as parts
from kkt_bridge.simulators.ofd import service
from simulation.registers import model_for, registration_for

if TYPE_CHECKING:
    from simulation.world import World

_session_client = packets.session_client


def let_in(world: World) -> None:
    """Put this world around the program."""
    registers = {register.path: register for register in world.registers.values()}

    def session_client(*arguments: Any) -> Any:
        paho = _session_client(*arguments)
        paho._create_socket_connection = world.broker.connect
        return paho

    session.session_client = session_client  # type: ignore[attr-defined]
    database.create_engine = world.disk.create_engine  # type: ignore[attr-defined]
    parts._register = lambda _base, kkt: world.registers[kkt.id].drive()
    virtual.RegisterModel = model_for(registers)  # type: ignore[attr-defined]
    virtual.FaultSwitch = partial(_switch, registers)  # type: ignore[attr-defined]
    virtual.registration_of = registration_for(registers)  # type: ignore[attr-defined]
    service.time = world.ofd  # type: ignore[attr-defined]


def _switch(registers: dict[Any, Any], path: Any) -> Any:
    return registers[path].switch
