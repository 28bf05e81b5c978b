"""Throughput and latency against load, and throughput against what is stored: what the plots show."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class LoadPoint:
    """What so many requests in flight got."""

    in_flight: int
    rate: float
    p50_ms: float
    p99_ms: float


@dataclass
class Curves:
    """Filled by the benchmarks on their way."""

    load: list[LoadPoint] = field(default_factory=list)
    rows: list[tuple[int, float]] = field(default_factory=list)
    """(receipts stored, receipts a second)."""


def rates_between(samples: Sequence[tuple[int, float]], stored_before: int) -> list[tuple[int, float]]:
    """From (receipts so far, seconds so far): receipts stored, and the rate at which the last of them came."""
    before = [(0, 0.0), *samples]
    return [
        (stored_before + count, (count - last_count) / (at - last_at))
        for (last_count, last_at), (count, at) in zip(before, samples, strict=False)
    ]
