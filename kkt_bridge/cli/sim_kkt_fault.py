"""`kkt-bridge sim kkt-fault`: put faults on a virtual register, also on one in a running bridge, and heal it."""

import argparse
import json
from pathlib import Path

from kkt_bridge.cli.output import print_error
from kkt_bridge.registers.virtual.faults import InvalidRegisterFaults, RegisterFaults, clear_faults, write_faults


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the register's `state` file")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--set",
        metavar="JSON",
        help="put these faults in force instead of all others: an object with any of "
        f"{', '.join(RegisterFaults.model_fields)};"
        ' power_cut is {"at": "open|requisites|line|subtotal|before_close|after_close|print", "times": 1}',
    )
    what.add_argument("--clear", action="store_true", help="heal the register")


def run(args: argparse.Namespace) -> int:
    """Change the faults in force; return the exit status."""
    try:
        if args.clear:
            clear_faults(args.file)
        else:
            write_faults(args.file, json.loads(args.set))
    except json.JSONDecodeError as error:
        return print_error("sim kkt-fault", f"--set: not JSON: {error}")
    except InvalidRegisterFaults as error:
        return print_error("sim kkt-fault", f"--set: {error}")
    except OSError as error:
        return print_error("sim kkt-fault", f"{args.file}: cannot change the faults: {error.strerror}")
    return 0
