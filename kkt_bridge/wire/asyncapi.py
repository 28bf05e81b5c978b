"""The AsyncAPI 3 document: where each message travels, how, and what answers it."""

import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, cast

import yaml

from kkt_bridge.wire.catalogue import DEFAULT_ROOT, CatalogueEntry
from kkt_bridge.wire.commands import COMMANDS
from kkt_bridge.wire.examples import EXAMPLES

CONTRACT_VERSION: Final = "1.1.0"
MQTT_BINDING: Final = "0.2.0"
HTTP_BINDING: Final = "0.3.0"
SCHEMA_SUFFIX: Final = ".schema.json"

_OWN: Final = "#/$defs/"
"""Where a schema file keeps what it refers to."""

_OFD_ANSWER_ID: Final = "ofdAnswer"

_ABOUT: Final = """\
The wire contract of kkt-bridge, version 1.1, seen from the bridge: it receives what POS terminals and operators
publish, and sends the rest.

All payloads are UTF-8 JSON objects. Unknown fields in a message to the bridge are refused; ignore unknown fields in
messages from the bridge. The root of the topics, kkt/v1, is configurable. Retained state is published on change and
again every telemetry.interval_s.

With MQTT 5 the bridge echoes Correlation Data and answers on the Response Topic of a request, provided that it lies
in the asker's own branch (pos/{pos}/, or command/); else, and with MQTT 3.1.1, on the fixed topic given here.
"""

_PARAMETERS: Final = MappingProxyType(
    {
        "bridge": {"description": "The bridge, as its configuration names it (bridge_id).", "examples": ["store-017"]},
        "pos": {"description": "The POS terminal; equals pos_id in the payload.", "examples": ["pos-1"]},
        "kkt": {"description": "The register, as the configuration of the bridge names it.", "examples": ["kkt-1"]},
        "name": {"description": "The command.", "enum": list(COMMANDS)},
    }
)

_REQUEST_BINDING: Final = MappingProxyType(
    {
        "correlationData": {"type": "string", "description": "Echoed with every answer to this message."},
        "responseTopic": {
            "type": "string",
            "description": "Where the answer is wanted; followed only inside the asker's own branch.",
        },
        "bindingVersion": MQTT_BINDING,
    }
)

_OFD_HEADERS: Final = MappingProxyType(
    {
        "type": "object",
        "required": ["Idempotency-Key"],
        "properties": {
            "Idempotency-Key": {"type": "string", "description": "{pos_id}:{receipt_id}, the same for every repeat."}
        },
    }
)


def schema_file(entry: CatalogueEntry) -> str:
    """Return the name of the message's JSON Schema file, beside the document."""
    return f"{entry.name}{SCHEMA_SUFFIX}"


_OFD_ANSWER: Final = MappingProxyType(
    {
        "name": "ofd-answer",
        "title": "Ofd answer",
        "summary": "The OFD has taken the document.",
        "description": (
            "Any 2xx with a JSON object, or with no content at all, means that the document was taken; with anything "
            "else it was somebody else's answer, and the document is sent again. 408, 425 and 429 ask for patience "
            "(Retry-After is kept, at most 15 minutes); 401, 403, 404, 405, 407 and 3xx refuse this bridge; any other "
            "4xx refuses this document; 5xx is a failure of the service."
        ),
        "contentType": "application/json",
        "payload": {
            "title": "Ofd answer",
            "type": "object",
            "properties": {
                "server_time": {"type": "number", "description": "The OFD's own time of it, Unix seconds; optional."}
            },
        },
        "bindings": {"http": {"statusCode": 200, "bindingVersion": HTTP_BINDING}},
        "examples": [{"payload": {"server_time": 1795345382}}, {"payload": {}}],
    }
)
"""The answers as `ofd/classify.py` tells them apart."""


def asyncapi_document(catalogue: Iterable[CatalogueEntry], schemas: Mapping[str, Mapping[str, Any]]) -> str:
    """The document as YAML, whole in itself; `schemas` are the JSON Schemas of the messages, by their names."""
    entries = list(catalogue)
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "kkt-bridge",
            "version": CONTRACT_VERSION,
            "description": _ABOUT,
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {_id(entry.name): _channel(entry) for entry in entries},
        "operations": {_operation_id(entry): _operation(entry) for entry in entries},
        "components": {
            "messages": {_id(entry.name): _message(entry) for entry in entries} | {_OFD_ANSWER_ID: dict(_OFD_ANSWER)},
            "schemas": {_id(entry.name): _bundled(_id(entry.name), schemas[entry.name]) for entry in entries},
            "parameters": dict(sorted(_PARAMETERS.items())),
            "securitySchemes": {
                "brokerUser": {
                    "type": "userPassword",
                    "description": "One for each bridge, terminal and viewer; the access list says what each may do.",
                },
                "ofdToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The content of ofd.token_file, where the OFD asks for one.",
                },
            },
        },
    }
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Plain YAML: no anchors, and text of several lines as a block."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (the signature is PyYAML's)
        return True


