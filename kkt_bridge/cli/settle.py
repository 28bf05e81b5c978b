"""`kkt-bridge settle`: what became of receipts of which a register cannot tell."""

import argparse
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, get_type_hints

from pydantic import Field

from kkt_bridge.cli.connection import add_subcommand, argument, ask, describe, named_receipt
from kkt_bridge.cli.message_text import moment
from kkt_bridge.cli.output import BAD, FAINT, GOOD, PLAIN, Output, line, print_json, print_result
from kkt_bridge.errors import SettingsError
from kkt_bridge.receipts.model import Identifier, ReceiptId
from kkt_bridge.wire.commands import AdoptedDocument, PassedDocument, SettleArgs

ANSWER_TIMEOUT_S: Final = 60.0
"""A real register may be slow to show an old document."""

HELP: Final = """\
A receipt is in doubt when its register lost the answer, and its fiscal storage can no longer tell: it was swapped, or
lost documents. Nothing is printed on that register until every doubt is settled. Find out: look at the paper, at the
report of the old storage, at the OFD. `adopt` where a document exists, `print-again` only where there is none: a
second fiscal document for one sale cannot be taken back.

Where a document cannot be read and no receipt is in doubt, it may be a receipt that was lost with a journal, and that
its POS may send again. Look at its paper: `adopt` it, with all that the paper shows, for a receipt that waits; `pass`
it where it is none of ours.

exit status:
  0  done
  1  refused (`not_in_doubt`, `document_mismatch`, `document_taken`, `no_document`, `not_in_the_way`, ...), not
     answered in time, or register, bridge or broker away
  2  wrong arguments, or an unusable configuration

example:
  kkt-bridge settle list --config /etc/kkt-bridge/bridge.toml
  kkt-bridge settle adopt 0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11 --fd 412 --reason "seen on the roll" --bridge store-017
  kkt-bridge settle adopt 0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11 --fd 412 --fn 9999078900000001 --sign 2819546253 \\
      --at 2026-11-22T14:03:00+03:00 --shift 12 --number 34 --reason "buyer's copy" --bridge store-017
  kkt-bridge settle print-again 0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11 --doubt 1841 \\
      --reason "not in the old FN's report" --bridge store-017
  kkt-bridge settle pass --fn 9999078900000001 --fd 412 --reason "a receipt of the old program" --bridge store-017
"""

