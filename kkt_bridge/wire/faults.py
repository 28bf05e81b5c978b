"""What pydantic found, in the words of the contract and of the person who wrote the POS."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from kkt_bridge.receipts.model import IDENTIFIER_PATTERN, MARKING_CODE_PATTERN, RECEIPT_ID_PATTERN
from kkt_bridge.receipts.requisites import INN_PATTERN

_PATTERN_WORDS: Final = MappingProxyType(
    {
        RECEIPT_ID_PATTERN: "expected a lower-case UUID such as 0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11",
        IDENTIFIER_PATTERN: "expected 1 to 64 of A-Z a-z 0-9 _ . - and a letter or digit first",
        INN_PATTERN: "expected 10 or 12 digits",
        MARKING_CODE_PATTERN: "expected 1 to 300 printable ASCII characters or GS (U+001D)",
    }
)

_WORDS: Final = MappingProxyType(
    {
        "missing": "required",
        "extra_forbidden": "unknown field: check the spelling",
        "dict_type": "expected an object",
        "model_type": "expected an object",
        "tuple_type": "expected an array",
        "list_type": "expected an array",
        "string_too_short": "must not be empty",
        "string_too_long": "at most {max_length} characters",
    }
)


def fault_words(kind: str, message: str, context: Mapping[str, Any]) -> str:
    """A pydantic finding (its type, message and context) as one clause that says what was expected."""
    if kind == "string_pattern_mismatch":
        return _PATTERN_WORDS.get(context["pattern"], f"expected a match of {context['pattern']}")
    if kind in _WORDS:
        return _WORDS[kind].format_map(context)
    return message.removeprefix("Value error, ").replace("Input should be", "expected", 1)
