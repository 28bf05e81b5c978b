"""The receipt as a POS terminal writes it: one frozen model, money in kopecks, every field judged.

The model checks what one field, or one item, can say of itself; the sums over the whole receipt are in `checks.py`.
"""

import re
from contextlib import suppress
from datetime import date
from itertools import chain, pairwise
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from kkt_bridge.receipts.amounts import MICRO, Kopecks, Quantity, format_kopecks
from kkt_bridge.receipts.ffd_codes import (
    CORRECTION_FORM,
    RECEIPT_FORM,
    Operation,
    PaymentMethod,
    PaymentSubject,
    PaymentType,
    ReceiptType,
    TaxSystem,
    Unit,
    Vat,
)
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.text import CONTACT_PATTERN, INN, PRINTABLE_PATTERN, REACHABLE, text_problem

IDENTIFIER_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
RECEIPT_ID_PATTERN: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
MARKING_CODE_PATTERN: Final = r"^[\x1d\x20-\x7e]{1,300}$"
RECENT_MAX: Final = 128
"""Receipts in each of the two generations that are remembered; when the younger is full, the older is forgotten."""
RECENT_CHARS_MAX: Final = 4096
"""Characters of a receipt that is remembered: parsed, it takes nine times that. A usual one has some hundred."""
ITEMS_MAX: Final = 500
PAYMENTS_MAX: Final = 100
"""There are five kinds of payment; a list of rubbish is refused before each element is judged."""
FAULTS_ENOUGH: Final = 20
"""With more faults than this in the first elements of an array, the rest of it is not judged."""
_PARTS: Final = (1, 4, 16, 64, 256)
"""Elements of an array after which its faults are counted."""

Identifier = Annotated[str, Field(pattern=IDENTIFIER_PATTERN)]
ReceiptId = Annotated[str, Field(pattern=RECEIPT_ID_PATTERN)]


def _printable(text: str) -> str:
    if problem := text_problem(text):
        raise ValueError(problem)
    return text


def _calendar_date(value: object) -> date:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value, re.ASCII):
        return date.fromisoformat(value)
    raise ValueError('expected a date such as "2026-11-22"')


def _count(least: int, most: int) -> WrapValidator:
    """Limit the elements of an array, judged before any of them is; and of wrong ones no more than are shown."""

    def validate(value: object, elements: ValidatorFunctionWrapHandler) -> object:
        if not isinstance(value, list):
            return elements(value)
        if not least <= len(value) <= most:
            raise ValueError(f"expected {least} to {most} of them, not {len(value)}")
        # A few bytes of rubbish make thousands of faults, so it is judged in parts. Each part of a right array is
        # judged once; of a wrong one all up to its end once more, as a fault is named by its place in the whole.
        with suppress(ValidationError):
            parts = [elements(value[start:end]) for start, end in pairwise((0, *_PARTS, most)) if start < len(value)]
            return tuple(chain.from_iterable(parts))
        for length in _PARTS:
            try:
                elements(value[:length])
            except ValidationError as error:
                if error.error_count() > FAULTS_ENOUGH:
                    raise
        return elements(value)

    return WrapValidator(validate)


def _array(least: int, most: int) -> Any:
    # A JSON array becomes a tuple. The limits are those of `_count`, for the schema.
    return Field(strict=False, json_schema_extra={"minItems": least, "maxItems": most})


PRINTABLE: Final = AfterValidator(_printable)
"""Refuses what a fiscal document cannot carry; stands after `line`, so that a wrong length is named first."""


def line(most: int, pattern: str = PRINTABLE_PATTERN) -> Any:
    """The constraints of a line of 1 to `most` characters (not bytes), for use in `Annotated`.

    `pattern` is for the schema only: what it asks is judged by the validators that stand behind, in words.
    """
    return Field(min_length=1, max_length=most, json_schema_extra={"pattern": pattern})


