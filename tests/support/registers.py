"""Acts of another user of a virtual register, past the bridge."""

from kkt_bridge.registers.base import Expected, Printed, PrintJob
from kkt_bridge.registers.virtual.driver import VirtualRegister
from kkt_bridge.registers.virtual.fiscal_document import Registration
from kkt_bridge.registers.virtual.storage_file import read_documents


def expected_on(register: VirtualRegister) -> Expected:
    """Read from its file where its next document will stand: that is no command, so no fault is spent on it."""
    path = register.path
    if not path.exists():
        register.status()
    documents = list(read_documents(path))
    return Expected(Registration.of(documents[0]).fn_number, documents[-1].fd_number + 1)


def print_on(register: VirtualRegister, job: PrintJob) -> Printed:
    """Print on a register, whatever its next document is."""
    return register.print_receipt(job, expected_on(register))
