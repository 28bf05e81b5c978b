"""`kkt-bridge shift`: open or close a shift on a register, or print an X report."""

import argparse
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from kkt_bridge.cli.connection import add_asking, argument, ask, describe
from kkt_bridge.cli.output import print_result
from kkt_bridge.receipts.model import Identifier

ANSWER_TIMEOUT_S: Final = 60.0
"""Opening a shift takes some registers 20 to 30 s."""

COMMANDS: Final = MappingProxyType({"open": "shift-open", "close": "shift-close", "x-report": "x-report"})

HELP: Final = """\
The work waits its turn behind the receipts that the register is printing.

exit status:
  0  done
  1  refused by the register or the bridge, not answered in time, or bridge or broker away
  2  wrong arguments, or an unusable configuration

example:
  kkt-bridge shift close --kkt kkt-1 --config /etc/kkt-bridge/bridge.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    parser.add_argument("work", choices=tuple(COMMANDS), help="open or close a shift; print a report of it so far")
    parser.add_argument(
        "--kkt", type=argument(Identifier), metavar="ID", help="on which register; may be left out where there is one"
    )
    add_asking(parser, ANSWER_TIMEOUT_S)


def run(args: argparse.Namespace) -> int:
    """Send the command; return the exit status."""
    result = ask(args, COMMANDS[args.work], {"kkt": args.kkt} if args.kkt else {})
    print_result(args, result, _words(args.work, result))
    return 0


def _words(work: str, result: Mapping[str, Any]) -> str:
    if work == "x-report":
        return f"{result.get('kkt')}: the X report is printed"
    done = "open" if result.get("open") else "closed"
    return f"{result.get('kkt')}: shift {result.get('number')} is {done}, FD {result.get('fd_number')}"
