"""`kkt-bridge backup`: a consistent copy of the journal, also while the bridge runs."""

import argparse
import signal
import sys
from pathlib import Path
from typing import Final

from kkt_bridge.cli.checkup.journal import holder
from kkt_bridge.cli.connection import describe
from kkt_bridge.cli.output import print_error, print_json
from kkt_bridge.errors import JournalError
from kkt_bridge.journal.lock import lock_of
from kkt_bridge.journal.permissions import not_allowed
from kkt_bridge.recovery.backup import back_up
from kkt_bridge.settings import load_settings

HELP: Final = """\
The copy is one file, taken from one moment, checked, and on the disk when the command ends; the bridge may run, and is
not delayed. It holds every receipt, so only the user who makes it can read it. To go back to it: `kkt-bridge restore`.

exit status:
  0  the copy is there
  1  it is not, and what was there before is as it was
  2  wrong arguments or settings

example, every night:
  30 4 * * *  kkt-bridge  kkt-bridge backup --config /etc/kkt-bridge/bridge.toml --force /mnt/backup/journal.db
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    parser.add_argument("copy", type=Path, metavar="DEST", help="the file that the copy is to be")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the bridge's TOML file")
    parser.add_argument("--force", action="store_true", help="replace DEST where it exists")
    parser.add_argument("--json", action="store_true", help='print {"ok", "copy", "size", "receipts"} as JSON')


def run(args: argparse.Namespace) -> int:
    """Copy the journal; return the exit status."""
    # Stopped half-way it has made no copy, and must not say that it has.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    journal = load_settings(args.config).journal.path
    try:
        held = holder(lock_of(journal)) is not None
        made = back_up(journal, args.copy, held=held, replace=args.force)
    except PermissionError:
        return print_error("backup", not_allowed(lock_of(journal)))
    except (JournalError, OSError) as error:
        return print_error("backup", str(error))
    if args.json:
        print_json({"ok": True, "copy": str(made.path), "size": made.size, "receipts": made.receipts})
    else:
        print(f"{made.path}: {made.receipts} receipts, {made.size} bytes, checked")
    return 0
