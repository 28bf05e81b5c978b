"""Commands to a running bridge, a connection and an answer each: `pause`, `resume`, `sync`, `receipt`, `shift`."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from kkt_bridge.cli.connection import add_asking, argument, ask, describe, named_receipt
from kkt_bridge.cli.message_text import coloured, moment, reply_lines
from kkt_bridge.cli.output import FAINT, PLAIN, Output, line, print_json, print_result
from kkt_bridge.receipts.model import Identifier, ReceiptId


@dataclass(frozen=True, slots=True)
class BridgeCommand:
    """One command: it asks, prints what came of it, and returns the exit status."""

    help: str
    answer_timeout_s: float
    run: Callable[[argparse.Namespace], int]
    add_options: Callable[[argparse.ArgumentParser], None] = lambda _: None
    """Add those that only this command has."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the command."""
        describe(parser, self.help)
        self.add_options(parser)
        add_asking(parser, self.answer_timeout_s)


# -- pause, resume: stop and start the taking of receipts --------------------------------------------------------


def _switch_admission(args: argparse.Namespace) -> int:
    result = ask(args, args.command)
    print_result(args, result, "paused: new receipts are refused" if result.get("paused") else "receipts are taken")
    return 0


ADMISSION: Final = BridgeCommand(
    help="""\
A paused bridge answers new receipts with `paused` (retryable), also after a restart. What it has taken is printed
and sent to the OFD all the same.

exit status:
  0  done
  1  refused, not answered in time, or bridge or broker away
  2  wrong arguments, or an unusable configuration

example:
  kkt-bridge pause --config /etc/kkt-bridge/bridge.toml
  kkt-bridge resume --config /etc/kkt-bridge/bridge.toml
""",
    answer_timeout_s=10.0,
    run=_switch_admission,
)


# -- sync: have pending documents sent to the OFD now ------------------------------------------------------------


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="also through an open breaker and past waiting back-offs")


def _sync(args: argparse.Namespace) -> int:
    result = ask(args, "sync", {"force": args.force})
    counts = f"sent {result.get('sent')}, failed {result.get('failed')}, not tried {result.get('skipped')}"
    print_result(args, result, f"{counts}, in {result.get('duration_s', 0):.1f} s")
    nothing_went = not result.get("sent") and result.get("skipped")
    return 1 if result.get("failed") or nothing_went else 0


SYNC: Final = BridgeCommand(
    help="""\
exit status:
  0  the round is over and nothing failed in it
  1  documents failed in it (they are tried again later), or nothing was sent although documents wait; refused
     (`sync_in_progress`), not answered in time, or bridge or broker away
  2  wrong arguments, or an unusable configuration

example:
  kkt-bridge sync --config /etc/kkt-bridge/bridge.toml --force
""",
    answer_timeout_s=300.0,  # a round may meet hundreds of documents and an OFD that lets each one wait
    run=_sync,
    add_options=_add_force,
)


# -- receipt: the whole history of one ---------------------------------------------------------------------------


def _add_receipt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("receipt_id", type=argument(ReceiptId), metavar="ID", help="the receipt's id, a UUID")
    which = "which POS, where several used the same id"
    parser.add_argument("--pos", type=argument(Identifier), metavar="POS", help=which)


def _receipt(args: argparse.Namespace) -> int:
    answer = ask(args, "receipt", named_receipt(args))
    if args.json:
        print_json(answer)
        return 0
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
    return 0


RECEIPT: Final = BridgeCommand(
    help="""\
exit status:
  0  shown
  1  no such receipt, not answered in time, or bridge or broker away
  2  wrong arguments, or an unusable configuration

example:
  kkt-bridge receipt 0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11 --config /etc/kkt-bridge/bridge.toml
""",
    answer_timeout_s=10.0,
    run=_receipt,
    add_options=_add_receipt,
)


# -- shift: open or close it, or print an X report ---------------------------------------------------------------

_SHIFT_WORKS: Final = MappingProxyType({"open": "shift-open", "close": "shift-close", "x-report": "x-report"})


def _add_shift_work(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("work", choices=tuple(_SHIFT_WORKS), help="open or close a shift; print a report of it so far")
    which = "on which register; may be left out where there is one"
    parser.add_argument("--kkt", type=argument(Identifier), metavar="ID", help=which)


def _shift(args: argparse.Namespace) -> int:
    result = ask(args, _SHIFT_WORKS[args.work], {"kkt": args.kkt} if args.kkt else {})
    print_result(args, result, f"{result.get('kkt')}: {_shift_outcome(args.work, result)}")
    return 0


def _shift_outcome(work: str, result: Mapping[str, Any]) -> str:
    if work == "x-report":
        return "the X report is printed"
    done = "open" if result.get("open") else "closed"
    return f"shift {result.get('number')} is {done}, FD {result.get('fd_number')}"


SHIFT: Final = BridgeCommand(
    help="""\
The work waits its turn behind the receipts that the register is printing.

exit status:
  0  done
  1  refused by the register or the bridge, not answered in time, or bridge or broker away
  2  wrong arguments, or an unusable configuration

example:
  kkt-bridge shift close --kkt kkt-1 --config /etc/kkt-bridge/bridge.toml
""",
    answer_timeout_s=60.0,  # opening a shift takes some registers 20 to 30 s
    run=_shift,
    add_options=_add_shift_work,
)
