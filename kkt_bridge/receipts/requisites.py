"""Requisites of people and organisations: taxpayer numbers (INN) and the buyer's contact."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from kkt_bridge.receipts.text import UNFIT

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
    """The check digits that belong behind these 9 (of an organisation) or 10 (of a person) digits of an INN."""
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
