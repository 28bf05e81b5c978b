"""The checks of `kkt-bridge doctor`, one part of an installation a module; nothing here changes anything."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True)
class CheckupFinding:
    """The result of one check. `advice` is what to do where the verdict is not ok."""

    check: str
    verdict: Verdict
    reason: str
    advice: str | None = None


def ok(check: str, reason: str) -> CheckupFinding:
    """Return that it is as it should be."""
    return CheckupFinding(check, "ok", reason)


def warn(check: str, reason: str, advice: str) -> CheckupFinding:
    """Return that the bridge runs, but somebody should know."""
    return CheckupFinding(check, "warn", reason, advice)


def fail(check: str, reason: str, advice: str) -> CheckupFinding:
    """Return that the bridge cannot do its work like this."""
    return CheckupFinding(check, "FAIL", reason, advice)
