"""What a field means, for the schemas: the text that stands below it in the model.

It is read from the source when schemas are made, and at no other time: a bridge at work needs none of it.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, get_args

from pydantic import BaseModel


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
