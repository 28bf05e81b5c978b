"""What another user of a virtual register does with it, past the bridge."""

from kkt_bridge.registers.base import Expected, Printed, PrintJob
from kkt_bridge.registers.virtual import VirtualRegister
from kkt_bridge.simulators.document_file import read_documents
from kkt_bridge.simulators.fiscal_document import Registration


def expected_on(register: VirtualRegister) -> Expected:
    """Where its next document will stand, by its file: that is no command, so no fault is spent on it."""
    path = register._path
    if not path.exists():
        register.status()
    documents = list(read_documents(path))
    return Expected(Registration.of(documents[0]).fn_number, documents[-1].fd_number + 1)


def print_on(register: VirtualRegister, job: PrintJob) -> Printed:
    """Print on a register, whatever its next document is."""
    return register.print_receipt(job, expected_on(register))
