"""`kkt-bridge sim ofd`: the simulated OFD as a process of its own."""

import argparse
import json
import signal
import sys
from pathlib import Path

from kkt_bridge.simulators.ofd import OfdSimulator, StateFileError
from kkt_bridge.simulators.ofd.faults import FIELDS

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
PORT_MAX = 65535


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
        "--port", type=_port, default=9000, help="port to listen on, 0 for a free one (default: %(default)s)"
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
        return _fail(f"--token-file or --tls: {error}; name files that can be read, in PEM form and belonging together")
    # Blocked before any thread exists, the signals wait for sigwait below whenever they come.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        with simulator as ofd:
            print(json.dumps({"url": ofd.url}) if args.json else _greeting(ofd, args.state), flush=True)
            signal.sigwait(STOP_SIGNALS)
    except StateFileError as error:
        return _fail(f"state file {error}")
    except OSError as error:
        return _fail(f"cannot listen on {args.host}:{args.port}: {error.strerror}; choose another --host or --port")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return 0


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= PORT_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to {PORT_MAX}")
    return int(text)


def _greeting(ofd: OfdSimulator, state: Path | None) -> str:
    memory = f"remembering in {state}" if state else "remembering nothing after the end"
    return f"simulated OFD at {ofd.url}, {memory}; Ctrl-C ends it"


def _fail(message: str) -> int:
    print(f"kkt-bridge sim ofd: {message}", file=sys.stderr)
    return 1
