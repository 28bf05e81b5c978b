"""`kkt-bridge status`: how a bridge is, at a glance."""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kkt_bridge.cli.connection import add_asking, ask, describe
from kkt_bridge.cli.printing import Screen, print_json
from kkt_bridge.cli.words import state_line

EXIT_STATUS: Final = {"healthy": 0, "degraded": 5, "unhealthy": 6}
ANSWER_TIMEOUT_S: Final = 5.0

HELP: Final = """\
exit status:
  0  healthy
  1  the bridge is offline or does not answer, or its broker is away
  2  wrong arguments, or an unusable configuration
  5  degraded: receipts are taken, but something needs attention (the OFD is away, ...)
  6  unhealthy: receipts are refused, or none can be printed

example:
  kkt-bridge status --config /etc/kkt-bridge/bridge.toml
  kkt-bridge status --host broker.example.com --bridge store-017 --json | jq .health.status
"""

OVERVIEW: Final = ("online", "health", "buffer", "breaker", "sync")
"""The order in which the states are shown; the registers follow."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    add_asking(parser, ANSWER_TIMEOUT_S)


def run(args: argparse.Namespace) -> int:
    """Show the state; return the exit status that tells the health."""
    states = ask(args, "status")
    if args.json:
        print_json(states)
    else:
        out = Screen()
        for name, content in _shown(states):
            out.print(state_line(name, content))
    return EXIT_STATUS.get(states.get("health", {}).get("status"), 6)


def _shown(states: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((name, states[name]) for name in OVERVIEW if name in states)
    yield from ((f"kkt/{name}", state) for name, state in sorted(states.get("kkt", {}).items()))
