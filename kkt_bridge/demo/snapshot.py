"""A frame of the window as an SVG picture that needs nothing from elsewhere.

Every word has its own place and lines are drawn as shapes, so the grid of a terminal holds in any font.
"""

import io
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.segment import Segment
from rich.style import Style

from kkt_bridge.errors import KktBridgeError

COLUMNS: Final = 100
ROWS: Final = 28

CELL_WIDTH: Final = 10
CELL_HEIGHT: Final = 22
FONT_SIZE: Final = 16.6
"""Gives the usual monospaced fonts, whose glyphs are 0.6 em wide, the width of a cell."""

BASELINE: Final = 16
MARGIN: Final = 16
TITLE_HEIGHT: Final = 36
GROUND: Final = "#0d1117"
RIM: Final = "#30363d"
FOREGROUND: Final = "#e6edf3"
FONTS: Final = "'DejaVu Sans Mono','Cascadia Mono','JetBrains Mono',Menlo,Consolas,monospace"
LIGHTS: Final = ("#ff5f57", "#febc2e", "#28c840")

_SEAMLESS: Final = 'shape-rendering="crispEdges"'
"""Keeps a hair's breadth of ground from showing between two cells where the picture is scaled."""

_BLOCKS: Final = {char: eighths for eighths, char in enumerate("▁▂▃▄▅▆▇█", start=1)}
_W, _H = CELL_WIDTH, CELL_HEIGHT
_MID_X, _MID_Y = CELL_WIDTH / 2, CELL_HEIGHT / 2
_STROKES: Final = {
    "─": (f"M0 {_MID_Y}h{_W}", 1.4),
    "│": (f"M{_MID_X} 0v{_H}", 1.4),
    "╭": (f"M{_MID_X} {_H}V{_MID_Y + 5}q0 -5 5 -5", 1.4),
    "╮": (f"M{_MID_X} {_H}V{_MID_Y + 5}q0 -5 -5 -5", 1.4),
    "╰": (f"M{_MID_X} 0V{_MID_Y - 5}q0 5 5 5", 1.4),
    "╯": (f"M{_MID_X} 0V{_MID_Y - 5}q0 5 -5 5", 1.4),
    "━": (f"M0 {_MID_Y}h{_W}", 4.0),
    "╸": (f"M0 {_MID_Y}h{_MID_X}", 4.0),
    "┄": (f"M1 {_MID_Y}h3m3 0h3", 2.4),
    "╱": (f"M-3 {_MID_Y}l{_W + 1} -{_MID_Y - 3}", 2.4),
}  # fmt: skip
"""What is drawn instead of written: a path from the cell's upper left corner, and how thick it is."""

_WRITTEN: Final = re.compile(rf"[^\s{''.join(_STROKES)}{''.join(_BLOCKS)}]+")


def require_writable(path: Path) -> None:
    """KktBridgeError if no picture can be written to this file; one that is there stays as it is."""
    existed = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise KktBridgeError(f"--screenshot: {path} cannot be written: {error.strerror}") from None
    if not existed:
        path.unlink()


def save_svg(frame: RenderableType, path: Path, title: str) -> None:
    """Write a frame of `COLUMNS` x `ROWS` to this file."""
    try:
        path.write_text(svg(frame, title), encoding="utf-8")
    except OSError as error:
        raise KktBridgeError(f"--screenshot: {path} cannot be written: {error.strerror}") from None


def svg(frame: RenderableType, title: str) -> str:
    """The frame as a terminal window with this title."""
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", legacy_windows=False)
    rows = console.render_lines(frame, console.options.update(width=COLUMNS, height=ROWS))
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, ROWS * CELL_HEIGHT + TITLE_HEIGHT + MARGIN
    drawn = "\n".join(part for number, row in enumerate(rows) for part in _row(row, number))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">\n'
        f"<title>{escape(title)}</title>\n"
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10" fill="{GROUND}" stroke="{RIM}"/>\n'
        + "".join(f'<circle cx="{20 + 20 * n}" cy="19" r="6" fill="{colour}"/>' for n, colour in enumerate(LIGHTS))
        + f'<text x="{width / 2}" y="24" text-anchor="middle" font-family="{FONTS}" font-size="14" fill="#8b949e">'
        f"{escape(title)}</text>\n"
        f'<g transform="translate({MARGIN},{TITLE_HEIGHT})" font-family="{FONTS}" font-size="{FONT_SIZE}">\n'
        f"{drawn}\n</g>\n</svg>\n"
    )


def _row(segments: list[Segment], number: int) -> Iterator[str]:
    column, top = 0, number * CELL_HEIGHT
    for text, style, _ in segments:
        colour, ground = _colours(style)
        if ground is not None:
            size = f'width="{cell_len(text) * CELL_WIDTH}" height="{CELL_HEIGHT}"'
            yield f'<rect x="{column * CELL_WIDTH}" y="{top}" {size} fill="{ground}" {_SEAMLESS}/>'
        yield from _shapes(text, column, top, colour)
        yield from _words(text, column, top, colour, bold=bool(style and style.bold))
        column += cell_len(text)


def _words(text: str, column: int, top: int, colour: str, *, bold: bool) -> Iterator[str]:
    weight = ' font-weight="bold"' if bold else ""
    for word in _WRITTEN.finditer(text):
        at = f'x="{(column + word.start()) * CELL_WIDTH}" y="{top + BASELINE}"'
        # For fonts of another width; a renderer that ignores it is right with the first of FONTS.
        length = f'textLength="{len(word[0]) * CELL_WIDTH}" lengthAdjust="spacingAndGlyphs"'
        yield f'<text {at} {length} fill="{colour}"{weight}>{escape(word[0], quote=False)}</text>'


def _shapes(text: str, column: int, top: int, colour: str) -> Iterator[str]:
    for place, char in enumerate(text, start=column):
        left = place * CELL_WIDTH
        if char in _BLOCKS:
            height = CELL_HEIGHT * _BLOCKS[char] / 8
            at = f'x="{left}" y="{top + CELL_HEIGHT - height:g}"'
            yield f'<rect {at} width="{CELL_WIDTH}" height="{height:g}" fill="{colour}" {_SEAMLESS}/>'
        elif char in _STROKES and text[place - column - 1 : place - column] != char:
            path, thick = _STROKES[char]
            run = len(text[place - column :]) - len(text[place - column :].lstrip(char))
            if char in "─━":
                path, run = f"M0 {_MID_Y}h{run * CELL_WIDTH}", 1
            for step in range(run):
                move = f"translate({left + step * CELL_WIDTH},{top})"
                yield f'<path transform="{move}" d="{path}" fill="none" stroke="{colour}" stroke-width="{thick}"/>'


def _colours(style: Style | None) -> tuple[str, str | None]:
    """Of what is written, and of the ground under it if that is its own."""
    if style is None:
        return FOREGROUND, None
    colour = style.color.get_truecolor().hex if style.color and not style.color.is_default else FOREGROUND
    ground = style.bgcolor.get_truecolor().hex if style.bgcolor and not style.bgcolor.is_default else None
    return colour, ground