_ON_PAPER: Final = MappingProxyType(
    {
        "fn_number": ("--fn", "the number of the old fiscal storage (ФН)"),
        "fiscal_sign": ("--sign", "the fiscal sign (ФП, ФПД)"),
        "datetime": ("--at", 'date and time with the offset, as in "2026-11-22T14:03:00+03:00"'),
        "shift_number": ("--shift", "the number of the shift (СМЕНА)"),
        "receipt_number": ("--number", "the receipt's number in its shift (ЧЕК)"),
    }
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    works = parser.add_subparsers(dest="work", metavar="WORK", required=True)
    _add_work(works, "list", "show the receipts in doubt, the oldest of each register")
    adopt = _add_decision(works, "adopt", "say which fiscal document a receipt has")
    adopt.add_argument(
        "--fd", type=argument(_kind_of(AdoptedDocument, "fd_number")), required=True, help="the document's number (ФД)"
    )
    group = adopt.add_argument_group("all of these too", "where the document is on a storage that is no longer there")
    for name, (option, summary) in _ON_PAPER.items():
        group.add_argument(option, dest=name, type=argument(_kind_of(AdoptedDocument, name)), help=summary)
    again = _add_decision(works, "print-again", "say that a receipt has no document, so that it is printed")
    again.add_argument(
        "--doubt",
        type=argument(Annotated[int, Field(ge=1)]),
        required=True,
        metavar="N",
        help="which attempt left no document, as `settle list` shows it: the receipt may have been begun again since",
    )
    passed = _add_work(works, "pass", "say that an unreadable document is none of ours, so that printing goes on")
    for name, option, summary in (
        ("fn_number", "--fn", "the number of the fiscal storage in the register (ФН)"),
        ("fd_number", "--fd", "the document's number (ФД)"),
    ):
        kind = argument(_kind_of(PassedDocument, name))
        passed.add_argument(option, dest=name, type=kind, required=True, help=summary)
    _add_reason(passed)


def run(args: argparse.Namespace) -> int:
    """Do what is asked; return the exit status."""
    return _WORKS[args.work](args)


def _kind_of(model: type[AdoptedDocument | PassedDocument | SettleArgs], name: str) -> Any:
    return get_type_hints(model, include_extras=True)[name]


def _add_work(works: Any, name: str, summary: str) -> argparse.ArgumentParser:
    return add_subcommand(works, name, summary, HELP, ANSWER_TIMEOUT_S)


def _add_decision(works: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser = _add_work(works, name, summary)
    parser.add_argument("receipt_id", type=argument(ReceiptId), metavar="ID", help="the receipt's id")
    parser.add_argument("--pos", type=argument(Identifier), help="which POS, where several used the same id")
    _add_reason(parser)
    return parser


def _add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reason",
        type=argument(_kind_of(SettleArgs, "reason")),
        required=True,
        help="how you know, for the bridge's records",
    )


def _list(args: argparse.Namespace) -> int:
    registers: Mapping[str, Any] = ask(args, "status")["kkt"]
    doubts = [{"kkt": kkt, **doubt} for kkt, state in registers.items() for doubt in state.get("doubts", [])]
    in_the_way = [
        {"kkt": kkt, "reason": state.get("detail")}
        for kkt, state in registers.items()
        if state.get("problem") == "unsettled_doubt" and state.get("doubts_total", 0) == state.get("parked", 0)
    ]
    total = sum(state.get("doubts_total", 0) for state in registers.values())
    if args.json:
        print_json({"doubts": doubts, "total": total, "in_the_way": in_the_way})
        return 0
    out = Output()
    for doubt in doubts:
        out.print(_doubt_line(doubt))
    for each in in_the_way:
        out.print(line((f"{each['kkt']}: ", BAD), (each["reason"], PLAIN)))
    out.print(line((f"receipts in doubt: {total}, shown: {len(doubts)}", FAINT)))
    return 0


def _doubt_line(doubt: Mapping[str, Any]) -> Any:
    where = f"after FD {doubt['fd_number']} of FN {doubt['fn_number']}"
    return line(
        (f"{doubt['receipt_id']} of {doubt['pos_id']}: ", PLAIN),
        (f"{doubt['total']} on {doubt['kkt']}", BAD),
        (f", doubt {doubt['doubt']}, since {moment(doubt['since'])}, {where}: {doubt['reason']}", PLAIN),
    )


def _adopt(args: argparse.Namespace) -> int:
    given = {name: value for name in _ON_PAPER if (value := getattr(args, name)) is not None}
    if missing := [option for name, (option, _) in _ON_PAPER.items() if given and name not in given]:
        raise SettingsError(f"settle adopt: a document on an old storage is told whole: {', '.join(missing)} missing")
    return _settle(args, {"adopt": {"fd_number": args.fd, **given}})


def _print_again(args: argparse.Namespace) -> int:
    return _settle(args, {"print_again": True, "doubt": args.doubt})


def _settle(args: argparse.Namespace, decision: Mapping[str, Any]) -> int:
    result = ask(args, "settle", {**named_receipt(args), **decision, "reason": args.reason})
    mark = result.get("fiscal")
    outcome = f"has FD {mark['fd_number']} of FN {mark['fn_number']}" if mark else "is printed again"
    print_result(args, result, line((f"{result['receipt_id']} of {result['pos_id']} ", PLAIN), (outcome, GOOD)))
    return 0


def _pass(args: argparse.Namespace) -> int:
    document = {"fn_number": args.fn_number, "fd_number": args.fd_number}
    result = ask(args, "settle", {"pass_document": document, "reason": args.reason})
    passed = f"FD {result['fd_number']} of FN {result['fn_number']} is passed"
    print_result(args, result, line((f"{result['kkt']}: ", PLAIN), (passed, GOOD)))
    return 0


_WORKS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = MappingProxyType(
    {"list": _list, "adopt": _adopt, "print-again": _print_again, "pass": _pass}
)
