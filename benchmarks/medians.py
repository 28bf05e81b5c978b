"""Medians and percentiles, without interpolation where a latency is asked for: one that was really seen."""

from collections.abc import Sequence
from math import ceil
from statistics import median


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The least value that so many percent do not exceed."""
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def pairwise_ratio(values: Sequence[float], references: Sequence[float]) -> float:
    """The median of the ratios of what ran one after the other, so that a drifting machine does not show in it."""
    return median(value / reference for value, reference in zip(values, references, strict=True))
