"""The consequences of an answer of the OFD: for the document, and for the uplink. Pure; the rules are a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from kkt_bridge.ofd.exchange import AnswerKind, OfdAnswer
from kkt_bridge.receipts.lifecycle import DeliveryState

NetworkState = Literal["online", "degraded", "offline"]
"""`degraded`: the OFD answers with errors; `offline`: it does not answer."""

UplinkEffect = Literal["success", "failure", "pause", "nothing"]
"""The breaker counts successes and failures, a pause stops everything for a while."""


class AnswerRule(NamedTuple):
    """The consequences of a kind of answer by itself."""

    uplink: UplinkEffect
    network: NetworkState
    document: Literal["sent", "held", "refused", "misdirected", "attributed"]
    """`misdirected` and `attributed` need evidence: whose fault it is."""


ANSWER_RULES: Final[Mapping[AnswerKind, AnswerRule]] = MappingProxyType(
    {
        AnswerKind.ACCEPTED: AnswerRule("success", "online", "sent"),
        AnswerKind.NOT_THE_OFD: AnswerRule("failure", "offline", "held"),
        AnswerKind.SLOW_DOWN: AnswerRule("pause", "online", "held"),
        AnswerKind.BRIDGE_REFUSED: AnswerRule("failure", "degraded", "misdirected"),
        AnswerKind.DOCUMENT_REFUSED: AnswerRule("nothing", "online", "refused"),
        AnswerKind.SERVICE_FAILED: AnswerRule("failure", "degraded", "attributed"),
        AnswerKind.LINE_FAILED: AnswerRule("failure", "offline", "attributed"),
    }
)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Facts besides the answer."""

    strikes: int
    """That count against the document so far."""
    max_attempts: int
    """Strikes that make a dead letter."""
    is_forced: bool = False
    """An operator forced the attempt."""
    health_ok: bool = False
    """The OFD's health check answered well after the failure."""
    took_others: bool = False
    """The OFD took another document since this one failed last."""
    took_others_since_refusal: bool = False
    """It took another one since it first refused the bridge on this one."""
    service_fails: bool = False
    """Three or more different documents are failing, and none was taken since the first of them failed."""


@dataclass(frozen=True, slots=True)
class Disposition:
    """The decision about one attempt."""

    delivery: DeliveryState
    """`READY`: held, it stays the next of its register and nothing overtakes it. `WAITING`: it waits out a back-off
    of its own, and does not hold up those behind it."""
    uplink: UplinkEffect
    strike: bool = False
    reason: str | None = None
    """The reason of a dead letter."""


def dispose(answer: OfdAnswer, known: Circumstances) -> Disposition:
    """Return the decision about this answer under these circumstances."""
    rule = ANSWER_RULES[answer.kind]
    match rule.document:
        case "sent":
            return Disposition(DeliveryState.SENT, rule.uplink)
        case "held":
            return Disposition(DeliveryState.READY, rule.uplink)
        case "refused":
            return Disposition(DeliveryState.DEAD, rule.uplink, strike=True, reason="refused")
        case "misdirected":
            if known.took_others_since_refusal:
                # Others get through, so this bridge is not refused: it is this document.
                return Disposition(DeliveryState.DEAD, "nothing", strike=True, reason="refused")
            return Disposition(DeliveryState.READY, rule.uplink)
        case "attributed":
            return _attribute(known)


def _attribute(known: Circumstances) -> Disposition:
    """Decide whose fault a failure is that may be anybody's."""
    is_alive = known.health_ok or known.took_others
    if not known.is_forced and (not is_alive or known.service_fails):
        return Disposition(DeliveryState.READY, "failure")
    # A document that fails while others are taken says nothing of the service: it must not open the breaker for them.
    uplink: UplinkEffect = "nothing" if known.took_others and not known.service_fails else "failure"
    if known.strikes + 1 < known.max_attempts:
        return Disposition(DeliveryState.WAITING, uplink, strike=True)
    if known.service_fails:
        return Disposition(DeliveryState.WAITING, uplink)  # one strike short of the end, until there is proof
    return Disposition(DeliveryState.DEAD, uplink, strike=True, reason="max_attempts")
