"""The alerts: code, severity, condition, and what a person is to do.

A condition is a pure function of what a component reports. It yields a finding for each subject that it knows of: with
a message where it holds, with None where it does not. The alert of a subject that it does not mention stays as it is.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

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

F = TypeVar("F")


Severity = Literal["warning", "critical"]

SETTLED_S: Final = 10.0
"""Seconds for which a register must have been well before its trouble is over: a loose plug comes and goes."""

UNREADY_S: Final = 60.0
"""Seconds for which a register may be busy with itself before it needs a person."""

FLOOD_OVER_S: Final = 60.0
"""Seconds for which a terminal must have been quiet before its flood is over."""

RIVAL_OVER_S: Final = 120.0
"""Two bridges of one name take the session from each other every half minute: that is one story."""

UNROUTABLE_OVER_S: Final = 600.0
"""Seconds without a message on a foreign topic before that is over."""

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


@dataclass(frozen=True, slots=True)
class Condition(Generic[F]):
    """One row of the table."""

    code: str
    about: type[F]
    """The facts that it is judged by."""
    severity: Severity
    find: Callable[[F], Iterator[Finding]]
    what_to_do: str
    over: str
    """Said when it no longer holds."""
    after_s: float = 0.0
    """Seconds that it must have held before it is raised: for what heals by itself."""
    quiet_s: float = 0.0
    """Seconds that it must not have held before it is cleared: for what comes and goes."""
    of_configured: bool = True
    """True if it is about configured registers: one that is no longer configured has none of these alerts."""

    def findings(self, facts: Iterable[object]) -> list[Finding]:
        """Return the findings of the condition in these facts."""
        return [finding for fact in facts if isinstance(fact, self.about) for finding in self.find(fact)]


_rows: Final[list[Condition[Any]]] = []


def _alert(
    code: str,
    about: type[F],
    severity: Severity,
    what_to_do: str,
    over: str,
    *,
    after_s: float = 0.0,
    quiet_s: float = 0.0,
    of_configured: bool = True,
) -> Callable[[Callable[[F], Iterator[Finding]]], Condition[F]]:
    """Enter the condition below it into the table; see `Condition`."""

    def enter(find: Callable[[F], Iterator[Finding]]) -> Condition[F]:
        _rows.append(Condition(code, about, severity, find, what_to_do, over, after_s, quiet_s, of_configured))
        return _rows[-1]

    return enter


def _stands_still_for(word: str) -> Callable[[RegisterFacts], Iterator[Finding]]:
    """Return the condition that a register stands still for this reason."""

    def stands_still_for_it(register: RegisterFacts) -> Iterator[Finding]:
        view = register.view
        if view.problem != NOT_YET_REACHED:
            yield Finding(view.kkt, _stands_still(register) if view.problem == word else None)

    return stands_still_for_it


def _stands_still(register: RegisterFacts) -> str:
    view = register.view
    return f"{view.kkt} prints nothing: {view.problem}{f': {view.detail}' if view.detail else ''}"


def _counted(count: int, one: str, many: str, does: str, do: str, kkt: str) -> str:
    return f"1 {one} {kkt} {does}" if count == 1 else f"{count} {many} {kkt} {do}"


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


# -- the journal and what lies in it -----------------------------------------------------------------------------


@_alert(
    "storage",
    JournalFacts,
    "critical",
    "look at the disk under the journal (space, rights, the system's log); where the file is damaged, restart the "
    "bridge and follow what it says",
    "the journal takes receipts again",
)
def storage(journal: JournalFacts) -> Iterator[Finding]:
    message = f"the journal takes nothing, new receipts are refused: {journal.failing}"
    yield Finding(None, message if journal.failing is not None else None)


@_alert(
    "buffer_fill",
    BufferFacts,
    "warning",
    "see in `kkt-bridge status` why the OFD takes nothing; a larger buffer.capacity gives time and costs only disk",
    "the buffer has emptied",
)
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


@_alert(
    "dead_letters",
    JournalFacts,
    "warning",
    "look with `kkt-bridge dlq list`, mend the cause with the OFD, then `kkt-bridge dlq requeue`; or "
    "`kkt-bridge dlq discard` with a reason",
    "no dead letter is left without a decision",
    of_configured=False,
)
def dead_letters(journal: JournalFacts) -> Iterator[Finding]:
    for kkt, count in sorted(journal.dead_letters.items()):
        documents = _counted(count, "fiscal document of", "fiscal documents of", "waits", "wait", kkt)
        yield Finding(kkt, f"{documents} for a decision: the OFD did not take it" if count else None)


@_alert(
    "orphaned_queue",
    JournalFacts,
    "critical",
    "put the register back into the configuration and restart the bridge: only then are these receipts printed",
    "nothing waits for it any more",
    of_configured=False,
)
def orphaned_queue(journal: JournalFacts) -> Iterator[Finding]:
    for kkt, count in sorted(journal.orphaned.items()):
        receipts = _counted(count, "receipt for", "receipts for", "waits", "wait", kkt)
        yield Finding(kkt, f"{receipts}, and no such register is configured" if count else None)


# -- the way to the OFD ------------------------------------------------------------------------------------------


@_alert(
    "ofd_refuses_bridge",
    DeliveryStatus,
    "critical",
    "check ofd.url, its path and credentials (ofd.token_file, a proxy) with the OFD; nothing is lost, all is sent "
    "again by itself",
    "the OFD accepts documents of this bridge again",
)
def ofd_refuses_bridge(delivery: DeliveryStatus) -> Iterator[Finding]:
    message = f"the OFD refuses this bridge, whatever it sends: {delivery.bridge_refused}"
    yield Finding(None, message if delivery.bridge_refused is not None else None)


@_alert(
    "ofd_refuses_all",
    DeliveryStatus,
    "critical",
    "ask the OFD why (the contract, the registration of the register, a change of its format); then "
    "`kkt-bridge dlq requeue --all`",
    "the OFD no longer refuses one document after the other",
)
def ofd_refuses_all(delivery: DeliveryStatus) -> Iterator[Finding]:
    message = f"the OFD refuses one document after the other and takes none: {delivery.refuses_all}"
    yield Finding(None, message if delivery.refuses_all is not None else None)


@_alert(
    "ofd_takes_nothing",
    DeliveryStatus,
    "warning",
    "check the shop's network and the OFD's state page; `kkt-bridge doctor` tries the way; sales go on meanwhile",
    "the OFD takes documents again",
)
def ofd_takes_nothing(delivery: DeliveryStatus) -> Iterator[Finding]:
    message = "documents are waiting and were tried, and the OFD has taken none for some time"
    yield Finding(None, message if delivery.takes_nothing_since is not None else None)


@_alert(
    "unsendable_documents",
    DeliveryStatus,
    "critical",
    "see in the bridge's log why, and report it; they are kept, and tried again with each start: a later release "
    "may succeed",
    "every document can be sent",
    of_configured=False,
)
def unsendable_documents(delivery: DeliveryStatus) -> Iterator[Finding]:
    for kkt, count in sorted(delivery.unsendable.items()):
        documents = f"1 document of {kkt}" if count == 1 else f"{count} documents of {kkt}"
        yield Finding(kkt, f"{documents} cannot be put together as the OFD gets them" if count else None)


@_alert(
    "unsent_documents",
    RegisterFacts,
    "warning",
    "see in `kkt-bridge status` why the OFD takes nothing, and mend that before the fiscal storage blocks itself",
    "its documents have reached the OFD",
)
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


@_alert(
    "replies_refused",
    BrokerFacts,
    "critical",
    "check the broker's access list for what the bridge may publish, and its limit of message size; the messages "
    "are kept and tried again",
    "the broker takes everything again",
)
def replies_refused(broker: BrokerFacts) -> Iterator[Finding]:
    count, example = broker.session.refused_topics.count, broker.session.refused_topics.example
    topics = "1 topic" if count == 1 else f"{count} topics"
    message = f"the broker does not take what the bridge publishes on {topics}{f': {example}' if example else ''}"
    yield Finding(None, message if count else None)


@_alert(
    "subscription_refused",
    BrokerFacts,
    "critical",
    "check the broker's access list for what the bridge may read",
    "the broker grants every subscription",
)
def subscription_refused(broker: BrokerFacts) -> Iterator[Finding]:
    filters = ", ".join(broker.session.refused_subscriptions)
    yield Finding(None, f"the broker does not let this bridge read {filters}" if filters else None)


@_alert(
    "messages_parked",
    BrokerFacts,
    "warning",
    "check the broker's limit of message size and its log for why it ends the connection; they are tried again",
    "everything that was set aside has gone out",
)
def messages_parked(broker: BrokerFacts) -> Iterator[Finding]:
    count, example = broker.session.parked.count, broker.session.parked.example
    messages = "1 message is" if count == 1 else f"{count} messages are"
    message = f"{messages} set aside: the broker ends the connection over them{f' ({example})' if example else ''}"
    yield Finding(None, message if count else None)


@_alert(
    "unroutable",
    BrokerFacts,
    "warning",
    "check the names of bridge and terminals (some brokers turn dots into slashes), and who publishes there",
    "no more such messages have come",
    quiet_s=UNROUTABLE_OVER_S,
)
def unroutable(broker: BrokerFacts) -> Iterator[Finding]:
    example = broker.session.unroutable.example
    as_on = f", as on {example}" if example else ""
    message = f"the broker delivers messages on topics that are none of this bridge's{as_on}"
    yield Finding(None, message if broker.unroutable_now else None)


@_alert(
    "rival",
    BrokerFacts,
    "critical",
    "find the other bridge or client that uses this bridge's name, and stop it or give it a name of its own",
    "no other client has taken the MQTT session since",
    quiet_s=RIVAL_OVER_S,
)
def rival(broker: BrokerFacts) -> Iterator[Finding]:
    yield Finding(None, broker.session.rival)


@_alert(
    "flood",
    FloodFacts,
    "warning",
    "look at what it sends (`kkt-bridge watch --topics 'pos/*'`) and stop its program; others are served in turn",
    "no terminal sends more than a shop sells",
    quiet_s=FLOOD_OVER_S,
)
def flood(facts: FloodFacts) -> Iterator[Finding]:
    flood = facts.flood
    # Rounded, as every other figure would be a change of the state each second.
    rate = None if flood is None else f"about {round(flood.rate_per_s, -2):.0f} messages/s"
    yield Finding(None, f"{flood.pos} sends more than a shop sells: {rate}" if flood is not None else None)


# -- the registers -----------------------------------------------------------------------------------------------


@_alert(
    "unsettled_doubt",
    RegisterFacts,
    "critical",
    "look with `kkt-bridge settle list`, compare with the paper, and settle it by hand",
    "every doubt is settled, it prints again",
)
def unsettled_doubts(register: RegisterFacts) -> Iterator[Finding]:
    view = register.view
    if view.doubts is None:
        return
    count = sum(not doubt.parked for doubt in view.doubts)
    receipts = "1 receipt was" if count == 1 else f"{count} receipts were"
    message = f"{view.kkt} prints nothing: it cannot tell whether {receipts} printed"
    yield Finding(view.kkt, message if count else None)


@_alert(
    "unreadable_document",
    RegisterFacts,
    "critical",
    "look at the paper of that document: adopt it for the receipt that waits for it, or pass it, with the command "
    "that the message says; until then nothing is printed there, as a POS may send that receipt again",
    "no document that cannot be read is in the way",
)
def unreadable_document(register: RegisterFacts) -> Iterator[Finding]:
    view = register.view
    if view.problem == "unsettled_doubt":
        in_doubt = any(not doubt.parked for doubt in view.doubts or ())
        yield Finding(view.kkt, None if in_doubt else _stands_still(register))
    elif view.problem is None:
        yield Finding(view.kkt, None)


@_alert(
    "receipts_parked",
    RegisterFacts,
    "critical",
    "look with `kkt-bridge settle list` and at the bridge's log; have them printed again with `kkt-bridge settle "
    "print-again`, and report what went wrong",
    "no receipt is set aside there any more",
)
def receipts_parked(register: RegisterFacts) -> Iterator[Finding]:
    view = register.view
    if view.doubts is None:
        return
    parked = [doubt for doubt in view.doubts if doubt.parked]
    receipts = "1 receipt is" if len(parked) == 1 else f"{len(parked)} receipts are"
    message = f"{receipts} set aside on {view.kkt}, and the others go on: " + (parked[0].reason if parked else "")
    yield Finding(view.kkt, message if parked else None)


@_alert(
    "journal_behind",
    RegisterFacts,
    "warning",
    "find out why the journal was old or new (a restored backup, a lost disk); nothing is printed twice, and "
    "`kkt-bridge verify` compares the books; it ends by itself, 24 hours of running after the last document "
    "was found or with the next start",
    "no document was found beyond what the journal knows for a day, or since the start",
)
def journal_behind(register: RegisterFacts) -> Iterator[Finding]:
    view, count = register.view, register.view.journal_behind
    if view.status is None and not count:
        return
    receipts = "1 receipt" if count == 1 else f"{count} receipts"
    which = f": {view.journal_behind_detail}" if view.journal_behind_detail else ""
    behind = f"the journal was behind the fiscal storage of {view.kkt} by {receipts}, now read from there{which}"
    told = [*([behind] if count else []), *([view.storage_taken_out] if view.storage_taken_out else [])]
    yield Finding(view.kkt, "; ".join(told) or None)


@_alert(
    "history_unread",
    RegisterFacts,
    "warning",
    "nothing, where this register never printed for this bridge; else a receipt from before that a POS sends again "
    "would be printed again: put a backup back (`kkt-bridge restore`), or make the journal anew with `kkt-bridge "
    "verify --rebuild`; it ends by itself, 24 hours of running after that or with the next start",
    "it was told for a day, or until the start",
)
def history_unread(register: RegisterFacts) -> Iterator[Finding]:
    view = register.view
    if view.status is None and view.unread is None:
        return
    message = f"{view.kkt}: {view.unread}: receipts printed before are not known"
    yield Finding(view.kkt, message if view.unread is not None else None)


_alert(
    "register_offline",
    RegisterFacts,
    "critical",
    "check the register's power and cable, and the port in the configuration",
    "it answers again",
    quiet_s=SETTLED_S,
)(_stands_still_for("offline"))

_alert(
    "paper_out",
    RegisterFacts,
    "warning",
    "put in a new roll; receipts wait and are printed then",
    "it has paper again",
    quiet_s=SETTLED_S,
)(_stands_still_for("paper_out"))

_alert(
    "fn_exhausted",
    RegisterFacts,
    "critical",
    "have the fiscal storage replaced; receipts for this register are refused until then",
    "the fiscal storage takes documents again",
)(_stands_still_for("fn_exhausted"))

_alert(
    "fn_lost_documents",
    RegisterFacts,
    "critical",
    "call the register's service: its storage holds less than it has confirmed; nothing is printed on it meanwhile",
    "the fiscal storage holds what it has confirmed",
)(_stands_still_for("fn_lost_documents"))

_alert(
    "internal_error",
    RegisterFacts,
    "critical",
    "report it with the bridge's log; a restart of the bridge tries again",
    "it works again",
    quiet_s=SETTLED_S,
)(_stands_still_for("internal_error"))


@_alert(
    "register_not_ready",
    RegisterFacts,
    "warning",
    "see what the register shows, and what `kkt-bridge status` says of it",
    "it prints again",
    after_s=UNREADY_S,
    quiet_s=SETTLED_S,
)
def not_ready(register: RegisterFacts) -> Iterator[Finding]:
    view = register.view
    if view.problem != NOT_YET_REACHED:
        holds = view.problem is not None and view.problem not in _TOLD_BY_OTHERS
        yield Finding(view.kkt, _stands_still(register) if holds else None)


@_alert(
    "fn_expires",
    RegisterFacts,
    "warning",
    "order a new fiscal storage now and have it put in before that day",
    "the fiscal storage was replaced",
)
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


@_alert("clock", ClockVerdict, "warning", ADVICE, "nothing speaks against the system clock any more")
def clock(verdict: ClockVerdict) -> Iterator[Finding]:
    yield Finding(None, None if verdict.alert is None else verdict.alert.removesuffix(f": {ADVICE}"))


@_alert(
    "component_failed",
    BrokenParts,
    "critical",
    "report it with the bridge's log; look at the disk under the journal",
    "every part can be looked at again",
)
def component_failed(broken_parts: BrokenParts) -> Iterator[Finding]:
    broken = [f"{part} ({reason})" for part, reason in sorted(broken_parts.reasons.items())]
    yield Finding(None, f"a part of the bridge cannot be looked at: {', '.join(broken)}" if broken else None)


CONDITIONS: Final = tuple(_rows)
"""Everything that is worth a person's attention."""
