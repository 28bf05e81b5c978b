"""The invariants, one a module; each looks from the outside only.

They see what leaves the bridge (messages, acknowledgements), what the registers' storages and the OFD's ledger hold,
and the journal's file as read past the program; never an object of the program.
"""

from simulation.invariants.acknowledged_is_kept import AcknowledgedIsKept
from simulation.invariants.delivered_in_order import DeliveredInOrder
from simulation.invariants.invariant import Invariant
from simulation.invariants.no_input_ends_a_loop import NoInputEndsALoop
from simulation.invariants.nothing_ends_silently import NothingEndsSilently
from simulation.invariants.one_document import OneDocument
from simulation.invariants.one_verdict import OneVerdict
from simulation.invariants.order_without_the_clock import OrderWithoutTheClock
from simulation.invariants.refused_before_accepted import RefusedBeforeAccepted
from simulation.invariants.wrong_is_seen import WrongIsSeen

INVARIANTS: tuple[type[Invariant], ...] = (
    AcknowledgedIsKept,
    OneDocument,
    OneVerdict,
    DeliveredInOrder,
    NothingEndsSilently,
    RefusedBeforeAccepted,
    NoInputEndsALoop,
    OrderWithoutTheClock,
    WrongIsSeen,
)
