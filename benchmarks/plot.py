"""Lines in a frame as SVG: enough for two plots, and nothing to install."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 70, 70, 40, 55
TICKS = 5
# On a background of its own, so that a dark page does not swallow it.
PAPER, INK, GRID = "#ffffff", "#24292f", "#d0d7de"
COLOURS = ("#0969da", "#bc4c00", "#8250df", "#1a7f37")


@dataclass(frozen=True)
class Line:
    """One quantity; `right` puts it on the scale at the right."""

    name: str
    values: Sequence[float]
    right: bool = False


@dataclass(frozen=True)
class Plot:
    """Lines over the same places. With `even` these stand at even distances, whatever their values."""

    title: str
    x_label: str
    left_label: str
    right_label: str
    places: Sequence[float]
    lines: Sequence[Line]
    even: bool = False

    def svg(self) -> str:
        """The picture."""
        head = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        parts = [
            f'<svg {head} font-family="sans-serif" font-size="12">',
            f"<title>{escape(self.title)}</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
            *self._frame(),
            *(part for index, line in enumerate(self.lines) for part in self._line(index, line)),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def _frame(self) -> list[str]:
        middle = (TOP + HEIGHT - BOTTOM) / 2
        parts = [
            _text(WIDTH / 2, HEIGHT - 8, self.x_label),
            _text(14, middle, self.left_label, turned=True),
            _text(WIDTH - 8, middle, self.right_label, turned=True),
        ]
        for index in range(TICKS + 1):
            share = index / TICKS
            y = _y(share)
            parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
            parts.append(_text(LEFT - 6, y + 4, _short(self._top(right=False) * share), anchor="end"))
            if any(line.right for line in self.lines):
                parts.append(_text(WIDTH - RIGHT + 6, y + 4, _short(self._top(right=True) * share), anchor="start"))
        below = HEIGHT - BOTTOM + 18
        parts += [_text(x, below, _short(value)) for x, value in self._x_marks()]
        return parts

    def _line(self, index: int, line: Line) -> list[str]:
        colour, top = COLOURS[index], self._top(right=line.right)
        points = [f"{self._x(place):.1f},{_y(value / top):.1f}" for place, value in enumerate(line.values)]
        at = LEFT + index * (WIDTH - LEFT - RIGHT) / len(self.lines)
        return [
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>',
            *(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in (point.split(",") for point in points)),
            f'<path d="M{at:.1f} 20h18" stroke="{colour}" stroke-width="3"/>',
            _text(at + 24, 24, line.name, anchor="start"),
        ]

    def _top(self, *, right: bool) -> float:
        return _round_top(max(value for line in self.lines if line.right == right for value in line.values))

    def _x(self, place: int) -> float:
        share = place / (len(self.places) - 1) if self.even else self.places[place] / _round_top(max(self.places))
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def _x_marks(self) -> list[tuple[float, float]]:
        """Where the lower scale says what: at each place if these are even, else at round values."""
        if self.even:
            return [(self._x(place), value) for place, value in enumerate(self.places)]
        top, width = _round_top(max(self.places)), WIDTH - LEFT - RIGHT
        return [(LEFT + index / TICKS * width, index / TICKS * top) for index in range(TICKS + 1)]


def _round_top(most: float) -> float:
    """The end of a scale: round, and not below the highest value."""
    magnitude = 10 ** (len(f"{most:.0f}") - 1)
    return next(step * magnitude for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * magnitude >= most)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _text(x: float, y: float, text: str, *, anchor: str = "middle", turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}" text-anchor="{anchor}"{turn}>{escape(text)}</text>'


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:.1f}"
