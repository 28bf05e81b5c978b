"""`kkt-bridge sim ofd`: the simulated OFD as a process of its own."""

import argparse
import json
from pathlib import Path

from kkt_bridge.cli.broker import any_port
from kkt_bridge.cli.output import print_error
from kkt_bridge.runtime.stop_signals import block_stop_signals, wait_for_stop_signal
from kkt_bridge.simulators.ofd import OfdSimulator, StateFileError
from kkt_bridge.simulators.ofd.faults import FIELDS

EPILOG = """\
it can fail in every way. Faults are put in force, and healed by an empty object, while it runs:

  curl -X PUT http://127.0.0.1:9000/_faults -d '{"outage": true, "status": 503}'

faults, any of them together:
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        EPILOG
        + "".join(f"  {name:18} {field.does}\n{'':20} ({field.expected})\n" for name, field in FIELDS.items())
        + "\nGET /_received shows what it has, with ?full=1 the documents too; GET /_faults what is in force."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=any_port, default=9000, help="port to listen on, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--state", type=Path, metavar="FILE", help="remember the received documents in FILE over restarts"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="serve only who shows the token in FILE (Authorization: Bearer)"
    )
    parser.add_argument(
        "--tls", type=Path, nargs=2, metavar=("CERT", "KEY"), help="speak https with this certificate and key (PEM)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line with the url when ready")


def run(args: argparse.Namespace) -> int:
    """Run the simulated OFD until SIGTERM or SIGINT; return the exit status."""
    try:
        token = args.token_file.read_text(encoding="utf-8").strip() if args.token_file else None
        simulator = OfdSimulator(args.host, args.port, args.state, token=token, tls=args.tls)
    except (OSError, ValueError) as error:
        problem = f"--token-file or --tls: {error}; name files that can be read, in PEM form and belonging together"
        return print_error("sim ofd", problem)
    block_stop_signals()  # before there are threads
    try:
        with simulator as ofd:
            print(json.dumps({"url": ofd.url}) if args.json else _greeting(ofd, args.state), flush=True)
            wait_for_stop_signal()
    except StateFileError as error:
        return print_error("sim ofd", f"state file {error}")
    except OSError as error:
        problem = f"cannot listen on {args.host}:{args.port}: {error.strerror}; choose another --host or --port"
        return print_error("sim ofd", problem)
    return 0


def _greeting(ofd: OfdSimulator, state: Path | None) -> str:
    memory = f"remembering in {state}" if state else "remembering nothing after the end"
    return f"simulated OFD at {ofd.url}, {memory}; Ctrl-C ends it"
