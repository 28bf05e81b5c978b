"""The rules of a Shtrih-M register: modes, submodes, commands and refusals, as tables.

Codes and numbers are the Shtrih-M protocol's own, so that a byte-level emulator can send them as they are.
"""

from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Final, Literal


class Mode(IntEnum):
    """The mode byte of 10h and 11h, as far as a working register shows it."""

    SHIFT_OPEN = 2
    SHIFT_EXPIRED = 3
    """Open for 24 hours or more: only closing it is left."""
    SHIFT_CLOSED = 4
    DOCUMENT_OPEN = 8


class Submode(IntEnum):
    """The submode byte of 10h and 11h: how the printer is."""

    IDLE = 0
    NO_PAPER = 1
    """Passive: nothing was being printed."""
    PAPER_RAN_OUT = 2
    """Active: something was being printed."""
    AWAITING_CONTINUE = 3
    """There is paper again; B0h prints the rest."""
    PRINTING = 5


class RegisterCommand(Enum):
    """The commands that a mode can refuse, with their codes."""

    OPEN_SHIFT = "E0"
    OPEN_DOCUMENT = "8D"
    SET_REQUISITE = "FF0C"
    ADD_LINE = "FF46"
    SUBTOTAL = "89"
    CLOSE_DOCUMENT = "FF45"
    CANCEL_DOCUMENT = "88"
    X_REPORT = "40"
    CLOSE_SHIFT = "41"
    PRINT_COPY = "8C"


OK: Final = 0x00

_COLUMNS: Final = (Mode.SHIFT_OPEN, Mode.SHIFT_EXPIRED, Mode.SHIFT_CLOSED, Mode.DOCUMENT_OPEN)
_BY_MODE: Final = MappingProxyType(
    {
        RegisterCommand.OPEN_SHIFT: (0x73, 0x73, OK, 0x73),
        RegisterCommand.OPEN_DOCUMENT: (OK, 0x4E, 0x3D, 0x4A),
        RegisterCommand.SET_REQUISITE: (0x02, 0x02, 0x02, OK),
        RegisterCommand.ADD_LINE: (0x73, 0x4E, 0x73, OK),
        RegisterCommand.SUBTOTAL: (0x73, 0x4E, 0x73, OK),
        RegisterCommand.CLOSE_DOCUMENT: (0x73, 0x4E, 0x73, OK),
        RegisterCommand.CANCEL_DOCUMENT: (0x73, 0x73, 0x73, OK),
        RegisterCommand.X_REPORT: (OK, OK, 0x73, 0x4A),
        RegisterCommand.CLOSE_SHIFT: (OK, OK, 0x73, 0x4A),
        RegisterCommand.PRINT_COPY: (OK, OK, OK, 0x4A),
    }
)

_BY_SUBMODE: Final = MappingProxyType(
    {
        Submode.NO_PAPER: 0x6B,
        Submode.PAPER_RAN_OUT: 0x72,
        Submode.AWAITING_CONTINUE: 0x58,
        Submode.PRINTING: 0x50,
    }
)

# An open document is worked on, and given up, without paper; it cannot come into being without.
_NEEDS_PAPER: Final = frozenset(RegisterCommand) - {
    RegisterCommand.SET_REQUISITE,
    RegisterCommand.SUBTOTAL,
    RegisterCommand.CANCEL_DOCUMENT,
}

MEANINGS: Final = MappingProxyType(
    {
        0x02: "FN: wrong state",
        0x03: "FN: internal failure",
        0x06: "FN: archive full",
        0x07: "FN: bad date or time",
        0x08: "FN: no requested data",
        0x0B: "FN: invalid requisites",
        0x0D: "FN: mandatory data missing",
        0x16: "FN: shift over 24 h",
        0x33: "bad parameters",
        0x3D: "shift not open",
        0x45: "payments less than the total",
        0x48: "receipt total overflow",
        0x4A: "a document is open",
        0x4D: "cashless exceeds the total",
        0x4E: "shift over 24 h",
        0x50: "still printing the previous command",
        0x56: "no document to repeat",
        0x58: "waiting for the continue-print command",
        0x6B: "no receipt paper",
        0x72: "not supported in this submode",
        0x73: "not supported in this mode",
        0x8E: "zero receipt",
        0x94: "operations limit in a receipt",
    }
)
"""The error codes that the model uses, in words."""


class Refusal(Exception):
    """The register answered with an error code: the command changed nothing."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(f"{code:02X}h {MEANINGS[code]}" + (f": {detail}" if detail else ""))
        self.code = code


class NoAnswer(Exception):
    """The command was not answered; what it did, if anything, only the register can tell.

    With the reason `offline` the command never got there.
    """

    def __init__(self, reason: Literal["offline", "power_cut", "answer_lost"]) -> None:
        super().__init__({"offline": "no answer", "power_cut": "power cut", "answer_lost": "answer lost"}[reason])
        self.reason = reason


def refusal_code(command: RegisterCommand, mode: Mode, submode: Submode) -> int:
    """The error code that this command meets now, or OK."""
    if submode is not Submode.IDLE and command in _NEEDS_PAPER:
        return _BY_SUBMODE[submode]
    return _BY_MODE[command][_COLUMNS.index(mode)]
