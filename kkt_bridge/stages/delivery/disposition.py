"""What follows from an answer of the OFD: for the document, and for the road. Pure; the rules are tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from kkt_bridge.ofd.exchange import AnswerKind, OfdAnswer
from kkt_bridge.ofd.network import NetworkName

RoadNote = Literal["success", "failure", "pause", "nothing"]
"""What the road learns: the breaker counts successes and failures, a pause is kept, the rest does not concern it."""

Fate = Literal["sent", "held", "waiting", "dead"]
"""Of a document: `held` stays the next of its register, and nothing overtakes it; `waiting` has a back-off of its own,
and does not hold up those behind it."""


class DispositionRule(NamedTuple):
    """What the kind of an answer says by itself."""

    uplink: RoadNote
    network: NetworkName
    document: Literal["sent", "held", "refused", "misdirected", "attributed"]
    """`misdirected` and `attributed` need evidence: whose fault it is."""


RULES: Final[Mapping[AnswerKind, DispositionRule]] = MappingProxyType(
    {
        AnswerKind.ACCEPTED: DispositionRule("success", "online", "sent"),
        AnswerKind.NOT_THE_OFD: DispositionRule("failure", "offline", "held"),
        AnswerKind.SLOW_DOWN: DispositionRule("pause", "online", "held"),
        AnswerKind.BRIDGE_REFUSED: DispositionRule("failure", "degraded", "misdirected"),
        AnswerKind.DOCUMENT_REFUSED: DispositionRule("nothing", "online", "refused"),
        AnswerKind.SERVICE_FAILED: DispositionRule("failure", "degraded", "attributed"),
        AnswerKind.LINE_FAILED: DispositionRule("failure", "offline", "attributed"),
    }
)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known besides the answer."""

    strikes: int
    """That count against the document so far."""
    max_attempts: int
    """Strikes that make a dead letter."""
    is_forced: bool = False
    """Whether an operator forced the attempt."""
    is_well: bool = False
    """Whether the OFD's health check answered well after the failure."""
    took_others: bool = False
    """Whether the OFD took another document since this one failed last."""
    took_others_since_refusal: bool = False
    """Whether it took another one since it first refused the bridge on this one."""
    is_doubtful: bool = False
    """Whether three or more different documents are failing, and none was taken since the first of them failed."""


@dataclass(frozen=True, slots=True)
class Disposition:
    """What is to be done about one attempt."""

    fate: Fate
    uplink: RoadNote
    strike: bool = False
    reason: str | None = None
    """Why a dead letter is one."""


def rule(answer: OfdAnswer, known: Circumstances) -> Disposition:
    """What follows from this answer under these circumstances."""
    uplink, _, document = RULES[answer.kind]
    match document:
        case "sent":
            return Disposition("sent", uplink)
        case "held":
            return Disposition("held", uplink)
        case "refused":
            return Disposition("dead", uplink, strike=True, reason="refused")
        case "misdirected":
            if known.took_others_since_refusal:
                # Others get through, so this bridge is not refused: it is this document.
                return Disposition("dead", "nothing", strike=True, reason="refused")
            return Disposition("held", uplink)
        case "attributed":
            return _attribute(known)


def _attribute(known: Circumstances) -> Disposition:
    """Whose fault a failure is that may be anybody's."""
    is_alive = known.is_well or known.took_others
    if not known.is_forced and (not is_alive or known.is_doubtful):
        return Disposition("held", "failure")
    # A document that fails while others are taken says nothing of the service: it must not close the road for them.
    uplink: RoadNote = "nothing" if known.took_others and not known.is_doubtful else "failure"
    if known.strikes + 1 < known.max_attempts:
        return Disposition("waiting", uplink, strike=True)
    if known.is_doubtful:
        return Disposition("waiting", uplink)  # one strike short of the end, until there is proof
    return Disposition("dead", uplink, strike=True, reason="max_attempts")
