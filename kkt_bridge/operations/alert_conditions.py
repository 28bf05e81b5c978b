"""The conditions that want a person, as a table: what is looked at, what is said, what is to be done.

A condition is a pure function of a `Observation`. It yields a finding for each subject that it knows of: with a message
where it holds, with None where it does not. A subject that it does not mention is not known of, and the alert of that
subject stays as it is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from kkt_bridge.operations.clock_watch import ADVICE, ClockVerdict
from kkt_bridge.operations.facts import (
    Broken,
    BrokerFacts,
    BufferFacts,
    FloodFacts,
    JournalFacts,
    Observation,
    RegisterFacts,
)
from kkt_bridge.stages.delivery.status import DeliveryStatus
from kkt_bridge.stages.printing.status import NOT_YET_REACHED

Severity = Literal["warning", "critical"]

BUFFER_LEVELS: Final = (80, 90, 100)
"""Per cent of the buffer at which an alert is raised, and raised again."""

UNSENT_DAYS: Final = (1, 5, 20, 27)
"""Days without the OFD at which an alert is raised, and raised again: after 30 the fiscal storage blocks itself."""

UNSENT_DAYS_MAX: Final = 30
"""Days that the law, and with it the fiscal storage, gives a document to reach the OFD."""

FN_EXPIRY_DAYS: Final = (30, 7, 0)
"""Days before the key of the fiscal storage expires at which an alert is raised, and raised again."""

SETTLED_S: Final = 10.0
"""How long a register must have been well before its trouble is over: a loose plug comes and goes."""

UNREADY_S: Final = 60.0
"""How long a register may be busy with itself before it wants a person."""

FLOOD_OVER_S: Final = 60.0
"""How long a terminal must have been quiet before its flood is over."""

RIVAL_OVER_S: Final = 120.0
"""Two bridges of one name take the session from each other every half minute: that is one story."""

UNROUTABLE_OVER_S: Final = 600.0
"""How long no message must have come on a foreign topic before that is over."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a condition holds for a register, or for the bridge."""

    kkt: str | None
    """None where it is about the bridge."""
    message: str | None
    """What is the matter; None when it does not hold."""
    level: int = 0
    """Grows as it gets worse: a higher level is told again."""
    severity: Severity | None = None
    """Where it differs from the condition's own."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One row of the table."""

    code: str
    severity: Severity
    look: Callable[[Observation], Iterator[Finding]]
    what_to_do: str
    over: str
    """What is said when it no longer holds."""
    after_s: float = 0.0
    """How long it must have held before it is told: for what heals by itself."""
    quiet_s: float = 0.0
    """How long it must not have held before it is over: for what comes and goes."""
    of_configured: bool = True
    """Whether it is about registers that are configured: one that is no longer so has none of these alerts."""


# -- the journal and what lies in it -----------------------------------------------------------------------------


def _storage(observation: Observation) -> Iterator[Finding]:
    for journal in observation.of(JournalFacts):
        message = f"the journal takes nothing, new receipts are refused: {journal.failing}"
        yield Finding(None, message if journal.failing is not None else None)


def _dead_letters(observation: Observation) -> Iterator[Finding]:
    for journal in observation.of(JournalFacts):
        for kkt, count in sorted(journal.dead_letters.items()):
            documents = _counted(count, "fiscal document of", "fiscal documents of", "waits", "wait", kkt)
            yield Finding(kkt, f"{documents} for a decision: the OFD did not take it" if count else None)


def _orphaned_queue(observation: Observation) -> Iterator[Finding]:
    for journal in observation.of(JournalFacts):
        for kkt, count in sorted(journal.orphaned.items()):
            receipts = _counted(count, "receipt for", "receipts for", "waits", "wait", kkt)
            yield Finding(kkt, f"{receipts}, and no such register is configured" if count else None)


def _buffer_fill(observation: Observation) -> Iterator[Finding]:
    for buffer in observation.of(BufferFacts):
        if not buffer.level:
            yield Finding(None, None)
            continue
        filled = f"{buffer.pending} of {buffer.capacity} receipts are not at the OFD yet"
        if buffer.pending >= buffer.capacity:
            yield Finding(None, f"the buffer is full, new receipts are refused: {filled}", buffer.level, "critical")
            continue
        percent = 100 * buffer.pending // buffer.capacity
        until = f"; at the rate of the last minutes it is full about {buffer.full_at[:16]}" if buffer.full_at else ""
        severity: Severity = "warning" if buffer.level < BUFFER_LEVELS[1] else "critical"
        yield Finding(None, f"the buffer is {percent} % full: {filled}{until}", buffer.level, severity)


