"""The published description of the contract: a JSON Schema file for each message, one AsyncAPI document for all."""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from kkt_bridge.wire.asyncapi import asyncapi_document, schema_file
from kkt_bridge.wire.catalogue import CATALOGUE, CatalogueEntry
from kkt_bridge.wire.messages import BEYOND_PROMISE

ASYNCAPI_FILE: Final = "asyncapi.yaml"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


@cache
def contract_files() -> dict[str, str]:
    """Every file of `schemas/` by name, with its text; the same on every call and every machine."""
    schemas = {entry.name: message_schema(entry) for entry in CATALOGUE}
    files = {
        schema_file(entry): json.dumps(schemas[entry.name], ensure_ascii=False, indent=2) + "\n" for entry in CATALOGUE
    }
    return files | {ASYNCAPI_FILE: asyncapi_document(CATALOGUE, schemas)}


def message_schema(entry: CatalogueEntry) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a message.

    To the bridge: what it accepts, unknown fields refused. From the bridge: what it promises; more fields may follow.
    """
    mode: Final = "validation" if entry.direction == "in" else "serialization"
    body = entry.model.model_json_schema(mode=mode, schema_generator=_Generator)
    _simplify(body, outgoing=entry.direction == "out")
    _describe(entry.model, body)
    definitions = {"$defs": body.pop("$defs")} if "$defs" in body else {}
    _name_all(body, entry.name.split("-"))
    for name, definition in definitions.get("$defs", {}).items():
        definition.setdefault("title", name)
        _name_all(definition, [name])
    head = {
        "$schema": DIALECT,
        "$id": schema_file(entry),
        "title": entry.name.replace("-", " ").capitalize(),
        "description": entry.summary,
    }
    return head | {"type": body.pop("type")} | body | head | {"examples": [entry.example]} | definitions


class _Generator(GenerateJsonSchema):
    """Pydantic's, in the order of the models and without a title that repeats each field's name."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 (the signature is pydantic's)
        return False

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:  # noqa: ARG002
        return value


def _describe(model: type[BaseModel], body: dict[str, Any]) -> None:
    """Say of each field what its model says."""
    for name, each in models_in(model).items():
        schema = body if each is model else body.get("$defs", {}).get(name, {})
        for field, text in field_texts(each).items():
            if field in schema.get("properties", {}):
                described = schema["properties"][field]
                described["description"] = f"{described.get('description', '')} {text}".strip()


def _name_all(node: Any, path: list[str]) -> None:
    """Give every object, choice and enumeration a title of its own: a generator of code needs a name for each."""
    for key, child in node.items() if isinstance(node, dict) else ():
        if key == "properties":
            for name, field in child.items():
                _name(field, [*path, *name.split("_")])
        elif key in {"items", "additionalProperties", "prefixItems"} and isinstance(child, dict):
            _name(child, [*path, "item"])
        elif key in {"anyOf", "oneOf"}:
            for number, choice in enumerate(child, start=1):
                _name(choice, [*path, "choice", str(number)])


def _name(node: dict[str, Any], path: list[str]) -> None:
    if "title" not in node and (node.keys() & _WANT_A_NAME or node.get("type") == "object"):
        node["title"] = "".join(word[:1].upper() + word[1:] for word in path)
    _name_all(node, path)


_WANT_A_NAME: Final = frozenset({"enum", "anyOf", "oneOf", "properties", "additionalProperties"})
"""Keywords of which a code generator makes a type."""


def _simplify(node: Any, *, outgoing: bool) -> None:
    """Drop `default: null`, as an absent field is absent.

    Let the readers of what goes out meet fields that they do not know, and miss those that no contract promises.
    """
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _simplify(child, outgoing=outgoing)
    if not isinstance(node, dict):
        return
    # What the bridge fills in by default is always there, so no reader needs the default.
    if outgoing or node.get("default", "") is None:
        node.pop("default", None)
    if not outgoing:
        return
    if node.get("additionalProperties") is False:
        del node["additionalProperties"]
    for name, field in node.get("properties", {}).items():
        if field.pop(BEYOND_PROMISE, False) and name in node["required"]:
            node["required"].remove(name)


def models_in(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The model and every model that its fields hold, by their names."""
    found: dict[str, type[BaseModel]] = {}
    waiting = [model]
    while waiting:
        current = waiting.pop()
        if current.__name__ not in found:
            found[current.__name__] = current
            for field in current.model_fields.values():
                waiting += _models(field.annotation)
    return found


def field_texts(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field of this model that has one, in one line; none for a model that is made, not written."""
    try:
        source = inspect.getsource(model)
    except OSError:
        return {}
    body = ast.parse(textwrap.dedent(source)).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for field, below in pairwise(body.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                alias = model.model_fields[name].serialization_alias if name in model.model_fields else None
                texts[alias or name] = " ".join(text.split())
    return texts


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
