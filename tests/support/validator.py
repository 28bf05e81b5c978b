"""The bridge's messages, held against the committed files under schemas/: they, not the models, are the word given.

contract = ContractValidator()
contract.answers_on("kkt/v1/store-017/pos/pos-1/mine")   # a response topic of the test
contract.check(message.topic, message.payload)
"""

import json
import re
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.protocols import Validator

SCHEMAS = Path(__file__).parents[2] / "schemas"

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
FULL_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

formats = FormatChecker(formats=())


@formats.checks("date-time", raises=ValueError)
def is_rfc3339(value: object) -> bool:
    if not isinstance(value, str):
        return True
    return RFC3339.fullmatch(value) is not None and datetime.fromisoformat(value).tzinfo is not None


@formats.checks("date", raises=ValueError)
def is_full_date(value: object) -> bool:
    if not isinstance(value, str):
        return True
    return FULL_DATE.fullmatch(value) is not None and bool(date.fromisoformat(value))


@dataclass(frozen=True)
class Channel:
    """A channel of the AsyncAPI document, ready to be asked."""

    id: str
    topics: re.Pattern[str]
    parameters: int
    to_bridge: bool
    retained: bool
    validator: Validator


class ContractValidator:
    """The contract as published: every topic under any root and any bridge id, and the schema of what travels there."""

    def __init__(self, directory: Path = SCHEMAS) -> None:
        self._channels = channels_in(directory)
        self._answers: dict[str, Channel] = {}

    def answers_on(self, topic: str) -> None:
        """Name a response topic: what comes there is judged as a reply, under `command/` as a command's result."""
        answer = "commandResult" if "/command/" in topic else "reply"
        self._answers[topic] = next(channel for channel in self._channels if channel.id == answer)

    def addressed_to_bridge(self, topic: str) -> bool:
        """Return whether this is a request: a test that sends nonsense on purpose does not check its own messages."""
        channel = self._channel(topic)
        return channel is not None and channel.to_bridge

    def check(self, topic: str, payload: bytes) -> None:
        """AssertionError, naming the topic and the violation, unless this message keeps the contract."""
        channel = self._channel(topic)
        if channel is None:
            raise AssertionError(f"{topic}: no channel of schemas/asyncapi.yaml has this topic")
        if not payload and channel.retained:
            return  # what clears a retained message
        try:
            message = parse(payload)
        except ValueError as error:
            raise AssertionError(f"{topic}: not JSON: {error}: {payload[:200]!r}") from None
        validators = [channel.validator, *([RULES[channel.id]] if channel.id in RULES else [])]
        if violations := [violation(error) for judge in validators for error in judge.iter_errors(message)]:
            raise AssertionError(f"{topic}: {'; '.join(violations)}: {payload[:2000]!r}")

    def _channel(self, topic: str) -> Channel | None:
        if topic in self._answers:
            return self._answers[topic]
        return next((channel for channel in self._channels if channel.topics.fullmatch(topic)), None)


def where(field: str, value: str | bool, **then: Any) -> dict[str, Any]:  # noqa: FBT001 (a JSON value)
    """Require, where this field has this value, that those fields are so."""
    return {"if": {"properties": {field: {"const": value}}}, "then": {"required": [*then], "properties": {**then}}}


YES, NO, OBJECT = {"const": True}, {"const": False}, {"type": "object"}
RULES = {
    "reply": Draft202012Validator(
        {
            "allOf": [
                where("status", "printed", final=YES, fiscal=OBJECT),
                where("status", "buffered", final=NO),
                where("status", "rejected", final=YES, error=OBJECT),
                where("status", "unknown", final=NO, error=OBJECT),
            ]
        }
    ),
    "commandResult": Draft202012Validator(
        {"allOf": [where("ok", True, result=OBJECT), where("ok", False, error=OBJECT)]}
    ),
}
"""Rules of the contract between fields; a schema that says it too makes generators of code stumble."""


def parse(payload: bytes) -> Any:
    return json.loads(payload.decode(), object_pairs_hook=unique, parse_constant=refuse)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key stands twice among {[key for key, _ in pairs]}")
    return found


def refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def violation(error: Any) -> str:
    path = ".".join(map(str, error.absolute_path))
    return f"{path}: {error.message}" if path else error.message


@cache
def channels_in(directory: Path) -> list[Channel]:
    """The MQTT channels of the AsyncAPI document, the most literal topics first."""
    document = yaml.safe_load((directory / "asyncapi.yaml").read_text(encoding="utf-8"))
    operations = {resolve_key(operation["channel"]): operation for operation in document["operations"].values()}
    found = [
        channel_of(name, channel, operations[name], document, directory)
        for name, channel in document["channels"].items()
        if "mqtt" in operations[name]["bindings"]
    ]
    return sorted(found, key=lambda channel: channel.parameters)


def channel_of(
    name: str, channel: dict[str, Any], operation: dict[str, Any], document: dict[str, Any], directory: Path
) -> Channel:
    (reference,) = channel["messages"].values()
    message = document["components"]["messages"][resolve_key(reference)]
    schema = json.loads((directory / f"{message['name']}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Channel(
        id=name,
        topics=topics_like(channel["address"]),
        parameters=len(channel.get("parameters", {})),
        to_bridge=operation["action"] == "receive",
        retained=operation["bindings"]["mqtt"]["retain"],
        validator=Draft202012Validator(schema, format_checker=formats),
    )


def topics_like(address: str) -> re.Pattern[str]:
    """The topics of this address under any root: `kkt/v1` is a default, not a promise."""
    below_root = address.removeprefix("kkt/v1/")
    levels = ("[^/]+" if level.startswith("{") else re.escape(level) for level in below_root.split("/"))
    return re.compile("(?:[^/]+/)+" + "/".join(levels))


def resolve_key(reference: dict[str, str]) -> str:
    return reference["$ref"].rsplit("/", maxsplit=1)[1]
