"""A receipt as it comes out of the register: lines of paper, in the words that Russian registers print."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

WIDTH: Final = 28
"""Characters on a line, that of a 57 mm roll less its margins."""

Ink = Literal["plain", "bold", "faint"]


@dataclass(frozen=True, slots=True)
class PaperLine:
    """One line, at most `WIDTH` characters."""

    text: str
    ink: Ink = "plain"


_TYPES: Final = MappingProxyType(
    {
        "sale": "ПРИХОД",
        "refund": "ВОЗВРАТ ПРИХОДА",
        "purchase": "РАСХОД",
        "purchase_refund": "ВОЗВРАТ РАСХОДА",
        "correction": "КОРРЕКЦИЯ",
    }
)
_PAYMENTS: Final = MappingProxyType(
    {"cash": "НАЛИЧНЫМИ", "card": "БЕЗНАЛИЧНЫМИ", "prepaid": "АВАНСОМ", "credit": "В КРЕДИТ", "other": "ИНОЕ"}
)
_TEAR: Final = PaperLine("- " * (WIDTH // 2), "faint")


def receipt_lines(fiscal: dict[str, Any], request: dict[str, Any] | None) -> list[PaperLine]:
    """The receipt of this fiscal mark; without its request, only what the register made of it."""
    return [
        PaperLine(_spread(_TYPES.get(fiscal["type"], "ЧЕК"), f"ЧЕК {fiscal['receipt_number']}"), "bold"),
        *(_goods(request) if request else ()),
        PaperLine(_spread("ИТОГ", f"={fiscal['total']}"), "bold"),
        *(_payments(request) if request else ()),
        *([PaperLine(_spread("СДАЧА", f"={fiscal['change']}"))] if fiscal["change"] != "0.00" else ()),
        PaperLine(_spread(f"ФД {fiscal['fd_number']}", f"ФП {fiscal['fiscal_sign']}"), "faint"),
        _TEAR,
    ]


def shift_lines(event: dict[str, Any]) -> list[PaperLine]:
    """The report that opens or closes a shift."""
    title = "СМЕНА ОТКРЫТА" if event["open"] else "СМЕНА ЗАКРЫТА"
    return [
        PaperLine(_spread(title, f"№ {event['number']}"), "bold"),
        PaperLine(f"ФД {event['fd_number']}", "faint"),
        _TEAR,
    ]


def _goods(request: dict[str, Any]) -> Iterator[PaperLine]:
    for item in request["items"]:
        yield PaperLine(_cut(item["name"], WIDTH))
        amount = f"{item['quantity']} x {item['price']}"
        yield PaperLine(_spread("", f"{amount} ={item['total']}"))


def _payments(request: dict[str, Any]) -> Iterator[PaperLine]:
    for payment in request["payments"]:
        yield PaperLine(_spread(_PAYMENTS.get(payment["type"], "ОПЛАТА"), f"={payment['amount']}"))


def _spread(left: str, right: str) -> str:
    """Both ends of a line; the left one gives way."""
    room = max(0, WIDTH - len(right) - 1)
    return f"{_cut(left, room):<{room}} {right}"[:WIDTH]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…" if width else ""
