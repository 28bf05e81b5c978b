"""The conditions of alerts: pure functions of what components report; `alert_table.py` says which alerts there are.

Each yields a finding for each subject that it knows of: with a message where the condition holds, with None where it
does not. The alert of a subject that it does not mention stays as it is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from kkt_bridge.operations.clock_watch import ADVICE, ClockVerdict
from kkt_bridge.operations.component_report import (
    BUFFER_LEVELS,
    BrokenParts,
    BrokerFacts,
    BufferFacts,
    FloodFacts,
    JournalFacts,
    RegisterFacts,
)
from kkt_bridge.stages.delivery.delivery import DeliveryStatus
from kkt_bridge.stages.printing.status import NOT_YET_REACHED

Severity = Literal["warning", "critical"]

UNSENT_DAYS: Final = (1, 5, 20, 27)
"""Days without the OFD at which an alert is raised, and raised again: after 30 the fiscal storage blocks itself."""

UNSENT_DAYS_MAX: Final = 30
"""Days that the law, and with it the fiscal storage, gives a document to reach the OFD."""

FN_EXPIRY_DAYS: Final = (30, 7, 0)
"""Days before the key of the fiscal storage expires at which an alert is raised, and raised again."""

_TOLD_BY_OTHERS: Final = frozenset(
    {
        NOT_YET_REACHED,
        "unsettled_doubt",
        "journal",
        "offline",
        "paper_out",
        "fn_exhausted",
        "fn_lost_documents",
        "internal_error",
    }
)
"""Problems of a register that have an alert of their own."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a condition for a register, or for the bridge."""

    kkt: str | None
    """None where it is about the bridge."""
    message: str | None
    """The trouble in words; None when the condition does not hold."""
    level: int = 0
    """Grows as it gets worse: a higher level is told again."""
    severity: Severity | None = None
    """None for the condition's own."""


# -- the journal and what lies in it -----------------------------------------------------------------------------


def storage(journal: JournalFacts) -> Iterator[Finding]:
    message = f"the journal takes nothing, new receipts are refused: {journal.failing}"
    yield Finding(None, message if journal.failing is not None else None)


def dead_letters(journal: JournalFacts) -> Iterator[Finding]:
    for kkt, count in sorted(journal.dead_letters.items()):
        documents = _counted(count, "fiscal document of", "fiscal documents of", "waits", "wait", kkt)
        yield Finding(kkt, f"{documents} for a decision: the OFD did not take it" if count else None)


def orphaned_queue(journal: JournalFacts) -> Iterator[Finding]:
    for kkt, count in sorted(journal.orphaned.items()):
        receipts = _counted(count, "receipt for", "receipts for", "waits", "wait", kkt)
        yield Finding(kkt, f"{receipts}, and no such register is configured" if count else None)


def buffer_fill(buffer: BufferFacts) -> Iterator[Finding]:
    if not buffer.level:
        yield Finding(None, None)
        return
    filled = f"{buffer.pending} of {buffer.capacity} receipts are not at the OFD yet"
    if buffer.pending >= buffer.capacity:
        yield Finding(None, f"the buffer is full, new receipts are refused: {filled}", buffer.level, "critical")
        return
    percent = 100 * buffer.pending // buffer.capacity
    until = f"; at the rate of the last minutes it is full about {buffer.full_at[:16]}" if buffer.full_at else ""
    severity: Severity = "warning" if buffer.level < BUFFER_LEVELS[1] else "critical"
    yield Finding(None, f"the buffer is {percent} % full: {filled}{until}", buffer.level, severity)


# -- the way to the OFD ------------------------------------------------------------------------------------------


def ofd_refuses_bridge(delivery: DeliveryStatus) -> Iterator[Finding]:
    message = f"the OFD refuses this bridge, whatever it sends: {delivery.bridge_refused}"
    yield Finding(None, message if delivery.bridge_refused is not None else None)