class Strict(BaseModel):
    """A message to the bridge: what it does not know it refuses, and nothing is coerced."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Item(Strict):
    """One line of the receipt (FFD tag 1059)."""

    name: Annotated[str, line(128), PRINTABLE]
    """Of the goods (tag 1030). What the paper cannot show is replaced by the nearest, and the reply warns."""
    price: Kopecks
    """Of one, after any discount: there is no field for a discount (tag 1079)."""
    quantity: Quantity
    """Above zero (tag 1023)."""
    total: Kopecks
    """Within 1 kopeck of price × quantity (tag 1043)."""
    vat: Vat
    """The rate that is in the price (tag 1199). 20 and 20/120 are for deals made before 2026."""
    payment_method: PaymentMethod = "full_payment"
    """Tag 1214."""
    payment_subject: PaymentSubject = "commodity"
    """What is sold: a word, or a code number of tag 1212."""
    unit: Unit = "piece"
    """Of the quantity: a word, or a code number of tag 2108."""
    marking_code: Annotated[str, Field(pattern=MARKING_CODE_PATTERN)] | None = None
    """As read from the label, GS (U+001D) included."""

    @model_validator(mode="after")
    def _total_is_price_times_quantity(self) -> Self:
        # Exact, in millionths of a kopeck: the total may be off by one kopeck, no more.
        if abs(self.total * MICRO - self.price * self.quantity) > MICRO:
            raise PydanticCustomError(
                "item_total",
                "must be within 1 kopeck of price × quantity, which is about {expected}",
                {
                    "field": "total",
                    "expected": format_kopecks((self.price * self.quantity + MICRO // 2) // MICRO),
                },
            )
        return self


class Payment(Strict):
    """What was paid in one way."""

    type: PaymentType
    """`card` is every electronic payment, `prepaid` an advance that is used up, `credit` paid later."""
    amount: Kopecks
    """What was handed over. Only cash may exceed the total; the difference is change."""


class Cashier(Strict):
    """Who stands at the register (FFD tags 1021, 1203)."""

    name: Annotated[str, line(64), PRINTABLE]
    inn: INN | None = None
    """10 or 12 digits with the right check digits."""


class Customer(Strict):
    """Where the electronic receipt goes (FFD tag 1008)."""

    contact: Annotated[str, line(64, CONTACT_PATTERN), PRINTABLE, REACHABLE]
    """`+` and 5 to 15 digits, or an e-mail address."""


class Correction(Strict):
    """What a correction corrects (FFD tags 1054, 1173, 1178, 1179)."""

    operation: Operation
    kind: Literal["voluntary", "ordered"]
    """`ordered` by the tax authority."""
    date: Annotated[date, BeforeValidator(_calendar_date)]
    """Of what is corrected; not in the future, by the calendar of the shop."""
    document_number: Annotated[str, line(32), PRINTABLE] | None = None
    """Of the order: required where there is one, and only there."""

    @model_validator(mode="after")
    def _number_belongs_to_an_order(self) -> Self:
        if (self.kind == "ordered") != (self.document_number is not None):
            reason = "required for an ordered correction" if self.kind == "ordered" else "only an order has one"
            raise PydanticCustomError("order_number", "{reason}", {"field": "document_number", "reason": reason})
        return self


class Receipt(Strict):
    """A receipt request; `(pos_id, receipt_id)` is its idempotency key."""

    receipt_id: ReceiptId
    """A UUID that the POS makes and stores before it sends; with `pos_id` it is the idempotency key."""
    pos_id: Identifier
    """The `{pos}` of the topic."""
    type: ReceiptType
    items: Annotated[tuple[Item, ...], _array(1, ITEMS_MAX), _count(1, ITEMS_MAX)]
    payments: Annotated[tuple[Payment, ...], _array(1, PAYMENTS_MAX), _count(1, PAYMENTS_MAX)]
    cashier: Cashier | None = None
    customer: Customer | None = None
    correction: Correction | None = None
    """Required for the type `correction`, and only there."""
    original_receipt_id: ReceiptId | None = None
    """Only of a refund: the sale that it refunds, which is then compared."""
    tax_system: TaxSystem | None = None
    """Tag 1055; without it the one that is configured for the register."""
    kkt: Identifier | None = None
    """Which register prints it; without it the one that the POS is mapped to."""

    @property
    def key(self) -> ReceiptKey:
        """Its idempotency key."""
        return ReceiptKey(self.pos_id, self.receipt_id)

    @property
    def operation(self) -> Operation:
        """The settlement sign (FFD tag 1054): of a correction, that of what it corrects."""
        if self.type == "correction":
            assert self.correction is not None
            return self.correction.operation
        return self.type

    @property
    def form(self) -> int:
        """The FFD's number of the form of its fiscal document."""
        return CORRECTION_FORM if self.type == "correction" else RECEIPT_FORM

    @property
    def total(self) -> Kopecks:
        """The receipt's total (FFD tag 1020)."""
        return sum(item.total for item in self.items)

    @property
    def change(self) -> Kopecks:
        """The cash that goes back to the customer."""
        return sum(payment.amount for payment in self.payments) - self.total

    def paid(self, kind: PaymentType) -> Kopecks:
        """Return the money that was handed over in one way, change included."""
        return sum(payment.amount for payment in self.payments if payment.type == kind)

    def canonical(self) -> bytes:
        """Return the receipt as stored, compared and sent on: defaults filled in, absent fields left out."""
        return self.model_dump_json(exclude_none=True).encode()

    def is_stored_as(self, body: str) -> bool:
        """Return whether it is the receipt that was stored in this canonical form, be that of an earlier release.

        Digests differ where the model has got a field with a default since: its canonical form holds one more value.
        Read by today's model, the stored form gets the same default.
        """
        try:
            return Receipt.model_validate_json(body) == self
        except ValidationError:
            return False


class RecentReceipts:
    """Receipts of the last moment by their canonical form: parsed where they are taken, not where they are printed.

    Needs no lock: each change is one assignment.
    """

    def __init__(self) -> None:
        self._young: dict[str, Receipt] = {}
        self._old: dict[str, Receipt] = {}

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._young) + len(self._old)

    def add(self, canonical: str, receipt: Receipt) -> None:
        """Remember a receipt for those who will ask for it by its canonical form, unless it is a large one."""
        if len(canonical) > RECENT_CHARS_MAX:
            return
        if len(self._young) >= RECENT_MAX:
            self._young, self._old = {}, self._young
        self._young[canonical] = receipt

    def parse(self, canonical: str) -> Receipt:
        """Return the receipt with this canonical form. Errors: pydantic's, where it is none."""
        return self._young.get(canonical) or self._old.get(canonical) or Receipt.model_validate_json(canonical)


RECENT: Final = RecentReceipts()
"""Those of this process: a memory of a pure function, so one is enough."""
