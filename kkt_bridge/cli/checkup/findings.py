"""A finding: what was looked at, how it is, and what to do."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True)
class CheckupFinding:
    """One check. `advice` is what to do where the verdict is not ok."""

    check: str
    verdict: Verdict
    reason: str
    advice: str | None = None


def ok(check: str, reason: str) -> CheckupFinding:
    """It is as it should be."""
    return CheckupFinding(check, "ok", reason)


def warn(check: str, reason: str, advice: str) -> CheckupFinding:
    """The bridge runs, but somebody should know."""
    return CheckupFinding(check, "warn", reason, advice)


def fail(check: str, reason: str, advice: str) -> CheckupFinding:
    """The bridge cannot do its work like this."""
    return CheckupFinding(check, "FAIL", reason, advice)
