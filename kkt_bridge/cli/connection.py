"""The operators' connection to a bridge: the arguments that name it, and commands with their results."""

import argparse
import getpass
import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Final, Self, get_type_hints

from pydantic import TypeAdapter, ValidationError

from kkt_bridge.cli.output import print_json
from kkt_bridge.errors import BrokerAway, KktBridgeError, SettingsError
from kkt_bridge.mqtt.client import BridgeAddress, BrokerClient, Received
from kkt_bridge.receipts.model import Identifier
from kkt_bridge.settings import MqttSettings, Port, Seconds, load_settings
from kkt_bridge.wire.decode import validation_faults
from kkt_bridge.wire.messages import Command, CommandError, CommandResult
from kkt_bridge.wire.topics import Topics

PRESENCE_WAIT_S: Final = 2.0
"""For a broker to hand over a retained `state/online`; waited for in full only where no bridge ever was."""

OTHER_STATES_WAIT_S: Final = 0.3
"""For the rest of the retained state after `state/online`."""

CONNECTION_CHECK_S: Final = 0.5
"""Between two looks of a waiting command whether the connection still stands."""


class BridgeAway(KktBridgeError):
    """The broker is there, the bridge is not, or does not answer."""


class BridgeSilent(BridgeAway):
    """The bridge is online by its own word, and did not answer in time."""


class CommandRefused(KktBridgeError):
    """The bridge answered with an error: it did not do it."""

    def __init__(self, error: CommandError) -> None:
        super().__init__(f"{error.code}: {error.message}")
        self.error = error