def ofd_refuses_all(delivery: DeliveryStatus) -> Iterator[Finding]:
    message = f"the OFD refuses one document after the other and takes none: {delivery.refuses_all}"
    yield Finding(None, message if delivery.refuses_all is not None else None)


def ofd_takes_nothing(delivery: DeliveryStatus) -> Iterator[Finding]:
    message = "documents are waiting and were tried, and the OFD has taken none for some time"
    yield Finding(None, message if delivery.takes_nothing_since is not None else None)


def unsendable_documents(delivery: DeliveryStatus) -> Iterator[Finding]:
    for kkt, count in sorted(delivery.unsendable.items()):
        documents = f"1 document of {kkt}" if count == 1 else f"{count} documents of {kkt}"
        yield Finding(kkt, f"{documents} cannot be put together as the OFD gets them" if count else None)


def unsent_documents(register: RegisterFacts) -> Iterator[Finding]:
    kkt = register.view.kkt
    level = max((days for days in UNSENT_DAYS if register.unsent and register.unsent_days >= days), default=0)
    if not level:
        yield Finding(kkt, None)
        return
    documents = "1 document" if register.unsent == 1 else f"{register.unsent} documents"
    left = UNSENT_DAYS_MAX - int(register.unsent_days)
    then = f"in {_days(left)} the fiscal storage blocks itself" if left > 0 else "the fiscal storage blocks itself"
    message = f"{documents} of {kkt} did not reach the OFD for {_days(int(register.unsent_days))}: {then}"
    yield Finding(kkt, message, level, "critical" if level >= UNSENT_DAYS[2] else "warning")


# -- the broker and the terminals --------------------------------------------------------------------------------


def replies_refused(broker: BrokerFacts) -> Iterator[Finding]:
    count, example = broker.session.refused_topics.count, broker.session.refused_topics.example
    topics = "1 topic" if count == 1 else f"{count} topics"
    message = f"the broker does not take what the bridge publishes on {topics}{f': {example}' if example else ''}"
    yield Finding(None, message if count else None)


def subscription_refused(broker: BrokerFacts) -> Iterator[Finding]:
    filters = ", ".join(broker.session.refused_subscriptions)
    yield Finding(None, f"the broker does not let this bridge read {filters}" if filters else None)


def messages_parked(broker: BrokerFacts) -> Iterator[Finding]:
    count, example = broker.session.parked.count, broker.session.parked.example
    messages = "1 message is" if count == 1 else f"{count} messages are"
    message = f"{messages} set aside: the broker ends the connection over them{f' ({example})' if example else ''}"
    yield Finding(None, message if count else None)


def unroutable(broker: BrokerFacts) -> Iterator[Finding]:
    example = broker.session.unroutable.example
    as_on = f", as on {example}" if example else ""
    message = f"the broker delivers messages on topics that are none of this bridge's{as_on}"
    yield Finding(None, message if broker.unroutable_now else None)


def rival(broker: BrokerFacts) -> Iterator[Finding]:
    yield Finding(None, broker.session.rival)


def flood(facts: FloodFacts) -> Iterator[Finding]:
    flood = facts.flood
    # Rounded, as every other figure would be a change of the state each second.
    rate = None if flood is None else f"about {round(flood.rate_per_s, -2):.0f} messages/s"
    yield Finding(None, f"{flood.pos} sends more than a shop sells: {rate}" if flood is not None else None)


# -- the registers -----------------------------------------------------------------------------------------------


def problem(word: str) -> Callable[[RegisterFacts], Iterator[Finding]]:
    """Return the condition that a register stands still for this reason."""

    def stands_still_for_it(register: RegisterFacts) -> Iterator[Finding]:
        view = register.view
        if view.problem != NOT_YET_REACHED:
            yield Finding(view.kkt, _stands_still(register) if view.problem == word else None)

    return stands_still_for_it


