"""The journal's file, looked at beside a running bridge: read-only, without its lock, for a limited time."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from kkt_bridge.cli.checkup.findings import CheckupFinding, fail, ok, warn
from kkt_bridge.cli.checkup.locks import LockHolder
from kkt_bridge.journal.quarantine import damaged_last, rebuild_advice, signs_of_lost_journal
from kkt_bridge.journal.readonly import open_readonly
from kkt_bridge.journal.schema import known_schema, schema_of

CHECK_TIME_MAX_S: Final = 10.0
"""A long read keeps a running bridge from tidying up its write-ahead log."""

STEPS_BETWEEN_LOOKS: Final = 10_000
"""Of SQLite's virtual machine, between looks at the time."""

_CHECK: Final = "journal file"


def examine_journal(path: Path, hold: LockHolder | None) -> list[CheckupFinding]:
    """Who holds the file, whether it is whole, and which schema it has."""
    held = ok("journal lock", f"a bridge is running on it ({hold})" if hold else "free: no bridge is running on it")
    if not path.exists():
        return [held, _missing(path)]
    try:
        with closing(_open(path, hold)) as connection:
            return [held, _examine_pages(connection, path), _examine_schema(connection, path)]
    except sqlite3.OperationalError as error:
        return [held, warn(_CHECK, f"{path} cannot be read: {error}", "run this as root or as the bridge's user")]
    except sqlite3.DatabaseError as error:
        return [held, _damaged(path, str(error))]


def _missing(path: Path) -> CheckupFinding:
    if moved := damaged_last(path):
        reason = f"{path} is not there, and {moved.name} beside it was damaged: no bridge starts like this"
        return fail(_CHECK, reason, rebuild_advice(path))
    if lost := signs_of_lost_journal(path):
        reason, _, advice = lost.partition(": is its disk mounted? Nothing was begun. ")
        return fail(_CHECK, reason, f"see whether its disk is mounted. {advice}")
    return ok(_CHECK, f"{path} is made at the first start")


def _open(path: Path, hold: LockHolder | None) -> sqlite3.Connection:
    """A connection that leaves nothing behind, and gives up in time."""
    connection = open_readonly(path, held=hold is not None)
    deadline = time.monotonic() + CHECK_TIME_MAX_S
    connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_LOOKS)
    return connection


def _examine_pages(connection: sqlite3.Connection, path: Path) -> CheckupFinding:
    try:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "interrupted" not in str(error):
            raise
        advice = "check it while the bridge is down, or look at the bridge's log: it checks at every start"
        return warn(_CHECK, f"{path} is too large to be checked within {CHECK_TIME_MAX_S:g} s", advice)
    return ok(_CHECK, f"{path} is whole") if verdict == "ok" else _damaged(path, verdict)


def _examine_schema(connection: sqlite3.Connection, path: Path) -> CheckupFinding:
    found, known = schema_of(connection), known_schema()
    if found > known:
        advice = "install the newer kkt-bridge again; an older one does not start on this journal"
        return fail("journal schema", f"{path} has schema {found}, this program knows {known}", advice)
    later = "" if found == known else f", brought to {known} at the next start"
    return ok("journal schema", f"schema {found}{later}")


def _damaged(path: Path, how: str) -> CheckupFinding:
    advice = f"stop the bridge; its next start moves the file aside; then {rebuild_advice(path)}"
    return fail(_CHECK, f"{path} is damaged: {how}", advice)
