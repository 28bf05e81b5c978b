"""Results in a page for people: what stands between two marks there is replaced by what was measured."""

import re
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.errors import BenchmarkError

FIGURES, GROWTH = "figures", "growth"
"""The names of the two places in docs/performance.md."""


def fill(page: Path, name: str, measured: str) -> None:
    """Put this between `<!-- NAME: begin … -->` and `<!-- NAME: end -->`; BenchmarkError without such a place."""
    text = page.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- {name}: begin\b[^>]*-->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    if len(place.findall(text)) != 1:
        raise BenchmarkError(f'{page} needs one place for results, between "{name}: begin" and "{name}: end"')
    today = datetime.now(UTC).date().isoformat()
    filled = place.sub(lambda marks: f"{marks[1]}\n{today}. {measured.strip()}\n\n{marks[2]}", text)
    page.write_text(filled, encoding="utf-8")
