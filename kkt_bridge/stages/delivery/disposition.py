"""What follows from an answer of the OFD: for the document, and for the road. Pure; the rules are tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from kkt_bridge.ofd.exchange import Answer, AnswerKind
from kkt_bridge.ofd.network import NetworkName

RoadNote = Literal["success", "failure", "pause", "nothing"]
"""What the road learns: the breaker counts successes and failures, a pause is kept, the rest does not concern it."""

Fate = Literal["sent", "held", "waiting", "dead"]
"""Of a document: `held` stays the next of its register, and nothing overtakes it; `waiting` has a back-off of its own,
and does not hold up those behind it."""


class Rule(NamedTuple):
    """What the kind of an answer says by itself."""

    road: RoadNote
    network: NetworkName
    document: Literal["sent", "held", "refused", "misdirected", "attributed"]
    """`misdirected` and `attributed` need evidence: whose fault it is."""


RULES: Final[Mapping[AnswerKind, Rule]] = MappingProxyType(
    {
        AnswerKind.ACCEPTED: Rule("success", "online", "sent"),
        AnswerKind.NOT_THE_OFD: Rule("failure", "offline", "held"),
        AnswerKind.SLOW_DOWN: Rule("pause", "online", "held"),
        AnswerKind.BRIDGE_REFUSED: Rule("failure", "degraded", "misdirected"),
        AnswerKind.DOCUMENT_REFUSED: Rule("nothing", "online", "refused"),
        AnswerKind.SERVICE_FAILED: Rule("failure", "degraded", "attributed"),
        AnswerKind.LINE_FAILED: Rule("failure", "offline", "attributed"),
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
class Ruling:
    """What is to be done about one attempt."""

    fate: Fate
    road: RoadNote
    strike: bool = False
    reason: str | None = None
    """Why a dead letter is one."""


def rule(answer: Answer, known: Circumstances) -> Ruling:
    """What follows from this answer under these circumstances."""
    road, _, document = RULES[answer.kind]
    match document:
        case "sent":
            return Ruling("sent", road)
        case "held":
            return Ruling("held", road)
        case "refused":
            return Ruling("dead", road, strike=True, reason="refused")
        case "misdirected":
            if known.took_others_since_refusal:
                # Others get through, so this bridge is not refused: it is this document.
                return Ruling("dead", "nothing", strike=True, reason="refused")
            return Ruling("held", road)
        case "attributed":
            return _attribute(known)


def _attribute(known: Circumstances) -> Ruling:
    """Whose fault a failure is that may be anybody's."""
    is_alive = known.is_well or known.took_others
    if not known.is_forced and (not is_alive or known.is_doubtful):
        return Ruling("held", "failure")
    # A document that fails while others are taken says nothing of the service: it must not close the road for them.
    road: RoadNote = "nothing" if known.took_others and not known.is_doubtful else "failure"
    if known.strikes + 1 < known.max_attempts:
        return Ruling("waiting", road, strike=True)
    if known.is_doubtful:
        return Ruling("waiting", road)  # one strike short of the end, until there is proof
    return Ruling("dead", road, strike=True, reason="max_attempts")
