"""`kkt-bridge broker`: the embedded MQTT broker as a process of its own, for trying out and for tests."""

import argparse
import json
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from kkt_bridge.cli.output import print_error
from kkt_bridge.errors import KktBridgeError
from kkt_bridge.runtime.stop_signals import block_stop_signals, wait_for_stop_signal

if TYPE_CHECKING:
    from kkt_bridge.simulators.mqtt_broker import EmbeddedBroker

PORT_MAX = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=any_port, default=1883, help="TCP port, 0 for a free one (default: %(default)s)")
    parser.add_argument(
        "--ws-port", type=any_port, default=9001, help="WebSockets port, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument("--no-ws", action="store_true", help="do not listen for WebSockets")
    parser.add_argument("--json", action="store_true", help="print one JSON line with host and ports when ready")


def run(args: argparse.Namespace) -> int:
    """Run the broker until SIGTERM or SIGINT; return the exit status."""
    require_broker()
    from kkt_bridge.simulators.mqtt_broker import BrokerStartError, EmbeddedBroker  # noqa: PLC0415 (of an extra)

    broker = EmbeddedBroker(args.host, args.port, None if args.no_ws else args.ws_port)
    block_stop_signals()  # before there are threads
    try:
        with broker:
            print(_as_json(broker) if args.json else _greeting(broker), flush=True)
            wait_for_stop_signal()
    except BrokerStartError as error:
        return print_error("broker", str(error))
    return 0


def require_broker() -> None:
    """Raise KktBridgeError where the packages of the embedded broker, the extra `broker`, are not installed."""
    if find_spec("amqtt") is None or find_spec("websockets") is None:
        install = f"{sys.executable} -m pip install 'kkt-bridge[broker]'"
        raise KktBridgeError(f"the embedded broker is not installed: {install}")


def any_port(text: str) -> int:
    """Return the port to listen on that an argument names, 0 for a free one."""
    if not (text.isascii() and text.isdigit() and int(text) <= PORT_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to {PORT_MAX}")
    return int(text)


def _as_json(broker: "EmbeddedBroker") -> str:
    return json.dumps({"host": broker.host, "port": broker.port, "ws_port": broker.ws_port})


def _greeting(broker: "EmbeddedBroker") -> str:
    web = f", WebSockets on port {broker.ws_port}" if broker.ws_port is not None else ""
    return f"MQTT 3.1.1 broker on {broker.host}:{broker.port}{web}; Ctrl-C ends it"
