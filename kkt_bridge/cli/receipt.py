"""`kkt-bridge receipt`: one receipt's whole history."""

import argparse
from collections.abc import Mapping
from typing import Any, Final

from kkt_bridge.cli.connection import add_asking, argument, ask, describe
from kkt_bridge.cli.message_text import coloured, moment, reply_lines
from kkt_bridge.cli.output import FAINT, PLAIN, Output, line, print_json
from kkt_bridge.receipts.model import Identifier, ReceiptId

ANSWER_TIMEOUT_S: Final = 10.0

HELP: Final = """\
exit status:
  0  shown
  1  no such receipt, not answered in time, or bridge or broker away
  2  wrong arguments, or an unusable configuration

example:
  kkt-bridge receipt 0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11 --config /etc/kkt-bridge/bridge.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    parser.add_argument("receipt_id", type=argument(ReceiptId), metavar="ID", help="the receipt's id, a UUID")
    parser.add_argument(
        "--pos", type=argument(Identifier), metavar="POS", help="which POS, where several used the same id"
    )
    add_asking(parser, ANSWER_TIMEOUT_S)


def run(args: argparse.Namespace) -> int:
    """Show the history; return the exit status."""
    answer = ask(args, "receipt", {"receipt_id": args.receipt_id, **({"pos_id": args.pos} if args.pos else {})})
    if args.json:
        print_json(answer)
    else:
        _show(answer)
    return 0


def _show(answer: Mapping[str, Any]) -> None:
    out = Output()
    for text in reply_lines(answer["reply"]):
        out.print(text)
    for step in answer["history"]:
        document = f", FD {step['fd_number']}" if step.get("fd_number") else ""
        problem = f", {step['error']}" if step.get("error") else ""
        out.print(line((f"  {moment(step['at'])}  ", FAINT), coloured(step["to"]), (document + problem, PLAIN)))
    if answer.get("server_time"):
        out.print(line(("  the OFD's own time of it: ", FAINT), (f"{answer['server_time']} (Unix seconds)", PLAIN)))
    if answer.get("purged"):
        out.print(line(("  the record was purged; number and verdict are kept for ever", FAINT)))
