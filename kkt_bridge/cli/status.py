"""`kkt-bridge status`: how a bridge is, at a glance."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kkt_bridge.cli.connection import BridgeClient, BridgeSilent, CommandRefused, add_asking, address, describe
from kkt_bridge.cli.message_text import alert_lines, state_line
from kkt_bridge.cli.output import Output, print_json

ANSWER_TIMEOUT_S: Final = 5.0

HELP: Final = """\
exit status:
  0  healthy
  1  not healthy (degraded: receipts are taken, but something needs attention; unhealthy: receipts are refused, or
     none can be printed), or the bridge is offline or does not answer, or its broker is away
  2  wrong arguments, or an unusable configuration

example:
  kkt-bridge status --config /etc/kkt-bridge/bridge.toml
  kkt-bridge status --host broker.example.com --bridge store-017 --json | jq .health.status
"""

OVERVIEW: Final = ("online", "health", "buffer", "breaker", "sync")
"""The order in which the states are shown; the registers and the alerts follow."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    add_asking(parser, ANSWER_TIMEOUT_S)


def run(args: argparse.Namespace) -> int:
    """Show the state; return the exit status that tells the health."""
    states, is_answer = _states(args)
    if args.json:
        print_json(states)
    else:
        out = Output()
        for name, content in _shown(states):
            out.print(state_line(name, content))
        for text in alert_lines(states.get("alerts") or {}):
            out.print(text)
    return 0 if is_answer and states.get("health", {}).get("status") == "healthy" else 1


def _states(args: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Return the states by the bridge's answer, or as last published where it cannot answer; and which of the two.

    A bridge whose disk takes nothing cannot take a command either: what it has published tells why.
    """
    with BridgeClient(address(args)) as client:
        try:
            return client.ask("status", {}, args.issued_by, args.timeout), True
        except (CommandRefused, BridgeSilent) as problem:
            print(f"kkt-bridge: {problem}; this is what the bridge has last published:", file=sys.stderr)
            return client.retained_states(), False


def _shown(states: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from ((name, states[name]) for name in OVERVIEW if name in states)
    yield from ((f"kkt/{name}", state) for name, state in sorted(states.get("kkt", {}).items()))
