"""Text as a fiscal register takes it: no control characters going in, CP866 coming out."""

import re
import unicodedata
from functools import lru_cache
from typing import Final

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
"""What CP866 lacks; a search costs a fifth of an attempt to encode."""


def text_problem(text: str) -> str | None:
    """What makes this text unfit for a fiscal document, or None."""
    if match := _FORBIDDEN.search(text):
        return f"control or direction-changing character U+{ord(match[0]):04X} at position {match.start()}"
    if not text.strip() or not to_cp866(text)[0].strip():
        return "must not be blank"
    return None


def to_cp866(text: str) -> tuple[str, bool]:
    """The text with what CP866 lacks replaced by the nearest, and whether anything was.

    The length never grows, so that limits counted in characters hold for the bytes of the FFD too.
    """
    if _FOREIGN.search(text) is None:
        return text, False
    return "".join(map(_nearest, text)), True


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
