"""`kkt-bridge dlq`: the dead letters, documents that the OFD refused for good."""

import argparse
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final, get_type_hints

from pydantic import Field

from kkt_bridge.cli.connection import add_subcommand, argument, ask, describe, named_receipt
from kkt_bridge.cli.message_text import moment
from kkt_bridge.cli.output import BAD, FAINT, PLAIN, Output, line, print_json, print_result
from kkt_bridge.receipts.model import Identifier, ReceiptId
from kkt_bridge.wire.commands import DiscardArgs

ANSWER_TIMEOUT_S: Final = 30.0
PAGE_MAX: Final = 200
"""Letters in one answer of the bridge."""

HELP: Final = """\
exit status:
  0  done
  1  refused (`not_found`, `ambiguous`, ...), not answered in time, or bridge or broker away
  2  wrong arguments, or an unusable configuration

example:
  kkt-bridge dlq list --config /etc/kkt-bridge/bridge.toml
  kkt-bridge dlq requeue --all --config /etc/kkt-bridge/bridge.toml
  kkt-bridge dlq discard 0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11 --reason "entered by hand at the OFD" --bridge store-017
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    works = parser.add_subparsers(dest="work", metavar="WORK", required=True)
    listing = _add_work(works, "list", "show the dead letters, the oldest first")
    listing.add_argument(
        "--limit", type=argument(Annotated[int, Field(ge=1)]), default=50, help="at most so many (default: %(default)s)"
    )
    requeue = _add_work(works, "requeue", "send one again, or all of them")
    which = requeue.add_mutually_exclusive_group(required=True)
    which.add_argument("receipt_id", type=argument(ReceiptId), nargs="?", metavar="ID", help="the receipt's id")
    which.add_argument("--all", action="store_true", help="every dead letter")
    discard = _add_work(works, "discard", "give one up: its document never reaches the OFD by this bridge")
    discard.add_argument("receipt_id", type=argument(ReceiptId), metavar="ID", help="the receipt's id")
    discard.add_argument(
        "--reason",
        type=argument(get_type_hints(DiscardArgs, include_extras=True)["reason"]),
        required=True,
        help="why, for the bridge's records",
    )
    for work in (requeue, discard):
        work.add_argument("--pos", type=argument(Identifier), help="which POS, where several used the same id")


def run(args: argparse.Namespace) -> int:
    """Do what is asked; return the exit status."""
    return _WORKS[args.work](args)


def _add_work(works: Any, name: str, summary: str) -> argparse.ArgumentParser:
    return add_subcommand(works, name, summary, HELP, ANSWER_TIMEOUT_S)


def _list(args: argparse.Namespace) -> int:
    found = _letters(args)
    if args.json:
        print_json(found)
        return 0
    out = Output()
    for letter in found["letters"]:
        out.print(_letter_line(letter))
    out.print(line((f"dead letters: {found['total']}, shown: {len(found['letters'])}", FAINT)))
    return 0


def _letters(args: argparse.Namespace) -> dict[str, Any]:
    """Return as many letters as are wanted, gathered page by page."""
    letters: list[Any] = []
    after = 0
    while True:
        page = ask(args, "dlq-list", {"limit": min(PAGE_MAX, args.limit - len(letters)), "after": after})
        letters += page["letters"]
        if len(letters) >= args.limit or page.get("next") is None:
            return {**page, "letters": letters}
        after = page["next"]


def _letter_line(letter: Mapping[str, Any]) -> Any:
    return line(
        (f"{letter['receipt_id']} of {letter['pos_id']}: ", PLAIN),
        (letter["reason"], BAD),
        (f" after {letter['attempts']} attempts, {moment(letter['failed_at'])}: {letter['last_error']}", PLAIN),
    )


def _requeue(args: argparse.Namespace) -> int:
    result = ask(args, "dlq-requeue", {"all": True} if args.all else named_receipt(args))
    print_result(args, result, f"requeued: {result.get('requeued')}")
    return 0


def _discard(args: argparse.Namespace) -> int:
    result = ask(args, "dlq-discard", {**named_receipt(args), "reason": args.reason})
    print_result(args, result, f"discarded: {result.get('discarded')}")
    return 0


_WORKS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = MappingProxyType(
    {"list": _list, "requeue": _requeue, "discard": _discard}
)