# -- the way to the OFD ------------------------------------------------------------------------------------------


def _ofd_refuses_bridge(observation: Observation) -> Iterator[Finding]:
    for delivery in observation.of(DeliveryStatus):
        message = f"the OFD refuses this bridge, whatever it sends: {delivery.bridge_refused}"
        yield Finding(None, message if delivery.bridge_refused is not None else None)


def _ofd_refuses_all(observation: Observation) -> Iterator[Finding]:
    for delivery in observation.of(DeliveryStatus):
        message = f"the OFD refuses one document after the other and takes none: {delivery.refuses_all}"
        yield Finding(None, message if delivery.refuses_all is not None else None)


def _ofd_takes_nothing(observation: Observation) -> Iterator[Finding]:
    for delivery in observation.of(DeliveryStatus):
        message = "documents are waiting and were tried, and the OFD has taken none for some time"
        yield Finding(None, message if delivery.takes_nothing_since is not None else None)


def _unsendable_documents(observation: Observation) -> Iterator[Finding]:
    for delivery in observation.of(DeliveryStatus):
        for kkt, count in sorted(delivery.unsendable.items()):
            documents = f"1 document of {kkt}" if count == 1 else f"{count} documents of {kkt}"
            yield Finding(kkt, f"{documents} cannot be put together as the OFD gets them" if count else None)


def _unsent_documents(observation: Observation) -> Iterator[Finding]:
    for register in observation.of(RegisterFacts):
        kkt = register.view.kkt
        level = max((days for days in UNSENT_DAYS if register.unsent and register.unsent_days >= days), default=0)
        if not level:
            yield Finding(kkt, None)
            continue
        documents = "1 document" if register.unsent == 1 else f"{register.unsent} documents"
        left = UNSENT_DAYS_MAX - int(register.unsent_days)
        then = f"in {_days(left)} the fiscal storage blocks itself" if left > 0 else "the fiscal storage blocks itself"
        message = f"{documents} of {kkt} did not reach the OFD for {_days(int(register.unsent_days))}: {then}"
        yield Finding(kkt, message, level, "critical" if level >= UNSENT_DAYS[2] else "warning")


# -- the broker and the terminals --------------------------------------------------------------------------------


def _replies_refused(observation: Observation) -> Iterator[Finding]:
    for broker in observation.of(BrokerFacts):
        count, example = broker.session.refused_topics.count, broker.session.refused_topics.example
        topics = "1 topic" if count == 1 else f"{count} topics"
        message = f"the broker does not take what the bridge publishes on {topics}{f': {example}' if example else ''}"
        yield Finding(None, message if count else None)


def _subscription_refused(observation: Observation) -> Iterator[Finding]:
    for broker in observation.of(BrokerFacts):
        filters = ", ".join(broker.session.refused_subscriptions)
        yield Finding(None, f"the broker does not let this bridge read {filters}" if filters else None)


def _messages_parked(observation: Observation) -> Iterator[Finding]:
    for broker in observation.of(BrokerFacts):
        count, example = broker.session.parked.count, broker.session.parked.example
        messages = "1 message is" if count == 1 else f"{count} messages are"
        message = f"{messages} set aside: the broker ends the connection over them{f' ({example})' if example else ''}"
        yield Finding(None, message if count else None)


def _unroutable(observation: Observation) -> Iterator[Finding]:
    for broker in observation.of(BrokerFacts):
        example = broker.session.unroutable.example
        as_on = f", as on {example}" if example else ""
        message = f"the broker delivers messages on topics that are none of this bridge's{as_on}"
        yield Finding(None, message if broker.unroutable_now else None)


def _rival(observation: Observation) -> Iterator[Finding]:
    for broker in observation.of(BrokerFacts):
        yield Finding(None, broker.session.rival)


