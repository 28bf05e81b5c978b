"""`kkt-bridge pause` and `kkt-bridge resume`: stop and start the taking of receipts."""

import argparse
from typing import Final

from kkt_bridge.cli.connection import add_asking, ask, describe
from kkt_bridge.cli.output import print_result

ANSWER_TIMEOUT_S: Final = 10.0

HELP: Final = """\
A paused bridge answers new receipts with `paused` (retryable), also after a restart. What it has taken is printed
and sent to the OFD all the same.

exit status:
  0  done
  1  refused, not answered in time, or bridge or broker away
  2  wrong arguments, or an unusable configuration

example:
  kkt-bridge pause --config /etc/kkt-bridge/bridge.toml
  kkt-bridge resume --config /etc/kkt-bridge/bridge.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of either command."""
    describe(parser, HELP)
    add_asking(parser, ANSWER_TIMEOUT_S)


def run(args: argparse.Namespace) -> int:
    """Send the command by whose name this was called; return the exit status."""
    result = ask(args, args.command)
    print_result(args, result, "paused: new receipts are refused" if result.get("paused") else "receipts are taken")
    return 0
