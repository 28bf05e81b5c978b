"""Figures with what they are held against, as a Markdown table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

BEYOND, REACH, SHORT = "beyond", "reach", "short"


@dataclass(frozen=True)
class Bound:
    """What a ratio, or a bare figure, is to keep: at least or at most so much."""

    reach: float
    beyond: float | None = None
    unit: str = "×"
    at_most: bool = False

    def mark(self, value: float) -> str:
        """How far this value gets."""
        if self.beyond is not None and self._keeps(value, self.beyond):
            return BEYOND
        return REACH if self._keeps(value, self.reach) else SHORT

    def text(self, bound: float | None) -> str:
        """One of the two bounds, as the table shows it."""
        return "" if bound is None else f"{'≤' if self.at_most else '≥'} {bound:g} {self.unit}"

    def _keeps(self, value: float, bound: float) -> bool:
        return value <= bound if self.at_most else value >= bound


@dataclass(frozen=True)
class Row:
    """One figure: every run of it, every run of its reference beside it, and what became of both."""

    figure: str
    unit: str
    values: Sequence[float]
    reference: str = "–"
    references: Sequence[float] = ()
    ratio: float | None = None
    """None where the figure stands for itself."""
    bound: Bound | None = None
    notes: dict[str, object] = field(default_factory=dict)
    """What else was seen, for the JSON."""

    @property
    def judged(self) -> float:
        """What the bound is about."""
        return median(self.values) if self.ratio is None else self.ratio

    def cells(self) -> list[str]:
        """The row of the table."""
        bound = self.bound
        return [
            self.figure,
            spread(self.values, self.unit),
            f"{self.reference}: {spread(self.references, self.unit)}" if self.references else self.reference,
            "" if self.ratio is None else f"{self.ratio:.2f} ×",
            *(("", "", "") if bound is None else (bound.text(bound.reach), bound.text(bound.beyond))),
            *(() if bound is None else (bound.mark(self.judged),)),
        ]


HEAD = ["figure", "median (min–max)", "reference, same run", "ratio", "reach", "beyond", ""]


def table(rows: Iterable[Row]) -> str:
    """The whole table."""
    lines = [HEAD, ["---"] * len(HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def spread(values: Sequence[float], unit: str) -> str:
    """The median, and how far the runs lie apart."""
    middle = number(median(values))
    if len(values) == 1:
        return f"{middle} {unit}"
    return f"{middle} {unit} ({number(min(values))}–{number(max(values))})"


def number(value: float) -> str:
    """Three digits that count; thousands in groups."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
