"""`kkt-bridge watch`: follow everything that passes below a bridge's branch of topics."""

import argparse
import json
import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final

from pydantic import Field

from kkt_bridge.cli.connection import (
    CONNECTION_CHECK_S,
    add_connection,
    address,
    argument,
    describe,
    object_in,
    offset_in,
    receive,
)
from kkt_bridge.cli.message_text import message_lines
from kkt_bridge.cli.output import FAINT, Output, line, print_json, reader_has_left, until_reader_leaves
from kkt_bridge.mqtt.client import BrokerClient, Received

HELP: Final = """\
exit status:
  0  after --count messages, Ctrl-C, or when the reader of a pipe leaves
  1  the broker is away, or went away
  2  wrong arguments, or an unusable configuration

example:
  kkt-bridge watch --config /etc/kkt-bridge/bridge.toml
  kkt-bridge watch --bridge store-017 --topics 'event/*'
  kkt-bridge watch --bridge store-017 --topics 'pos/*/reply' --json --count 10 | jq .payload.status
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    add_connection(parser)
    parser.add_argument("--json", action="store_true", help='print {"topic", "payload"} as one line of JSON each')
    parser.add_argument(
        "--count", type=argument(Annotated[int, Field(ge=1)]), metavar="N", help="end after N messages (default: never)"
    )
    parser.add_argument(
        "--topics",
        default="*",
        metavar="GLOB",
        help="only topics that match, below the bridge's branch; * takes slashes too (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Print messages until there is a reason to end; return the exit status."""
    where = address(args)
    with until_reader_leaves(), where.client() as client:
        client.subscribe([f"{where.topics.branch}/#", *where.topics.states()])
        out, clock = Output(), ShopClock()
        for number, message in enumerate(_followed(client, where.topics.branch, args.topics, clock), start=1):
            if args.json:
                print_json({"topic": message.topic, "payload": _content(message.payload)})
            else:
                _print(out, clock.time(), message.topic.removeprefix(where.topics.branch + "/"), message)
            if number == args.count:
                break
    return 0


def _followed(client: BrokerClient, branch: str, glob: str, clock: "ShopClock") -> Iterator[Received]:
    """Yield every message that is wanted, until the reader of a pipe leaves."""
    shown: dict[str, bytes] = {}
    while not reader_has_left():
        message = receive(client, time.monotonic() + CONNECTION_CHECK_S)
        if message is None:
            continue
        clock.note(message.payload)
        if not fnmatchcase(message.topic.removeprefix(branch + "/"), glob):
            continue
        if message.topic.startswith(f"{branch}/state/"):
            # It may come for each of two subscriptions.
            if shown.get(message.topic) == message.payload:
                continue
            shown[message.topic] = message.payload
        yield message


class ShopClock:
    """The time of day in the shop, by the offset of the times in the bridge's messages."""

    def __init__(self) -> None:
        self._offset: tzinfo | None = None

    def note(self, payload: bytes) -> None:
        """Take the offset from a message with a time."""
        self._offset = offset_in(object_in(payload)) or self._offset

    def time(self) -> str:
        """Return the time now as `12:03:00`; in this machine's zone until the shop's is known."""
        return f"{datetime.now(UTC).astimezone(self._offset):%H:%M:%S}"


def _print(out: Output, time_of_day: str, below: str, message: Received) -> None:
    now = line((f"{time_of_day} ", FAINT))
    kept = line((" (retained)" if message.retain else "", FAINT))
    for text in message_lines(below, message.payload):
        out.print(now + text + kept)
    out.file.flush()


def _content(payload: bytes) -> Any:
    """Return the payload's JSON; its text where it is none, or cannot be written as JSON again."""
    try:
        return json.loads(payload, parse_float=_number, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return payload.decode(errors="replace")


def _number(digits: str) -> float:
    return _refuse(digits) if math.isinf(value := float(digits)) else value


def _refuse(token: str) -> Any:
    raise ValueError(token)
