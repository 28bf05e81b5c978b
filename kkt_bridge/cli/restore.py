"""`kkt-bridge restore`: a backup put in the journal's place."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

from kkt_bridge.cli.connection import describe
from kkt_bridge.cli.output import print_error, print_json
from kkt_bridge.errors import JournalError
from kkt_bridge.journal.migrate import known_schema
from kkt_bridge.recovery.restore import restore
from kkt_bridge.settings import load_settings

HELP: Final = """\
The bridge must be down. COPY is checked first; then what stands in the journal's place is moved aside, never deleted,
and the copy is put there, on the disk when the command ends. COPY itself is only read.

A copy is older than the registers. So at its next start, before it prints anything, the bridge reads what each register
holds beyond the copy: a receipt that is found there is not printed again, whoever repeats it, and the alert
journal_behind says how many there were. What was taken after the copy was made and not printed yet is not in it: their
POS terminals, which have no final reply, send it again.

Where a fiscal storage was exchanged after the copy was made, the old one cannot be read. What waits in the copy and is
found nowhere is then not printed but left to you (`kkt-bridge settle list`). A receipt that only the old storage knows
is printed again if its POS repeats it.

exit status:
  0  the copy is in place
  1  it is not: what is wrong is said, and what was there before is as it was
  2  wrong arguments or settings

example:
  systemctl stop kkt-bridge
  kkt-bridge restore /mnt/backup/journal.db --config /etc/kkt-bridge/bridge.toml
  systemctl start kkt-bridge
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    parser.add_argument("copy", type=Path, metavar="COPY", help="a copy that `kkt-bridge backup` made")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the bridge's TOML file")
    parser.add_argument("--renamed", action="store_true", help="the copy may be of a bridge with another bridge_id")
    parser.add_argument("--json", action="store_true", help='print {"ok", "journal", "receipts", "schema", "moved"}')


def run(args: argparse.Namespace) -> int:
    """Put the copy in place; return the exit status."""
    settings = load_settings(args.config)
    journal = settings.journal.path
    try:
        done = restore(journal, args.copy, settings.bridge_id, renamed=args.renamed)
    except JournalError as error:
        return print_error("restore", str(error))
    if args.json:
        print_json({"ok": True, "journal": str(journal), **asdict(done)})
        return 0
    print(f"{journal}: {done.receipts} receipts from {args.copy}, checked")
    if done.moved:
        print(f"what was there is kept: {', '.join(done.moved)}")
    if done.schema < known_schema():
        print(f"it has schema {done.schema}, and is brought to {known_schema()} at the next start")
    print(
        "now start the bridge: before it prints it reads what its registers hold beyond this copy, and prints none of "
        "it again; then run `kkt-bridge verify`"
    )
    return 0
