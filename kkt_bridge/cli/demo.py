"""`kkt-bridge demo`: everything on one machine, with an outage in the middle, and a live view."""

import argparse
import json
import secrets
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field
from rich.console import Console
from rich.text import Text

from kkt_bridge.cli.broker import require_broker
from kkt_bridge.cli.connection import argument
from kkt_bridge.cli.sim_pos import Count, Rate
from kkt_bridge.demo.screens import DemoScreen, LineScreen, LiveScreen, require_writable
from kkt_bridge.demo.show import Show, ShowSettings
from kkt_bridge.demo.site import BRISK, TOPICS, WATCHABLE, ChildEnded, Stopped
from kkt_bridge.demo.summary import Summary
from kkt_bridge.mqtt.client import BridgeAddress
from kkt_bridge.runtime.stop_signals import STOP_SIGNALS

INTERRUPTED: Final = 130
SCREENSHOT_RECEIPTS: Final = 120

Few = Annotated[int, Field(ge=1, le=64)]
Port = Annotated[int, Field(ge=0, le=65_535)]
PrintTime = Annotated[float, Field(ge=0, le=60)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("--receipts", type=argument(Count), metavar="N", help="sell N receipts, then sum up and end (default: no end)")
    add("--pos", type=argument(Few), default=5, metavar="N", help="POS terminals (default: %(default)s)")
    add("--kkt", type=argument(Few), default=1, metavar="N", help="registers (default: %(default)s)")
    add(
        "--rate",
        type=argument(Rate),
        metavar="R",
        help=f"receipts a second in all (default: {WATCHABLE.rate:g}; with --json as fast as they are answered)",
    )
    add(
        "--print-time",
        type=argument(PrintTime),
        metavar="S",
        help=f"seconds a register takes for a receipt (default: {WATCHABLE.print_time_s}; "
        f"with --json {BRISK.print_time_s})",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--port",
        type=argument(Port),
        default=0,
        metavar="P",
        help="the port of the demo's own broker, to attach to (default: any); it speaks MQTT 3.1.1 only",
    )
    where.add_argument(
        "--broker",
        type=_broker,
        metavar="HOST:PORT",
        help="a broker of yours that lets everybody in, instead of the demo's own: Mosquitto for MQTT 5 or WebSocket",
    )
    add("--dir", type=Path, metavar="DIR", help="keep journal, fiscal storage and logs in this directory, new or empty")
    add("--seed", metavar="S", help="the same seed sells the same goods (default: random)")
    add("--screenshot", type=Path, metavar="FILE", help="save the window, in the middle of the outage, as FILE.svg")
    add("--json", action="store_true", help="show nothing, print one JSON object at the end (default of N: 300)")


def run(args: argparse.Namespace) -> int:
    """Play the demo; 0 if it ended well, 1 if a count disagrees or a part failed, 130 if it was cut short."""
    if args.broker is None:
        require_broker()
    stop_signals: list[int] = []
    for number in STOP_SIGNALS:
        # SIGTERM is for now; Ctrl-C leaves time to count.
        signal.signal(number, lambda number, _: stop_signals.extend([number] * (2 if number == signal.SIGTERM else 1)))
    console = Console(highlight=False)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    if args.screenshot is not None:
        require_writable(args.screenshot)
    directory = args.dir or Path(tempfile.mkdtemp(prefix="kkt-bridge-demo-"))
    settings = _settings(args, directory)
    worth_keeping = False
    try:
        with (
            Show(settings, lambda: len(stop_signals), colours=_has_colours(console)) as show,
            _screen(args, console, show) as screen,
        ):
            summary = show.play(screen)
        worth_keeping = not summary.agrees
    except Stopped:
        if not args.json:
            console.print(Text("stopped at once: nothing was counted"))
        return 0 if settings.receipts is None else INTERRUPTED
    except ChildEnded as error:
        worth_keeping = show.began
        raise ChildEnded(f"{error} (everything is kept in {directory})" if worth_keeping else str(error)) from None
    finally:
        if args.dir is None and not worth_keeping:
            shutil.rmtree(directory, ignore_errors=True)
    if args.json:
        print(json.dumps(summary.counts))
    else:
        _print_summary(console, summary)
    if not summary.agrees:
        print(f"kkt-bridge demo: the counts disagree; everything is kept in {directory}", file=sys.stderr)
        return 1
    return INTERRUPTED if show.cut_short and settings.receipts is not None else 0


def _broker(text: str) -> BridgeAddress:
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) <= 65_535):
        raise argparse.ArgumentTypeError(f'{text!r} is no HOST:PORT such as "127.0.0.1:1883"')
    return BridgeAddress(host.removeprefix("[").removesuffix("]"), int(port), TOPICS)


def _has_colours(console: Console) -> bool:
    return console.color_system is not None and not console.no_color


def _speaks_unicode(console: Console) -> bool:
    return console.encoding.lower().replace("-", "").startswith("utf")


def _settings(args: argparse.Namespace, directory: Path) -> ShowSettings:
    speed = BRISK if args.json else WATCHABLE
    given: dict[str, Any] = {"rate": args.rate, "print_time_s": args.print_time}
    receipts = args.receipts
    if receipts is None and (args.json or args.screenshot):
        receipts = 300 if args.json else SCREENSHOT_RECEIPTS
    return ShowSettings(
        receipts=receipts,
        pos=args.pos,
        registers=args.kkt,
        speed=replace(speed, **{name: value for name, value in given.items() if value is not None}),
        watched=not args.json,
        broker_port=args.port,
        broker=args.broker,
        directory=directory,
        seed=secrets.token_hex(4) if args.seed is None else args.seed,
        screenshot=args.screenshot,
    )


def _screen(args: argparse.Namespace, console: Console, show: Show) -> DemoScreen:
    if args.json:
        return DemoScreen()
    # Neither lines nor paper can be drawn in ASCII, and no Cyrillic in Latin-1.
    if console.is_terminal and not console.is_dumb_terminal and _speaks_unicode(console):
        return LiveScreen(console, show.window)
    return LineScreen(console)


def _print_summary(console: Console, summary: Summary) -> None:
    counts, times = summary.counts, summary.counts["latencies"]
    console.print(
        Text(
            "{published} receipts published, {printed} printed, {rejected} rejected, {ofd_documents} at the OFD".format(
                **counts
            )
        )
    )
    if counts["guests"]:
        console.print(Text("{guests} more printed for others than the demo's terminals".format(**counts)))
    if times["max_ms"] is not None:
        console.print(
            Text("from POS to final reply: p50 {p50_ms} ms, p95 {p95_ms} ms, max {max_ms} ms".format(**times))
        )
    for check in summary.checks:
        marks = ("✓", "✗") if _speaks_unicode(console) else ("ok:", "FAILED:")
        mark, style = (marks[0], "green") if check.holds else (marks[1], "bold red")
        console.print(Text(f"  {mark} {check.words}", style))
