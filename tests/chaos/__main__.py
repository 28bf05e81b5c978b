"""`python -m chaos`: real processes, killed at random moments under load, and a verdict on every receipt."""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chaos.campaign import Report, run
from chaos.plan import VICTIMS, Plan
from support.brokers import find_mosquitto

FINDINGS_SHOWN = 40


def main(argv: Sequence[str] | None = None) -> int:
    """Run a campaign; 0 only if everything agrees, 1 if anything does not, 2 if it cannot be run."""
    args = _arguments(argv)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
    if find_mosquitto() is None:
        _say("chaos: mosquitto is not installed: apt-get install mosquitto")
        return 2
    directory = Path(tempfile.mkdtemp(prefix="kkt-chaos-"))
    _say(f"working in {directory}")
    try:
        report = run(_plan(args), directory, _say)
    except KeyboardInterrupt:
        _say(f"interrupted; what there was stays in {directory}")
        return 130
    except BaseException:
        _say(f"the campaign itself failed; what there was stays in {directory}")
        raise
    _show(report, directory, as_json=args.json)
    if report.summary.agrees and not args.keep:
        shutil.rmtree(directory)
    return 0 if report.summary.agrees else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=plan.kills, help="processes to kill (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=plan.seed, help="of receipts, victims and pauses")
    parser.add_argument("--terminals", type=int, default=plan.terminals, help="(default: %(default)s)")
    parser.add_argument("--registers", type=int, default=plan.registers, help="(default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=plan.minutes, help="at most under fire (default: %(default)s)")
    parser.add_argument("--gap", type=float, default=plan.gap_s, help="seconds between faults (default: %(default)s)")
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=VICTIMS, help="who is hit (default: all)")
    parser.add_argument("--keep", action="store_true", help="keep the working directory, whatever the verdict")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    return parser.parse_args(argv)


def _plan(args: argparse.Namespace) -> Plan:
    return Plan(
        kills=args.kills,
        seed=args.seed,
        terminals=args.terminals,
        registers=args.registers,
        minutes=args.minutes,
        gap_s=args.gap,
        victims=tuple(args.victims),
    )


def _show(report: Report, directory: Path, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(report.summary.as_json(), ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n".join(report.summary.lines()) + "\n")
    if report.findings:
        for finding in report.findings[:FINDINGS_SHOWN]:
            _say(str(finding))
        _say("\n".join(report.histories))
        _say(f"everything is kept in {directory}")


def _say(text: str) -> None:
    # Beside the figures, so that these can be piped.
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    raise SystemExit(main())