def _flood(observation: Observation) -> Iterator[Finding]:
    for facts in observation.of(FloodFacts):
        flood = facts.flood
        # Rounded, as every other figure would be a change of the state each second.
        rate = None if flood is None else f"about {round(flood.rate_per_s, -2):.0f} messages/s"
        yield Finding(None, f"{flood.pos} sends more than a shop sells: {rate}" if flood is not None else None)


# -- the registers -----------------------------------------------------------------------------------------------


def _problem(*words: str) -> Callable[[Observation], Iterator[Finding]]:
    """A look at registers that stand still for one of these reasons."""

    def look(observation: Observation) -> Iterator[Finding]:
        for register in observation.of(RegisterFacts):
            view = register.view
            if view.problem != NOT_YET_REACHED:
                yield Finding(view.kkt, _stands_still(register) if view.problem in words else None)

    return look


def _not_ready(observation: Observation) -> Iterator[Finding]:
    for register in observation.of(RegisterFacts):
        view = register.view
        if view.problem != NOT_YET_REACHED:
            holds = view.problem is not None and view.problem not in _TOLD_BY_OTHERS
            yield Finding(view.kkt, _stands_still(register) if holds else None)


def _stands_still(register: RegisterFacts) -> str:
    view = register.view
    return f"{view.kkt} prints nothing: {view.problem}{f': {view.detail}' if view.detail else ''}"


def _unsettled_doubts(observation: Observation) -> Iterator[Finding]:
    for register in observation.of(RegisterFacts):
        view = register.view
        if view.doubts is None:
            continue
        count = sum(not doubt.parked for doubt in view.doubts)
        receipts = "1 receipt was" if count == 1 else f"{count} receipts were"
        message = f"{view.kkt} prints nothing: it cannot tell whether {receipts} printed"
        yield Finding(view.kkt, message if count else None)


def _unreadable_document(observation: Observation) -> Iterator[Finding]:
    for register in observation.of(RegisterFacts):
        view = register.view
        if view.problem == "unsettled_doubt":
            in_doubt = any(not doubt.parked for doubt in view.doubts or ())
            yield Finding(view.kkt, None if in_doubt else _stands_still(register))
        elif view.problem is None:
            yield Finding(view.kkt, None)


def _receipts_parked(observation: Observation) -> Iterator[Finding]:
    for register in observation.of(RegisterFacts):
        view = register.view
        if view.doubts is None:
            continue
        parked = [doubt for doubt in view.doubts if doubt.parked]
        receipts = "1 receipt is" if len(parked) == 1 else f"{len(parked)} receipts are"
        message = f"{receipts} set aside on {view.kkt}, and the others go on: " + (parked[0].reason if parked else "")
        yield Finding(view.kkt, message if parked else None)


def _journal_behind(observation: Observation) -> Iterator[Finding]:
    for register in observation.of(RegisterFacts):
        view, count = register.view, register.view.journal_behind
        if view.status is None and not count:
            continue
        receipts = "1 receipt" if count == 1 else f"{count} receipts"
        which = f": {view.journal_behind_detail}" if view.journal_behind_detail else ""
        behind = f"the journal was behind the fiscal storage of {view.kkt} by {receipts}, now read from there{which}"
        told = [*([behind] if count else []), *([view.storage_taken_out] if view.storage_taken_out else [])]
        yield Finding(view.kkt, "; ".join(told) or None)


def _history_unread(observation: Observation) -> Iterator[Finding]:
    for register in observation.of(RegisterFacts):
        view = register.view
        if view.status is None and view.unread is None:
            continue
        message = f"{view.kkt}: {view.unread}: receipts printed before are not known"
        yield Finding(view.kkt, message if view.unread is not None else None)


def _fn_expires(observation: Observation) -> Iterator[Finding]:
    for register in observation.of(RegisterFacts):
        left, status = register.fn_days_left, register.view.status
        if left is None or status is None:
            continue
        steps = [step for step, days in enumerate(FN_EXPIRY_DAYS, start=1) if left <= days]
        if not steps:
            yield Finding(register.view.kkt, None)
            continue
        when = f"expires in {_days(left)}" if left > 0 else "has expired"
        message = f"the fiscal storage {status.fn_number} of {register.view.kkt} {when} ({status.fn_expires})"
        yield Finding(register.view.kkt, message, steps[-1], "warning" if steps[-1] == 1 else "critical")


# -- the bridge itself -------------------------------------------------------------------------------------------


