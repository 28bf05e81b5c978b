"""The colours of the window, by meaning."""

from types import MappingProxyType
from typing import Final

GOOD: Final = "#7ee787"
WARN: Final = "#f2cc60"
HIGH: Final = "#ffa657"
BAD: Final = "#ff7b72"
INFO: Final = "#79c0ff"
QUIET: Final = "#8b949e"
FRAME: Final = "#3d444d"
TITLE: Final = "bold #d2a8ff"
TEXT: Final = "#e6edf3"

HEADER: Final = "on #21262d"
HEALTH: Final = MappingProxyType(
    {"starting": QUIET, "healthy": GOOD, "degraded": WARN, "unhealthy": BAD, "offline": BAD}
)
ALARM: Final = "bold #ffffff on #b62324"
ALARM_FADED: Final = "bold #ffffff on #7d1a1b"
CALM: Final = "bold #04260f on #56d364"
UNSURE: Final = "bold #341a00 on #e3b341"

PAPER: Final = "on #f4efe1"
INK: Final = MappingProxyType(
    {"plain": "#2b2b2b on #f4efe1", "bold": "bold #111111 on #f4efe1", "faint": "#8a8068 on #f4efe1"}
)
SLOT: Final = "#21262d on #f4efe1"

MOODS: Final = MappingProxyType({"plain": TEXT, "good": GOOD, "warn": WARN, "bad": BAD, "story": INFO})


TRACK: Final = ((80, FRAME), (90, "#6b5a24"), (100, "#7a4a1e"))
"""The empty part of the bar, up to these percents: where it will be yellow and orange can be seen beforehand."""


def fill_colour(percent: float) -> str:
    """The colour of a buffer so full: the thresholds are those of the bridge's own alerts."""
    if percent >= 100:
        return BAD
    if percent >= 90:
        return HIGH
    return WARN if percent >= 80 else GOOD
