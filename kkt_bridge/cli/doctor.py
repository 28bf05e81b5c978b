"""`kkt-bridge doctor`: examine an installation, and say what to do about what is found."""

import argparse
import os
import pwd
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from kkt_bridge.cli.checkup import CheckupFinding, fail, ok, warn
from kkt_bridge.cli.checkup.broker import examine_broker
from kkt_bridge.cli.checkup.journal import examine_journal, holder
from kkt_bridge.cli.checkup.machine import bridge_account, examine_clock, examine_journal_directory, examine_rights
from kkt_bridge.cli.checkup.ofd import examine_ofd
from kkt_bridge.cli.checkup.registers import examine_registers
from kkt_bridge.cli.config_warnings import config_warnings
from kkt_bridge.cli.connection import address_in, describe
from kkt_bridge.cli.output import BAD, GOOD, PLAIN, WARNING, Output, line, print_json
from kkt_bridge.clock import SystemClock
from kkt_bridge.errors import SettingsError
from kkt_bridge.journal.lock import lock_of
from kkt_bridge.settings import Settings, load_settings

HELP: Final = """\
Nothing is changed, and a running bridge is not disturbed: its journal is read without its lock, its registers are
asked through it, and of its commands only `status` is sent. Run it on the bridge's machine, as the bridge's user or as
root: root is shown what the bridge's user may do.

exit status:
  0  nothing FAILs
  1  something does
  2  wrong arguments

example:
  kkt-bridge doctor --user kkt-bridge --config /etc/kkt-bridge/bridge.toml
"""

_STYLES: Final = {"ok": GOOD, "warn": WARNING, "FAIL": BAD}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    describe(parser, HELP)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the bridge's TOML file")
    parser.add_argument(
        "--user",
        type=_account,
        metavar="NAME",
        help="root only: as whom the bridge runs (default: the owner of the journal's folder)",
    )
    parser.add_argument("--json", action="store_true", help='print {"ok", "checks"} as one line of JSON')


def run(args: argparse.Namespace) -> int:
    """Examine everything; return the exit status."""
    findings = []
    out = Output()
    for finding in examine(args.config, args.user):
        findings.append(finding)
        if not args.json:
            _show(out, finding)
    well = all(finding.verdict != "FAIL" for finding in findings)
    if args.json:
        print_json({"ok": well, "checks": [asdict(finding) for finding in findings]})
    return 0 if well else 1


def _show(out: Output, finding: CheckupFinding) -> None:
    out.print(line((f"{finding.verdict:<5}", _STYLES[finding.verdict]), (f"{finding.check}: {finding.reason}", PLAIN)))
    if finding.advice:
        out.print(line((f"     > {finding.advice}", WARNING)))


def _account(name: str) -> pwd.struct_passwd:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no user {name!r} on this machine") from None
    if os.geteuid() not in {0, user.pw_uid}:
        raise argparse.ArgumentTypeError("only root can find out what another user may do")
    return user


def examine(config: Path, user: pwd.struct_passwd | None = None) -> Iterator[CheckupFinding]:
    """Yield every finding, as it is made; `user` is who runs the bridge, where that is known."""
    try:
        settings = load_settings(config)
    except SettingsError as error:
        yield fail("configuration", "; ".join(str(error).splitlines()), "mend it: the bridge does not start with it")
        return
    registers = "1 register" if len(settings.kkt) == 1 else f"{len(settings.kkt)} registers"
    yield ok("configuration", f"{config}: bridge {settings.bridge_id}, {registers}")
    for warning in config_warnings(settings):
        yield warn("configuration", f"{warning.key}: {warning.message}", warning.advice)
    # First of all, as it may fork: nothing here has a thread yet.
    yield from examine_rights(config, settings, user or bridge_account(settings))
    yield from _examine_all(settings)


def _examine_all(settings: Settings) -> Iterator[CheckupFinding]:
    clock = SystemClock()
    yield examine_clock(settings, clock)
    journal = settings.journal.path
    hold = None
    try:
        hold = holder(lock_of(journal))
        yield from examine_journal_directory(journal.parent)
        yield from examine_journal(journal, hold)
    except OSError as error:
        yield fail("journal", f"{error.filename}: {error.strerror}", "run this as root or as the bridge's user")
    broker = examine_broker(address_in(settings.mqtt, settings.bridge_id), hold)
    yield from broker.findings
    yield from examine_registers(settings, broker.registers, clock)
    yield from examine_ofd(settings.ofd, clock)