def _clock(observation: Observation) -> Iterator[Finding]:
    for verdict in observation.of(ClockVerdict):
        yield Finding(None, None if verdict.alert is None else verdict.alert.removesuffix(f": {ADVICE}"))


def _component_failed(observation: Observation) -> Iterator[Finding]:
    broken = sorted(f"{each.component} ({each.reason})" for each in observation.of(Broken))
    yield Finding(None, f"a part of the bridge cannot be looked at: {', '.join(broken)}" if broken else None)


def _counted(count: int, one: str, many: str, does: str, do: str, kkt: str) -> str:
    return f"1 {one} {kkt} {does}" if count == 1 else f"{count} {many} {kkt} {do}"


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


_PROBLEMS: Final = MappingProxyType(
    {
        "register_offline": ("offline",),
        "paper_out": ("paper_out",),
        "fn_exhausted": ("fn_exhausted",),
        "fn_lost_documents": ("fn_lost_documents",),
        "internal_error": ("internal_error",),
    }
)
"""What a register stands still for, by the alert that tells of it."""

_TOLD_BY_OTHERS: Final = frozenset(
    {NOT_YET_REACHED, "unsettled_doubt", "journal", *(word for words in _PROBLEMS.values() for word in words)}
)

CONDITIONS: Final = (
    Condition(
        "storage",
        "critical",
        _storage,
        "look at the disk under the journal (space, rights, the system's log); where the file is damaged, restart the "
        "bridge and follow what it says",
        "the journal takes receipts again",
    ),
    Condition(
        "buffer_fill",
        "warning",
        _buffer_fill,
        "see in `kkt-bridge status` why the OFD takes nothing; a larger buffer.capacity gives time and costs only disk",
        "the buffer has emptied",
    ),
    Condition(
        "dead_letters",
        "warning",
        _dead_letters,
        "look with `kkt-bridge dlq list`, mend the cause with the OFD, then `kkt-bridge dlq requeue`; or "
        "`kkt-bridge dlq discard` with a reason",
        "no dead letter is left without a decision",
        of_configured=False,
    ),
    Condition(
        "orphaned_queue",
        "critical",
        _orphaned_queue,
        "put the register back into the configuration and restart the bridge: only then are these receipts printed",
        "nothing waits for it any more",
        of_configured=False,
    ),
    Condition(
        "ofd_refuses_bridge",
        "critical",
        _ofd_refuses_bridge,
        "check ofd.url, its path and credentials (ofd.token_file, a proxy) with the OFD; nothing is lost, all is sent "
        "again by itself",
        "the OFD accepts documents of this bridge again",
    ),
    Condition(
        "ofd_refuses_all",
        "critical",
        _ofd_refuses_all,
        "ask the OFD why (the contract, the registration of the register, a change of its format); then "
        "`kkt-bridge dlq requeue --all`",
        "the OFD no longer refuses one document after the other",
    ),
    Condition(
        "ofd_takes_nothing",
        "warning",
        _ofd_takes_nothing,
        "check the shop's network and the OFD's state page; `kkt-bridge doctor` tries the way; sales go on meanwhile",
        "the OFD takes documents again",
    ),
    Condition(
        "unsendable_documents",
        "critical",
        _unsendable_documents,
        "see in the bridge's log why, and report it; they are kept, and tried again with each start: a later release "
        "may succeed",
        "every document can be sent",
        of_configured=False,
    ),
    Condition(
        "unsent_documents",
        "warning",
        _unsent_documents,
        "see in `kkt-bridge status` why the OFD takes nothing, and mend that before the fiscal storage blocks itself",
        "its documents have reached the OFD",
    ),
    Condition(
        "replies_refused",
        "critical",
        _replies_refused,
        "check the broker's access list for what the bridge may publish, and its limit of message size; the messages "
        "are kept and tried again",
        "the broker takes everything again",
    ),
    Condition(
        "subscription_refused",
        "critical",
        _subscription_refused,
        "check the broker's access list for what the bridge may read",
        "the broker grants every subscription",
    ),
    Condition(
        "messages_parked",
        "warning",
        _messages_parked,
        "check the broker's limit of message size and its log for why it ends the connection; they are tried again",
        "everything that was set aside has gone out",
    ),
    Condition(
        "unroutable",
        "warning",
        _unroutable,
        "check the names of bridge and terminals (some brokers turn dots into slashes), and who publishes there",
        "no more such messages have come",
        quiet_s=UNROUTABLE_OVER_S,
    ),
    Condition(
        "rival",
        "critical",
        _rival,
        "find the other bridge or client that uses this bridge's name, and stop it or give it a name of its own",
        "no other client has taken the MQTT session since",
        quiet_s=RIVAL_OVER_S,
    ),
    Condition(
        "flood",
        "warning",
        _flood,
        "look at what it sends (`kkt-bridge watch --topics 'pos/*'`) and stop its program; others are served in turn",
        "no terminal sends more than a shop sells",
        quiet_s=FLOOD_OVER_S,
    ),
    Condition(
        "unsettled_doubt",
        "critical",
        _unsettled_doubts,
        "look with `kkt-bridge settle list`, compare with the paper, and settle it by hand",
        "every doubt is settled, it prints again",
    ),
    Condition(
        "unreadable_document",
        "critical",
        _unreadable_document,
        "look at the paper of that document: adopt it for the receipt that waits for it, or pass it, with the command "
        "that the message says; until then nothing is printed there, as a POS may send that receipt again",
        "no document that cannot be read is in the way",
    ),
    Condition(
        "receipts_parked",
        "critical",
        _receipts_parked,
        "look with `kkt-bridge settle list` and at the bridge's log; have them printed again with `kkt-bridge settle "
        "print-again`, and report what went wrong",
        "no receipt is set aside there any more",
    ),
    Condition(
        "journal_behind",
        "warning",
        _journal_behind,
        "find out why the journal was old or new (a restored backup, a lost disk); nothing is printed twice, and "
        "`kkt-bridge verify` compares the books; it ends by itself, 24 hours of running after the last document "
        "was found or with the next start",
        "no document was found beyond what the journal knows for a day, or since the start",
    ),
    Condition(
        "history_unread",
        "warning",
        _history_unread,
        "nothing, where this register never printed for this bridge; else a receipt from before that a POS sends again "
        "would be printed again: put a backup back (`kkt-bridge restore`), or make the journal anew with `kkt-bridge "
        "verify --rebuild`; it ends by itself, 24 hours of running after that or with the next start",
        "it was told for a day, or until the start",
    ),
    Condition(
        "register_offline",
        "critical",
        _problem(*_PROBLEMS["register_offline"]),
        "check the register's power and cable, and the port in the configuration",
        "it answers again",
        quiet_s=SETTLED_S,
    ),
    Condition(
        "paper_out",
        "warning",
        _problem(*_PROBLEMS["paper_out"]),
        "put in a new roll; receipts wait and are printed then",
        "it has paper again",
        quiet_s=SETTLED_S,
    ),
    Condition(
        "fn_exhausted",
        "critical",
        _problem(*_PROBLEMS["fn_exhausted"]),
        "have the fiscal storage replaced; receipts for this register are refused until then",
        "the fiscal storage takes documents again",
    ),
    Condition(
        "fn_lost_documents",
        "critical",
        _problem(*_PROBLEMS["fn_lost_documents"]),
        "call the register's service: its storage holds less than it has confirmed; nothing is printed on it meanwhile",
        "the fiscal storage holds what it has confirmed",
    ),
    Condition(
        "internal_error",
        "critical",
        _problem(*_PROBLEMS["internal_error"]),
        "report it with the bridge's log; a restart of the bridge tries again",
        "it works again",
        quiet_s=SETTLED_S,
    ),
    Condition(
        "register_not_ready",
        "warning",
        _not_ready,
        "see what the register shows, and what `kkt-bridge status` says of it",
        "it prints again",
        after_s=UNREADY_S,
        quiet_s=SETTLED_S,
    ),
    Condition(
        "fn_expires",
        "warning",
        _fn_expires,
        "order a new fiscal storage now and have it put in before that day",
        "the fiscal storage was replaced",
    ),
    Condition("clock", "warning", _clock, ADVICE, "nothing speaks against the system clock any more"),
    Condition(
        "component_failed",
        "critical",
        _component_failed,
        "report it with the bridge's log; look at the disk under the journal",
        "every part can be looked at again",
    ),
)
"""Everything that is worth a person's attention."""