def not_ready(register: RegisterFacts) -> Iterator[Finding]:
    view = register.view
    if view.problem != NOT_YET_REACHED:
        holds = view.problem is not None and view.problem not in _TOLD_BY_OTHERS
        yield Finding(view.kkt, _stands_still(register) if holds else None)


def _stands_still(register: RegisterFacts) -> str:
    view = register.view
    return f"{view.kkt} prints nothing: {view.problem}{f': {view.detail}' if view.detail else ''}"


def unsettled_doubts(register: RegisterFacts) -> Iterator[Finding]:
    view = register.view
    if view.doubts is None:
        return
    count = sum(not doubt.parked for doubt in view.doubts)
    receipts = "1 receipt was" if count == 1 else f"{count} receipts were"
    message = f"{view.kkt} prints nothing: it cannot tell whether {receipts} printed"
    yield Finding(view.kkt, message if count else None)


def unreadable_document(register: RegisterFacts) -> Iterator[Finding]:
    view = register.view
    if view.problem == "unsettled_doubt":
        in_doubt = any(not doubt.parked for doubt in view.doubts or ())
        yield Finding(view.kkt, None if in_doubt else _stands_still(register))
    elif view.problem is None:
        yield Finding(view.kkt, None)


def receipts_parked(register: RegisterFacts) -> Iterator[Finding]:
    view = register.view
    if view.doubts is None:
        return
    parked = [doubt for doubt in view.doubts if doubt.parked]
    receipts = "1 receipt is" if len(parked) == 1 else f"{len(parked)} receipts are"
    message = f"{receipts} set aside on {view.kkt}, and the others go on: " + (parked[0].reason if parked else "")
    yield Finding(view.kkt, message if parked else None)


def journal_behind(register: RegisterFacts) -> Iterator[Finding]:
    view, count = register.view, register.view.journal_behind
    if view.status is None and not count:
        return
    receipts = "1 receipt" if count == 1 else f"{count} receipts"
    which = f": {view.journal_behind_detail}" if view.journal_behind_detail else ""
    behind = f"the journal was behind the fiscal storage of {view.kkt} by {receipts}, now read from there{which}"
    told = [*([behind] if count else []), *([view.storage_taken_out] if view.storage_taken_out else [])]
    yield Finding(view.kkt, "; ".join(told) or None)


def history_unread(register: RegisterFacts) -> Iterator[Finding]:
    view = register.view
    if view.status is None and view.unread is None:
        return
    message = f"{view.kkt}: {view.unread}: receipts printed before are not known"
    yield Finding(view.kkt, message if view.unread is not None else None)


def fn_expires(register: RegisterFacts) -> Iterator[Finding]:
    left, status = register.fn_days_left, register.view.status
    if left is None or status is None:
        return
    steps = [step for step, days in enumerate(FN_EXPIRY_DAYS, start=1) if left <= days]
    if not steps:
        yield Finding(register.view.kkt, None)
        return
    when = f"expires in {_days(left)}" if left > 0 else "has expired"
    message = f"the fiscal storage {status.fn_number} of {register.view.kkt} {when} ({status.fn_expires})"
    yield Finding(register.view.kkt, message, steps[-1], "warning" if steps[-1] == 1 else "critical")


# -- the bridge itself -------------------------------------------------------------------------------------------


def clock(verdict: ClockVerdict) -> Iterator[Finding]:
    yield Finding(None, None if verdict.alert is None else verdict.alert.removesuffix(f": {ADVICE}"))


def component_failed(broken_parts: BrokenParts) -> Iterator[Finding]:
    broken = [f"{part} ({reason})" for part, reason in sorted(broken_parts.reasons.items())]
    yield Finding(None, f"a part of the bridge cannot be looked at: {', '.join(broken)}" if broken else None)


def _counted(count: int, one: str, many: str, does: str, do: str, kkt: str) -> str:
    return f"1 {one} {kkt} {does}" if count == 1 else f"{count} {many} {kkt} {do}"


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"
