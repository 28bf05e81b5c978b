"""`kkt-bridge send`: publish receipts from a file, and show what the bridge says to each."""

import argparse
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kkt_bridge.cli.connection import (
    add_connection,
    add_timeout,
    address,
    argument,
    describe,
    object_in,
    receive,
)
from kkt_bridge.cli.message_text import reply_lines
from kkt_bridge.cli.output import Output, print_error, print_json
from kkt_bridge.cli.receipt_file import FileReceipt, NotReceipts, raw_receipt, read_receipts
from kkt_bridge.errors import BrokerAway
from kkt_bridge.mqtt.client import BridgeAddress, BrokerClient, Received
from kkt_bridge.receipts.model import Identifier
from kkt_bridge.wire.decode import Undecodable, decode_receipt

REPLY_TIMEOUT_S: Final = 30.0
DEFAULT_POS: Final = "pos-1"
UNDER_WAY_MAX: Final = 100
"""Receipts that wait for their final reply at once."""

ALL_PRINTED: Final = 0
SOME_REJECTED: Final = 3
SOME_UNANSWERED: Final = 4

HELP: Final = """\
FILE holds one receipt, an array, JSON lines, or receipts one after another. Each is sent in the very bytes that stand
there, wrong or not, so that you see what the bridge says to it; only a missing receipt_id (a new one, told on
standard error) and a missing pos_id (from --pos) are put in. Sending a receipt again is always safe.

exit status:
  0  every receipt is printed
  1  the broker is away, or went away
  2  wrong arguments, an unusable configuration, or a file without receipts; nothing was sent
  3  a receipt was rejected
  4  a receipt has no final reply yet (also where others were rejected): it may be printed later

example:
  kkt-bridge send receipt.json --config /etc/kkt-bridge/bridge.toml
  kkt-bridge send - --bridge store-017 --pos pos-2 --json < receipts.jsonl | jq .status
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """A receipt under way. `receipt_id` is the one its replies name: None where the bridge can find none in it."""

    number: int
    pos: str
    receipt_id: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    parser.add_argument("file", metavar="FILE", help='the receipts as JSON; "-" for standard input')
    parser.add_argument(
        "--pos",
        type=argument(Identifier),
        help=f"the POS of receipts without a pos_id (default: {DEFAULT_POS}); with --raw, on whose topic to publish",
    )
    parser.add_argument("--raw", action="store_true", help="send the file byte for byte, as one payload")
    add_timeout(parser, REPLY_TIMEOUT_S, "how long to wait for the next final reply")
    parser.add_argument("--json", action="store_true", help="print each reply as one line of JSON")
    add_connection(parser)


def run(args: argparse.Namespace) -> int:
    """Send what the file holds; return the exit status."""
    where = address(args)
    try:
        receipts = _receipts(args)
    except (NotReceipts, OSError) as error:
        print_error("send", f"{args.file}: {getattr(error, 'strerror', None) or error}")
        return 2
    for number, receipt in enumerate(receipts, start=1):
        if receipt.made_id is not None:
            print_error("send", f"receipt {number} has no receipt_id: it is sent as {receipt.made_id}")
    with where.client() as client:
        return Dialogue(client, where, args.timeout, as_json=args.json).run(receipts)


def _receipts(args: argparse.Namespace) -> list[FileReceipt]:
    content = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
    if args.raw:
        return [raw_receipt(content, args.pos, DEFAULT_POS)]
    receipts = read_receipts(content, args.pos or DEFAULT_POS)
    if not receipts:
        raise NotReceipts("there is no receipt in it")
    return receipts


class Dialogue:
    """Receipts sent, replies received."""

    def __init__(self, client: BrokerClient, where: BridgeAddress, timeout_s: float, *, as_json: bool) -> None:
        self._client = client
        self._topics = where.topics
        self._timeout_s = timeout_s
        self._out = None if as_json else Output()
        self._under_way: dict[int, Sent] = {}
        self._buffered: set[int] = set()
        self._rejected = 0
        self._offline = False
        self._deadline = 0.0

    def run(self, receipts: list[FileReceipt]) -> int:
        """Send them all, and wait for the last final reply or too long; return the exit status."""
        replies = [self._topics.reply(pos) for pos in sorted({receipt.pos for receipt in receipts})]
        self._client.subscribe(replies)
        with suppress(BrokerAway):  # a POS may not be let read it, and does without
            self._client.subscribe([self._topics.state("online")])
        self._extend_deadline()
        unsent = 0
        for number, receipt in enumerate(receipts, start=1):
            if not self._make_room(receipt):
                unsent = len(receipts) - number + 1
                break
            self._send(number, receipt)
        while self._under_way and self._take_next():
            pass
        return self._exit_status(unsent)

    def _send(self, number: int, receipt: FileReceipt) -> None:
        self._under_way[number] = Sent(number, receipt.pos, _id_in_replies(receipt))
        self._client.publish(self._topics.receipt(receipt.pos), receipt.payload, correlation=_correlation(number))
        self._extend_deadline()

    def _make_room(self, receipt: FileReceipt) -> bool:
        """Wait until this one may go out: few under way, and none with the same id, whose replies look the same."""
        while len(self._under_way) >= UNDER_WAY_MAX or self._is_under_way(receipt.pos, _id_in_replies(receipt)):
            if not self._take_next():
                return False
        return True

    def _is_under_way(self, pos: str, receipt_id: str | None) -> bool:
        known = ((sent.pos, sent.receipt_id) for sent in self._under_way.values())
        return receipt_id is not None and (pos, receipt_id) in known

    def _take_next(self) -> bool:
        """Wait for one message and act on it; False when it is too late for any."""
        message = receive(self._client, self._deadline)
        if message is None:
            return False
        content = object_in(message.payload)
        if message.topic == self._topics.state("online"):
            self._offline = content.get("online") is False
        elif sent := self._receipt_of(message, content):
            self._take_reply(sent, content)
        return True

    def _receipt_of(self, message: Received, content: dict[str, Any]) -> Sent | None:
        """Return the receipt of this reply: by its id, or else its correlation, or else the first without an id."""
        here = [sent for sent in self._under_way.values() if message.topic == self._topics.reply(sent.pos)]
        receipt_id = content.get("receipt_id")
        if receipt_id is None and message.correlation is not None:
            here = [sent for sent in here if _correlation(sent.number) == message.correlation]
        return next((sent for sent in here if sent.receipt_id == receipt_id), None)

    def _take_reply(self, sent: Sent, reply: dict[str, Any]) -> None:
        if self._out is None:
            print_json(reply)
        else:
            for text in reply_lines(reply):
                self._out.print(text)
            self._out.file.flush()
        if reply.get("final"):
            self._rejected += reply.get("status") != "printed"
            del self._under_way[sent.number]
            self._extend_deadline()
        else:
            self._buffered.add(sent.number)

    def _extend_deadline(self) -> None:
        self._deadline = time.monotonic() + self._timeout_s

    def _exit_status(self, unsent: int) -> int:
        for sent in self._under_way.values():
            name = f"receipt {sent.number} ({sent.receipt_id or 'without a usable receipt_id'} of {sent.pos})"
            print_error("send", f"{name}: no final reply within {self._timeout_s:g} s: {self._why(sent)}")
        if unsent:
            print_error("send", f"the last {unsent} receipts were not sent")
        if self._under_way or unsent:
            return SOME_UNANSWERED
        return SOME_REJECTED if self._rejected else ALL_PRINTED

    def _why(self, sent: Sent) -> str:
        if sent.number in self._buffered:
            return "it is safe in the bridge and will be printed, see `kkt-bridge status`"
        if self._offline:
            return f"bridge {self._topics.bridge} is offline; the broker may keep it for its return"
        return f"bridge {self._topics.bridge} said nothing; is it the right one, and running?"


def _id_in_replies(receipt: FileReceipt) -> str | None:
    """Return the id that the bridge will call it by, as the bridge itself finds it."""
    try:
        return decode_receipt(receipt.payload, receipt.pos).receipt_id
    except Undecodable as bad:
        return bad.message_id


def _correlation(number: int) -> bytes:
    return f"send-{number}".encode()
