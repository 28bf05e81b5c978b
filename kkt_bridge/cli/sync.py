"""`kkt-bridge sync`: have pending documents sent to the OFD now."""

import argparse
from typing import Final

from kkt_bridge.cli.connection import add_asking, ask, describe
from kkt_bridge.cli.output import print_result

ANSWER_TIMEOUT_S: Final = 300.0
"""A round may meet hundreds of documents and an OFD that lets each one wait."""

HELP: Final = """\
exit status:
  0  the round is over and nothing failed in it
  1  documents failed in it (they are tried again later), or nothing was sent although documents wait; refused
     (`sync_in_progress`), not answered in time, or bridge or broker away
  2  wrong arguments, or an unusable configuration

example:
  kkt-bridge sync --config /etc/kkt-bridge/bridge.toml --force
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    parser.add_argument("--force", action="store_true", help="also through an open breaker and past waiting back-offs")
    add_asking(parser, ANSWER_TIMEOUT_S)


def run(args: argparse.Namespace) -> int:
    """Make the bridge send what is due; return the exit status."""
    result = ask(args, "sync", {"force": args.force})
    counts = f"sent {result.get('sent')}, failed {result.get('failed')}, not tried {result.get('skipped')}"
    print_result(args, result, f"{counts}, in {result.get('duration_s', 0):.1f} s")
    nothing_went = not result.get("sent") and result.get("skipped")
    return 1 if result.get("failed") or nothing_went else 0
