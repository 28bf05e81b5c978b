"""Text fields of a receipt: what a fiscal register can print, taxpayer numbers (INN) and the buyer's contact."""

import re
import unicodedata
from functools import lru_cache
from typing import Annotated, Final

from pydantic import AfterValidator, Field

UNFIT: Final = r"\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069"
"""C0, DEL and C1 controls, and the bidirectional overrides that make a name read as another."""

_FORBIDDEN: Final = re.compile(f"[{UNFIT}]")
PRINTABLE_PATTERN: Final = f"^[^{UNFIT}]*$"
"""The same for JSON Schema, whose dialect of regular expressions reads these escapes too."""

_NEAREST: Final = {
    "«": '"', "»": '"', "“": '"', "”": '"', "„": '"', "‟": '"', "″": '"',
    "‘": "'", "’": "'", "‚": "'", "′": "'",
    "—": "-", "–": "-", "‐": "-", "‑": "-", "‒": "-", "―": "-", "−": "-", "•": "·", "×": "x",
    "…": ".", "₽": "р", "©": "c", "®": "r", "€": "E", "\u2028": " ", "\u2029": " ",
}  # fmt: skip


_FOREIGN: Final = re.compile(f"[^{re.escape(bytes(range(256)).decode('cp866'))}]")
"""A character that CP866 lacks; a search costs a fifth of an attempt to encode."""


def text_problem(text: str) -> str | None:
    """Say what makes this text unfit for a fiscal document; None if nothing does."""
    if match := _FORBIDDEN.search(text):
        return f"control or direction-changing character U+{ord(match[0]):04X} at position {match.start()}"
    if not text.strip() or not to_cp866(text).strip():
        return "must not be blank"
    return None


def to_cp866(text: str) -> str:
    """Return the text with what CP866 lacks replaced by the nearest.

    The length never grows, so that limits counted in characters hold for the bytes of the FFD too.
    """
    if _FOREIGN.search(text) is None:
        return text
    return "".join(map(_nearest, text))


@lru_cache(maxsize=1024)
def _nearest(char: str) -> str:
    for candidate in (char, _NEAREST.get(char), _base(char)):
        if candidate and _fits(candidate):
            return candidate
    # What takes no place on paper (joiners, combining marks) is dropped, what does is shown as missing.
    return "" if unicodedata.category(char) in {"Cf", "Mn", "Me"} else "?"


def _base(char: str) -> str | None:
    """The letter under the marks; None where the rest means something too, as in ½ or Ⅳ or a mark on a space."""
    decomposed = unicodedata.normalize("NFKD", char)
    base, rest = decomposed[0], decomposed[1:]
    return base if not rest or (base != " " and all(map(unicodedata.combining, rest))) else None


def _fits(char: str) -> bool:
    return _FOREIGN.search(char) is None


INN_PATTERN: Final = r"^([0-9]{10}|[0-9]{12})$"

_INN_WEIGHTS: Final = (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)
"""Of the digits before a check digit, by the rule of the Federal Tax Service: an organisation's number (10 digits)
uses the last nine, a person's (12 digits) the last ten for its first check digit and all eleven for its second."""

_PHONE_PATTERN: Final = r"\+[0-9]{5,15}"
_EMAIL_PATTERN: Final = rf"[^\s@{UNFIT}]+@[^\s@.{UNFIT}]+(\.[^\s@.{UNFIT}]+)+"
"""One @, no blanks, and a domain of two labels at least; what stands before the @ is the mail server's affair."""

EMAIL_PATTERN: Final = f"^{_EMAIL_PATTERN}$"
"""An e-mail address, and nothing else."""

CONTACT_PATTERN: Final = f"^({_PHONE_PATTERN}|{_EMAIL_PATTERN})$"
_CONTACT: Final = re.compile(f"{_PHONE_PATTERN}|{_EMAIL_PATTERN}")


def inn_check_digits(digits: str) -> str:
    """Return the check digits that belong behind these 9 (of an organisation) or 10 (of a person) digits of an INN."""
    if len(digits) == 9:
        return _check_digit(digits)
    first = _check_digit(digits)
    return first + _check_digit(digits + first)


def _check_digit(digits: str) -> str:
    weights = _INN_WEIGHTS[-len(digits) :]
    return str(sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True)) % 11 % 10)


def _with_right_check_digits(inn: str) -> str:
    body = inn[:9] if len(inn) == 10 else inn[:10]
    if inn != body + inn_check_digits(body):
        raise ValueError("the check digits do not fit: a digit is mistyped")
    if not inn.strip("0"):
        raise ValueError("nobody has the number of zeros alone: leave it out if there is none")
    return inn


def _reachable(contact: str) -> str:
    if _CONTACT.fullmatch(contact) is None:
        raise ValueError('expected "+" and 5 to 15 digits, or an e-mail address')
    return contact


INN = Annotated[str, Field(pattern=INN_PATTERN), AfterValidator(_with_right_check_digits)]
"""A taxpayer number: 10 digits of an organisation or 12 of a person, with the right check digits."""

REACHABLE: Final = AfterValidator(_reachable)
"""Refuses a contact to which nothing can be sent; stands last, so that a wrong length or character is named first."""
