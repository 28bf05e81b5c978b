"""`python -m benchmarks.echo`: the reference. A bare paho client sends each request back on its reply topic."""

import argparse
import select
import signal
from typing import Any

from paho.mqtt.client import MQTTMessage

from benchmarks.mqtt import KEEPALIVE_S, Connection
from benchmarks.ports import HOST


def main() -> int:
    """Answer until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.echo", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--protocol", type=int, required=True)
    parser.add_argument("--branch", required=True, help="of topics: requests come on BRANCH/pos/POS/receipt")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    serve(args.port, args.protocol, args.branch)
    return 0


def serve(port: int, protocol: int, branch: str) -> None:
    """Echo for ever."""
    connection = Connection(HOST, port, protocol, f"echo-{branch.replace('/', '-')}", [f"{branch}/pos/+/receipt"])
    client = connection.client

    def answer(message: MQTTMessage) -> None:
        client.publish(message.topic.removesuffix("receipt") + "reply", message.payload, qos=1)

    connection.on_message(answer)
    print("ready", flush=True)
    while True:
        if select.select([connection.fileno()], [], [], KEEPALIVE_S / 4)[0]:
            connection.turn()
        client.loop_misc()
        connection.write()


def _end(*_: Any) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
