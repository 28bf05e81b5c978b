"""`kkt-bridge verify`: journal, fiscal storages and OFD against each other; `--rebuild` makes a lost journal anew."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from kkt_bridge.audit.differences import Difference
from kkt_bridge.audit.verify import AuditReport, audit
from kkt_bridge.cli.checkup.journal import holder
from kkt_bridge.cli.connection import describe
from kkt_bridge.cli.output import BAD, FAINT, GOOD, PLAIN, WARNING, Output, line, print_error, print_json
from kkt_bridge.clock import SystemClock
from kkt_bridge.errors import KktBridgeError, SettingsError
from kkt_bridge.journal.lock import lock_of
from kkt_bridge.journal.permissions import not_allowed
from kkt_bridge.journal.quarantine import REPLACED
from kkt_bridge.recovery.rebuild import Rebuilt, rebuild
from kkt_bridge.settings import Settings, load_settings

HELP: Final = """\
Reads the journal, every virtual fiscal storage, and the books of a simulated OFD, and names each difference: one line
each with its kind, the receipt, the register, FN and FD, what is wrong, and what to do. Nothing is changed, and a
running bridge is not disturbed: what is in progress is no difference.

With --rebuild, while the bridge is down, the journal is made anew: from the rows of the one that is there (an old copy,
say, which is then moved aside), or, where there is none, from those that can be read of the newest one that was moved
aside, damaged or replaced; and from the documents in the fiscal storages. Acknowledged receipts that were not printed
yet come back; a receipt that was printed is not printed again, whoever repeats it. It tells which file the rows are
from, and when that was last written.

exit status:
  0  the books agree, or the journal was made anew
  1  they do not, or could not be read
  2  wrong arguments or settings

examples:
  kkt-bridge verify --config /etc/kkt-bridge/bridge.toml
  kkt-bridge verify --config /etc/kkt-bridge/bridge.toml --fn /var/lib/kkt-bridge/kkt-1.fn.old
  kkt-bridge verify --rebuild --config /etc/kkt-bridge/bridge.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the bridge's TOML file")
    parser.add_argument(
        "--fn",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="the file of a virtual fiscal storage that was replaced; may be given several times",
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="make the journal anew from its rows, or what is left of them, and the storages; the bridge must be down",
    )
    parser.add_argument("--json", action="store_true", help="print everything as one line of JSON")


def run(args: argparse.Namespace) -> int:
    """Audit, or make the journal anew; return the exit status."""
    settings = load_settings(args.config)
    journal = settings.journal.path
    try:
        if args.rebuild:
            return _rebuild(args, settings, journal)
        running = holder(lock_of(journal)) is not None
        report = audit(settings, journal, args.fn, running=running)
    except SettingsError:
        raise
    except PermissionError:
        return print_error("verify", not_allowed(lock_of(journal)))
    except (KktBridgeError, OSError) as error:
        return print_error("verify", str(error))
    if args.json:
        print_json(_as_json(report))
    else:
        _show(report)
    return 1 if report.differences else 0


def _rebuild(args: argparse.Namespace, settings: Settings, journal: Path) -> int:
    rebuilt = rebuild(settings, journal, args.fn, SystemClock())
    if args.json:
        print_json({"ok": True, "rebuilt": asdict(rebuilt)})
        return 0
    out = Output()
    for text, style in _rebuilt_lines(rebuilt):
        out.print(line((text, style)))
    out.print(line((f"{journal} is there again: start the bridge, then run `kkt-bridge verify`", GOOD)))
    return 0


def _rebuilt_lines(rebuilt: Rebuilt) -> Iterator[tuple[str, str]]:
    """Yield what was saved and what was not, a line each with its style."""
    if rebuilt.damaged:
        made_way = [name for name in rebuilt.moved if name.startswith(rebuilt.damaged + REPLACED)]
        where = f"now {made_way[0]}" if made_way else "which stays where it is"
        yield f"from {rebuilt.damaged}, {where}, {_age(rebuilt.last_write_ms)}:", PLAIN
        kept = f"{rebuilt.receipts} receipts ({rebuilt.waiting} to be printed, {rebuilt.found_printed} found printed)"
        yield f"  {kept}, {rebuilt.tombstones} purged ones", PLAIN
    if rebuilt.awaited:
        yield f"{rebuilt.awaited} fiscal documents wait for their receipts: a repeat is answered, not printed", PLAIN
    if rebuilt.unread_tables:
        yield f"rows that could not be read are missing from: {', '.join(rebuilt.unread_tables)}", WARNING
    for number in rebuilt.unread_storages:
        unread = "what waits and may be printed on it is left to you where it is in no register any more"
        yield f"not given: the storage FN {number}; what is printed on it cannot be known from it: {unread}", WARNING
    for name in rebuilt.unmarked:
        yield f"printed, but on which document is not known any more: {name}; it is not printed again", WARNING
    for name in rebuilt.lost:
        yield f"taken, and its content is lost: {name}; see whether it is on paper, else have its POS repeat it", BAD


def _age(last_write_ms: int | None) -> str:
    if last_write_ms is None:
        return "how old it is cannot be read"
    return f"last written {datetime.fromtimestamp(last_write_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _as_json(report: AuditReport) -> dict[str, Any]:
    return {
        "ok": not report.differences,
        "differences": [_finding(finding) for finding in report.differences],
        "notes": [_finding(finding) for finding in report.notes],
        "not_checked": report.not_checked,
        "sums": asdict(report.sums) if report.sums else None,
        "summary": str(report.sums) if report.sums else None,
    }


def _finding(finding: Difference) -> dict[str, Any]:
    names = ("kind", "pos_id", "receipt_id", "kkt", "fn_number", "fd_number", "what", "advice")
    return {name: getattr(finding, name) for name in names}


def _show(report: AuditReport) -> None:
    out = Output()
    for finding in report.findings:
        style = FAINT if finding.is_note else BAD
        what = " ".join(part for part in (finding.names() + ":" if finding.names() else "", finding.what) if part)
        out.print(line((finding.kind, style), (f" {what}; {finding.advice}", PLAIN)))
    for what in report.not_checked:
        out.print(line(("not checked", FAINT), (f" {what}", PLAIN)))
    if report.sums is not None:
        out.print(str(report.sums))
    count = len(report.differences)
    verdict = "the books agree" if count == 0 else "1 difference" if count == 1 else f"{count} differences"
    out.print(line((verdict, BAD if count else GOOD)))