def _block_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _block_text)


def _servers() -> dict[str, Any]:
    will = {
        "topic": f"{DEFAULT_ROOT}/{{bridge}}/state/online",
        "qos": 1,
        "retain": True,
        "message": json.dumps(EXAMPLES["state-online"] | {"online": False}),
    }
    shop = "The MQTT broker of the shop. The bridge tries MQTT 5 and falls back to 3.1.1."
    browsers = "The same broker over WebSocket, for pages that watch; the broker must offer it."
    bindings = {"mqtt": {"cleanSession": False, "lastWill": will, "bindingVersion": MQTT_BINDING}}
    return {
        "broker": _broker("mqtt", "1883", shop) | {"bindings": bindings},
        "brokerForBrowsers": _broker("ws", "9001", browsers),
        "ofd": {
            "host": "ofd.example.com",
            "protocol": "https",
            "description": "The operator of fiscal data, or what stands before it (ofd.url).",
            "security": [_ref("components", "securitySchemes", "ofdToken")],
        },
    }


def _broker(protocol: str, port: str, description: str) -> dict[str, Any]:
    return {
        "host": "{host}:{port}",
        "protocol": protocol,
        "protocolVersion": "5",
        "description": description,
        "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": port}},
        "security": [_ref("components", "securitySchemes", "brokerUser")],
    }


def _channel(entry: CatalogueEntry) -> dict[str, Any]:
    servers, names = ["broker", "brokerForBrowsers"], [_id(entry.name)]
    if entry.carrier == "http":
        servers, names = ["ofd"], [*names, _OFD_ANSWER_ID]
    channel: dict[str, Any] = {
        "address": entry.topic,
        "description": entry.summary,
        "servers": [_ref("servers", server) for server in servers],
        "messages": {name: _ref("components", "messages", name) for name in names},
    }
    if parameters := _parameters_in(entry):
        channel["parameters"] = {name: _ref("components", "parameters", name) for name in parameters}
    return channel


def _operation(entry: CatalogueEntry) -> dict[str, Any]:
    channel = _id(entry.name)
    binding: dict[str, Any] = {"mqtt": {"qos": 1, "retain": entry.retain, "bindingVersion": MQTT_BINDING}}
    answer = (_id(entry.answer), _id(entry.answer)) if entry.answer is not None else None
    if entry.carrier == "http":
        binding = {"http": {"method": "POST", "bindingVersion": HTTP_BINDING}}
        answer = channel, _OFD_ANSWER_ID
    operation: dict[str, Any] = {
        "action": "receive" if entry.direction == "in" else "send",
        "channel": _ref("channels", channel),
        "summary": entry.summary,
        "messages": [_ref("channels", channel, "messages", channel)],
        "bindings": binding,
    }
    if answer is not None:
        place, message = answer
        operation["reply"] = {
            "channel": _ref("channels", place),
            "messages": [_ref("channels", place, "messages", message)],
        }
    return operation


def _bundled(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema as it stands among the components: its references lead into the document, and it is no file."""
    whole = {key: value for key, value in schema.items() if key not in {"$schema", "$id", "examples"}}
    return cast("dict[str, Any]", _moved(whole, f"#/components/schemas/{name}/$defs/"))


def _moved(node: Any, place: str) -> Any:
    if isinstance(node, list):
        return [_moved(child, place) for child in node]
    if not isinstance(node, Mapping):
        return node
    return {
        key: place + child.removeprefix(_OWN) if key == "$ref" and isinstance(child, str) else _moved(child, place)
        for key, child in node.items()
    }


def _message(entry: CatalogueEntry) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": entry.name,
        "title": entry.name.replace("-", " ").capitalize(),
        "summary": entry.summary,
        "contentType": "application/json",
        "payload": _ref("components", "schemas", _id(entry.name)),
    }
    if entry.id_field is not None:
        message["correlationId"] = {"location": f"$message.payload#/{entry.id_field}"}
    if entry.carrier == "http":
        message["headers"] = dict(_OFD_HEADERS)
    if entry.answer is not None:
        message["bindings"] = {"mqtt": dict(_REQUEST_BINDING)}
    return message | {"examples": [{"payload": dict(entry.example)}]}


def _parameters_in(entry: CatalogueEntry) -> list[str]:
    return re.findall(r"\{(\w+)\}", entry.topic)


def _operation_id(entry: CatalogueEntry) -> str:
    return _id(f"{'receive' if entry.direction == 'in' else 'send'}-{entry.name}")


def _id(name: str) -> str:
    """A name in camel case, as AsyncAPI's own examples and its code generators write ids."""
    first, *rest = name.split("-")
    return first + "".join(map(str.capitalize, rest))


def _ref(*parts: str) -> dict[str, str]:
    return {"$ref": "#/" + "/".join(parts)}