def add_connection(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which bridge, and where its broker is."""
    group = parser.add_argument_group("which bridge", "--config FILE or --bridge ID; what is given besides goes before")
    group.add_argument("--config", type=Path, metavar="FILE", help="take broker, bridge and root from a bridge's TOML")
    group.add_argument("--bridge", type=argument(Identifier), metavar="ID", help='its `bridge_id`, as in "store-017"')
    group.add_argument("--root", type=argument(_ROOT), help="the first part of its topics (default: kkt/v1)")
    group.add_argument("--host", help="where its MQTT broker is (default: 127.0.0.1)")
    group.add_argument("--port", type=argument(Port), help="the broker's TCP port (default: 1883)")
    group.add_argument("--username", help="of the broker (default: none, or the one in --config)")
    group.add_argument("--password-file", type=Path, metavar="FILE", help="where the password of the broker stands")


def add_asking(parser: argparse.ArgumentParser, timeout_s: float) -> None:
    """Add `add_connection` and what every command to a bridge takes: `--as`, `--timeout`, `--json`."""
    add_connection(parser)
    add_timeout(parser, timeout_s, "how long to wait for the bridge's answer")
    parser.add_argument(
        "--as",
        dest="issued_by",
        type=argument(get_type_hints(Command, include_extras=True)["issued_by"]),
        default=whoami(),
        metavar="NAME",
        help="who asks, for the bridge's records (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as one line of JSON")


def add_subcommand(subcommands: Any, name: str, summary: str, text: str, timeout_s: float) -> argparse.ArgumentParser:
    """Add one of a command's own commands, with what every command to a bridge takes."""
    parser: argparse.ArgumentParser = subcommands.add_parser(name, help=summary, description=summary)
    describe(parser, text)
    add_asking(parser, timeout_s)
    return parser


def add_timeout(parser: argparse.ArgumentParser, default_s: float, summary: str) -> None:
    """Add `--timeout` in seconds."""
    parser.add_argument(
        "--timeout", type=argument(Seconds), default=default_s, metavar="S", help=f"{summary} (default: %(default)g s)"
    )


def argument(kind: Any) -> Callable[[str], Any]:
    """Return a type for argparse that accepts, and refuses in the same words, as the bridge itself does."""
    adapter = TypeAdapter(kind)

    def convert(text: str) -> Any:
        try:
            return adapter.validate_python(text)
        except ValidationError as error:
            raise argparse.ArgumentTypeError(f"{text!a}: {validation_faults(error)[0].message}") from None

    return convert


def named_receipt(args: argparse.Namespace) -> dict[str, Any]:
    """Return the receipt that the arguments name, as the bridge's commands name it."""
    return {"receipt_id": args.receipt_id, **({"pos_id": args.pos} if args.pos else {})}


def describe(parser: argparse.ArgumentParser, text: str) -> None:
    """Set what `--help` says below the arguments: exit statuses, an example."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = text


def address(args: argparse.Namespace) -> BridgeAddress:
    """Return the bridge that the arguments name; SettingsError if they name none, or it cannot be used."""
    settings = load_settings(args.config) if args.config is not None else None
    bridge = args.bridge or (settings.bridge_id if settings else None)
    if bridge is None:
        raise SettingsError("say which bridge: --bridge ID, or --config FILE with the bridge's own configuration")
    known = address_in(settings.mqtt if settings else MqttSettings(), bridge)
    return BridgeAddress(
        host=args.host or known.host,
        port=args.port or known.port,
        topics=Topics(args.root or known.topics.root, bridge),
        username=args.username or known.username,
        password=_read_password(args.password_file) if args.password_file else known.password,
    )


def address_in(mqtt: MqttSettings, bridge: str) -> BridgeAddress:
    """Return the address of the bridge of this id at the broker of these settings."""
    return BridgeAddress(
        host=mqtt.host,
        port=mqtt.port,
        topics=Topics(mqtt.topic_root, bridge),
        username=mqtt.username,
        password=mqtt.password.get_secret_value() if mqtt.password else None,
    )


def ask(args: argparse.Namespace, name: str, command_args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Send one command to the bridge that the arguments name, and return its result.

    Raises:
        BrokerAway, BridgeAway, CommandRefused: There is none.
    """
    with BridgeClient(address(args)) as line:
        try:
            return line.ask(name, command_args or {}, args.issued_by, args.timeout)
        except CommandRefused as refused:
            if args.json:
                print_json({"error": refused.error.model_dump(mode="json")})
            raise


def receive(client: BrokerClient, deadline: float) -> Received | None:
    """Return the next message before this monotonic time, or None; BrokerAway as soon as there can be none."""
    while True:
        wait = deadline - time.monotonic()
        standing = client.connected
        message = client.get(min(wait, CONNECTION_CHECK_S))
        if message is not None or wait <= 0:
            return message
        if not standing:
            raise BrokerAway(f"{client.host}:{client.port}: the MQTT broker ended the connection")


class BridgeClient:
    """A connection on which commands go to one bridge."""

    def __init__(self, where: BridgeAddress) -> None:
        self.client = where.client()
        self._topics = where.topics
        self._states: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        self.client.connect()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, name: str, args: Mapping[str, Any], issued_by: str, timeout_s: float) -> dict[str, Any]:
        """Send one command and return its result; nothing is sent to a bridge that is away.

        A broker would keep it for the bridge, and a shift would be closed hours after anybody wanted it.
        """
        self.listen(name)
        self.require_bridge()
        return self.exchange(name, args, issued_by, timeout_s)

    def listen(self, name: str) -> None:
        """Subscribe to this command's results, and to the bridge's state."""
        self.client.subscribe([self._topics.command_result(name), self._topics.state("#"), *self._topics.states()])

    def exchange(self, name: str, args: Mapping[str, Any], issued_by: str, timeout_s: float) -> dict[str, Any]:
        """Send a command whose results are subscribed to, and return its result."""
        command = Command(command_id=str(uuid.uuid4()), issued_by=issued_by, args=dict(args))
        self.client.publish(self._topics.command(name), command.model_dump_json().encode())
        result = self._result(name, command.command_id, time.monotonic() + timeout_s)
        if result is None:
            raise BridgeSilent(
                f"bridge {self._topics.bridge} did not answer `{name}` within {timeout_s:g} s; "
                "it may still carry it out: look with `kkt-bridge watch`"
            )
        if result.error is not None:
            raise CommandRefused(result.error)
        return result.result or {}

    def retained_states(self) -> dict[str, Any]:
        """Return the states that the broker has handed over so far, in the shape of the answer to `status`."""
        states: dict[str, Any] = {name: state for name, state in self._states.items() if not name.startswith("kkt/")}
        registers = {name.removeprefix("kkt/"): state for name, state in self._states.items() if name not in states}
        return states | {"kkt": registers}

    def _receive(self, deadline: float) -> Received | None:
        """Return the next message before this monotonic time; remember it if it is a state."""
        message = receive(self.client, deadline)
        if message is not None and message.topic.startswith(prefix := self._topics.state("")):
            self._states[message.topic.removeprefix(prefix)] = object_in(message.payload)
        return message

    def require_bridge(self) -> None:
        """Return when its retained state says that the bridge is online; BridgeAway, saying since when, if not."""
        deadline = time.monotonic() + PRESENCE_WAIT_S
        last_at = ""
        while message := self._receive(deadline):
            content = object_in(message.payload)
            last_at = max(last_at, _time_in(content))
            if message.topic != self._topics.state("online"):
                continue
            if content.get("online") is True:
                return
            raise BridgeAway(self._offline(last_at))
        raise BridgeAway(
            f"no bridge {self._topics.bridge} has been seen at {self.client.host}:{self.client.port} under "
            f"{self._topics.root}: check its id and root, or start it"
        )

    def _offline(self, last_at: str) -> str:
        # Its last will was written when the bridge came up: when it went is told by what it said last.
        deadline = time.monotonic() + OTHER_STATES_WAIT_S
        while message := self._receive(deadline):
            last_at = max(last_at, _time_in(object_in(message.payload)))
        since = f" since about {last_at}" if last_at else ""
        return f"bridge {self._topics.bridge} is offline{since}: look at its log, or start it"

    def _result(self, name: str, command_id: str, deadline: float) -> CommandResult | None:
        while message := self._receive(deadline):
            if message.topic != self._topics.command_result(name):
                continue
            content = object_in(message.payload)
            if content.get("command_id") == command_id:
                return _as_result(content)
        return None


def _as_result(content: dict[str, Any]) -> CommandResult:
    try:
        return CommandResult.model_validate(content)
    except ValidationError as error:
        raise BridgeAway(f"the bridge answers in a way unknown here: {validation_faults(error)[0]}") from None


def object_in(payload: bytes) -> dict[str, Any]:
    """Return the JSON object in a payload; an empty one where there is none."""
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _time_in(content: Mapping[str, Any]) -> str:
    """Return the time of publication as written: the texts of one bridge sort as the times do."""
    value = content.get("at") or content.get("since")
    return value if isinstance(value, str) else ""


def offset_in(content: Mapping[str, Any]) -> tzinfo | None:
    """Return the offset of the shop's time, from the time of publication; None where there is none."""
    try:
        return datetime.fromisoformat(_time_in(content)).tzinfo
    except ValueError:
        return None


def _read_password(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--password-file: {path} cannot be read: {getattr(error, 'strerror', error)}") from None


def whoami() -> str:
    """Return user and machine, as `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:128]


_ROOT: Final = get_type_hints(MqttSettings, include_extras=True)["topic_root"]
