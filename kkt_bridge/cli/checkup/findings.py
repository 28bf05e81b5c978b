"""A finding: what was looked at, how it is, and what to do."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `advice` is what to do where the verdict is not ok."""

    check: str
    verdict: Verdict
    reason: str
    advice: str | None = None


def ok(check: str, reason: str) -> Finding:
    """It is as it should be."""
    return Finding(check, "ok", reason)


def warn(check: str, reason: str, advice: str) -> Finding:
    """The bridge runs, but somebody should know."""
    return Finding(check, "warn", reason, advice)


def fail(check: str, reason: str, advice: str) -> Finding:
    """The bridge cannot do its work like this."""
    return Finding(check, "FAIL", reason, advice)
