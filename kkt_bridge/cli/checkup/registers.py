"""The registers: what their fiscal storage holds, and what a running bridge says of them."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from kkt_bridge.cli.checkup import CheckupFinding, fail, ok, warn
from kkt_bridge.cli.checkup.journal import holder
from kkt_bridge.cli.checkup.machine import local_time
from kkt_bridge.clock import Clock
from kkt_bridge.registers.virtual.fiscal_document import FiscalDocument, Registration
from kkt_bridge.registers.virtual.storage_file import StorageError, read_documents
from kkt_bridge.settings import Settings, VirtualKktSettings

CLOCK_TOLERANCE: Final = timedelta(minutes=1)
"""Documents carry whole minutes."""

DRIFT_WARN_S: Final = 300.0
"""The time in a fiscal document (FFD tag 1012) may be 5 minutes off."""


def examine_registers(settings: Settings, states: Mapping[str, Any] | None, clock: Clock) -> Iterator[CheckupFinding]:
    """Check every register of the configuration; `states` are from the bridge's answer, None where there was none."""
    for kkt in settings.kkt:
        check = f"register {kkt.id}"
        if isinstance(kkt, VirtualKktSettings):
            yield _examine_storage(check, kkt.state, settings, clock)
        if states is not None:
            yield _examine_state(check, states.get(kkt.id))


def _examine_storage(check: str, path: Path, settings: Settings, clock: Clock) -> CheckupFinding:
    """Check the file of a virtual fiscal storage, read beside whoever holds it."""
    try:
        if not path.exists():
            return ok(check, f"virtual, {path} is made at the first start")
        hold = holder(path)
        number, last = _last_document(path)
        torn = not _ends_whole(path)
    except PermissionError as error:
        return fail(check, f"{path}: {error.strerror}", "run this as root or as the bridge's user; see `rights` above")
    except (StorageError, OSError, ValueError) as error:
        return fail(check, str(error), "restore the file from a backup, or give the register another `state`")
    reason = f"virtual, FN {number}, last FD {last.fd_number}, held by {hold or 'nobody'}"
    if last.at > local_time(clock, settings.zone) + CLOCK_TOLERANCE:
        return fail(check, f"{reason}: its last document is of {last.at.isoformat()}, later than now", "set the clock")
    if torn and hold is None:
        return warn(check, f"{reason}; a torn line at the end", "nothing to do: it is cut off at the next start")
    return ok(check, reason)


def _last_document(path: Path) -> tuple[str, FiscalDocument]:
    """Return the FN's number and the last document; every line before it is read, and checked, on the way."""
    documents = read_documents(path)
    first = last = next(documents, None)
    if first is None or last is None:
        raise ValueError(f"{path}: no whole document in it")
    for document in documents:
        last = document
    return Registration.of(first).fn_number, last


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"


def _examine_state(check: str, state: Mapping[str, Any] | None) -> CheckupFinding:
    if state is None:
        return fail(check, "the running bridge does not know it", "restart the bridge with this configuration")
    if not state.get("ready"):
        problem = state.get("problem") or "not yet reached"
        return fail(check, f"the bridge says: {problem}", "look at the register, and at the bridge's log")
    drift = state.get("clock_drift_s") or 0.0
    if abs(drift) > DRIFT_WARN_S:
        return warn(check, f"ready, but its clock is {drift:+.0f} s off", "set the register's clock, the shift closed")
    return ok(check, f"ready, {state.get('mode')}, {state.get('ofd_unsent')} documents not at the OFD")
