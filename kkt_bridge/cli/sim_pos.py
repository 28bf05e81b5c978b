"""`kkt-bridge sim pos`: simulated POS terminals that sell until every receipt has its final reply."""

import argparse
import secrets
import signal
import time
from typing import Annotated, Any, Final

from pydantic import Field

from kkt_bridge.cli.connection import add_connection, address, argument
from kkt_bridge.cli.output import print_json
from kkt_bridge.runtime.stop_signals import STOP_SIGNALS
from kkt_bridge.settings import Seconds
from kkt_bridge.simulators.pos import Terminals, TerminalSettings, Trade

WAIT_POLL_S: Final = 0.2
DEADLINE_BASE_S: Final = 60.0
DEADLINE_PER_RECEIPT_S: Final = 4.0
"""More than the 1 to 3 s that a real register takes."""

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Rate = Annotated[float, Field(gt=0, le=10_000)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_connection(parser)
    add = parser.add_argument
    add("--pos", type=argument(Count), default=1, metavar="N", help="terminals, pos-1 and up (default: %(default)s)")
    add("--receipts", type=argument(Count), default=10, metavar="N", help="receipts in all (default: %(default)s)")
    add(
        "--rate",
        type=argument(Rate),
        default=0.0,
        metavar="R",
        help="receipts a second over all terminals (default: as fast as they are answered)",
    )
    add("--seed", metavar="S", help="the same seed sells the same goods under the same ids again (default: random)")
    add(
        "--retry-after",
        type=argument(Seconds),
        default=10.0,
        metavar="S",
        help="publish a receipt again after S seconds without a word on it (default: %(default)g)",
    )
    add("--deadline", type=argument(Seconds), metavar="S", help="give up after S seconds (default: 60 + 4 a receipt)")
    add("--json", action="store_true", help="print the result as one line of JSON")


def run(args: argparse.Namespace) -> int:
    """Sell; 0 if every receipt was answered for good, 1 if not."""
    seed = secrets.token_hex(4) if args.seed is None else args.seed
    settings = TerminalSettings(address(args), args.pos, seed, args.retry_after)
    trade = Trade(args.rate)
    trade.let_in(args.receipts)
    trade.close_the_door()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: trade.stop())
    with Terminals(settings, trade) as terminals:
        _wait(terminals, trade, args.deadline or DEADLINE_BASE_S + DEADLINE_PER_RECEIPT_S * args.receipts)
    report = terminals.tally.report()
    print_json(report) if args.json else print(_readable(report))
    return 0 if report["printed"] + report["rejected"] == args.receipts else 1


def _wait(terminals: Terminals, trade: Trade, deadline_s: float) -> None:
    deadline = time.monotonic() + deadline_s
    while not trade.stopped and not terminals.wait(WAIT_POLL_S):
        if time.monotonic() > deadline:
            trade.stop()


def _readable(report: dict[str, Any]) -> str:
    times = report["latencies"]
    lines = [
        "{published} receipts: {printed} printed, {rejected} rejected, {unanswered} without an answer".format(**report),
        "{retries} sent again, {duplicates} replies that only repeated an earlier one".format(**report),
    ]
    if report["errors"]:
        lines.append("rejected for: " + ", ".join(f"{code} ({n})" for code, n in sorted(report["errors"].items())))
    if times["max_ms"] is not None:
        lines.append(
            "until the final reply: p50 {p50_ms} ms, p95 {p95_ms} ms, p99 {p99_ms} ms, max {max_ms} ms".format(**times)
        )
    return "\n".join(lines)
