"""The figures for people, and all of them for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.curves import Curves
from benchmarks.table import Row, table


def as_text(machine: Mapping[str, str], versions: Mapping[str, str], rows: Sequence[Row]) -> str:
    """The table, under the machine and the versions."""
    return "\n".join([_line(machine), _line(versions), "", table(rows)])


def write_json(
    file: Path, machine: Mapping[str, str], versions: Mapping[str, str], rows: Sequence[Row], curves: Curves
) -> None:
    """Every run of every figure."""
    content = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dict(machine),
        "versions": dict(versions),
        "figures": [_row(row) for row in rows],
        "curves": asdict(curves),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _row(row: Row) -> dict[str, Any]:
    mark = None if row.bound is None else row.bound.mark(row.judged)
    return asdict(row) | {"judged": row.judged, "mark": mark}


def _line(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())
