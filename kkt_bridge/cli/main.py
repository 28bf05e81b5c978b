"""`kkt-bridge`: finds the command, and loads only its module."""

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence
from typing import Any, Final

from kkt_bridge.errors import KktBridgeError, SettingsError

COMMANDS: Final = {
    "run": ("run", "run the bridge"),
    "demo": ("demo", "everything on one machine, with an outage in the middle, and a live view"),
    "broker": ("broker", "the embedded MQTT broker, for trying out and for tests"),
    "send": ("send", "publish receipts from a file and print the replies"),
    "status": ("status", "show the state of a bridge"),
    "watch": ("watch", "follow everything that a bridge says"),
    "sync": ("bridge_commands:SYNC", "have pending documents sent to the OFD now"),
    "receipt": ("bridge_commands:RECEIPT", "show one receipt's whole history"),
    "dlq": ("dlq", "list, requeue or discard dead letters"),
    "settle": ("settle", "say what became of receipts of which a register cannot tell"),
    "shift": ("bridge_commands:SHIFT", "open or close a shift, or print an X report"),
    "pause": ("bridge_commands:ADMISSION", "stop taking receipts"),
    "resume": ("bridge_commands:ADMISSION", "take receipts again"),
    "doctor": ("doctor", "check the configuration and everything that it names"),
    "verify": ("verify", "hold journal, fiscal storages and OFD against each other; make a lost journal anew"),
    "backup": ("backup", "copy the journal, also while the bridge runs"),
    "restore": ("restore", "put a backup in the journal's place"),
    "schemas": ("schemas", "write the JSON Schemas and the AsyncAPI document"),
}
SIMULATORS: Final = {
    "ofd": ("sim_ofd", "a simulated OFD"),
    "pos": ("sim_pos", "simulated POS terminals"),
    "kkt-dump": ("sim_kkt_dump", "print the documents in a virtual fiscal storage"),
    "kkt-fault": ("sim_kkt_fault", "switch faults of a virtual register on and off"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    # Until a command has its own handlers, while its libraries load, a stop is a clean end: nothing has begun.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
    except KktBridgeError as error:
        print(f"kkt-bridge: {error}", file=sys.stderr)
        status = 2 if isinstance(error, SettingsError) else 1
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        status = 141
    raise SystemExit(status)


def _run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="kkt-bridge", description="Receipts from MQTT to fiscal registers and on to the OFD."
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add(commands, COMMANDS, argv[:1])
    simulators = commands.add_parser(
        "sim", help="what a shop would own: an OFD, POS terminals, registers"
    ).add_subparsers(dest="simulator", metavar="SIMULATOR", required=True)
    _add(simulators, SIMULATORS, argv[1:2] if argv[:1] == ["sim"] else [])
    args = parser.parse_args(argv)
    if args.version:
        from kkt_bridge import __version__  # noqa: PLC0415 (reading the version costs as much as all the rest)

        print(__version__)
        return 0
    if not hasattr(args, "run"):
        parser.print_help()
        return 2
    return int(args.run(args))


def _add(parsers: Any, table: dict[str, tuple[str, str]], wanted: list[str]) -> None:
    """Add every command by name, but load only the one that is wanted: `run` must not carry the demo's libraries."""
    for name, (module, summary) in table.items():
        parser = parsers.add_parser(name, help=summary, description=summary)
        if name in wanted:
            file, _, attribute = module.partition(":")
            loaded: Any = importlib.import_module(f"kkt_bridge.cli.{file}")
            loaded = getattr(loaded, attribute) if attribute else loaded
            loaded.add_arguments(parser)
            parser.set_defaults(run=loaded.run)
