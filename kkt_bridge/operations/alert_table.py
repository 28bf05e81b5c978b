"""The table of alerts: code, severity, condition, and what a person is to do."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from kkt_bridge.operations.alert_conditions import (
    Finding,
    Severity,
    buffer_fill,
    clock,
    component_failed,
    dead_letters,
    flood,
    fn_expires,
    history_unread,
    journal_behind,
    messages_parked,
    not_ready,
    ofd_refuses_all,
    ofd_refuses_bridge,
    ofd_takes_nothing,
    orphaned_queue,
    problem,
    receipts_parked,
    replies_refused,
    rival,
    storage,
    subscription_refused,
    unreadable_document,
    unroutable,
    unsendable_documents,
    unsent_documents,
    unsettled_doubts,
)
from kkt_bridge.operations.clock_watch import ADVICE, ClockVerdict
from kkt_bridge.operations.component_report import (
    BrokenParts,
    BrokerFacts,
    BufferFacts,
    FloodFacts,
    JournalFacts,
    RegisterFacts,
)
from kkt_bridge.stages.delivery.delivery import DeliveryStatus

F = TypeVar("F")

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


CONDITIONS: Final[tuple[Condition[Any], ...]] = (
    Condition(
        "storage",
        JournalFacts,
        "critical",
        storage,
        "look at the disk under the journal (space, rights, the system's log); where the file is damaged, restart the "
        "bridge and follow what it says",
        "the journal takes receipts again",
    ),
    Condition(
        "buffer_fill",
        BufferFacts,
        "warning",
        buffer_fill,
        "see in `kkt-bridge status` why the OFD takes nothing; a larger buffer.capacity gives time and costs only disk",
        "the buffer has emptied",
    ),
    Condition(
        "dead_letters",
        JournalFacts,
        "warning",
        dead_letters,
        "look with `kkt-bridge dlq list`, mend the cause with the OFD, then `kkt-bridge dlq requeue`; or "
        "`kkt-bridge dlq discard` with a reason",
        "no dead letter is left without a decision",
        of_configured=False,
    ),
    Condition(
        "orphaned_queue",
        JournalFacts,
        "critical",
        orphaned_queue,
        "put the register back into the configuration and restart the bridge: only then are these receipts printed",
        "nothing waits for it any more",
        of_configured=False,
    ),
    Condition(
        "ofd_refuses_bridge",
        DeliveryStatus,
        "critical",
        ofd_refuses_bridge,
        "check ofd.url, its path and credentials (ofd.token_file, a proxy) with the OFD; nothing is lost, all is sent "
        "again by itself",
        "the OFD accepts documents of this bridge again",
    ),
    Condition(
        "ofd_refuses_all",
        DeliveryStatus,
        "critical",
        ofd_refuses_all,
        "ask the OFD why (the contract, the registration of the register, a change of its format); then "
        "`kkt-bridge dlq requeue --all`",
        "the OFD no longer refuses one document after the other",
    ),
    Condition(
        "ofd_takes_nothing",
        DeliveryStatus,
        "warning",
        ofd_takes_nothing,
        "check the shop's network and the OFD's state page; `kkt-bridge doctor` tries the way; sales go on meanwhile",
        "the OFD takes documents again",
    ),
    Condition(
        "unsendable_documents",
        DeliveryStatus,
        "critical",
        unsendable_documents,
        "see in the bridge's log why, and report it; they are kept, and tried again with each start: a later release "
        "may succeed",
        "every document can be sent",
        of_configured=False,
    ),
    Condition(
        "unsent_documents",
        RegisterFacts,
        "warning",
        unsent_documents,
        "see in `kkt-bridge status` why the OFD takes nothing, and mend that before the fiscal storage blocks itself",
        "its documents have reached the OFD",
    ),
    Condition(
        "replies_refused",
        BrokerFacts,
        "critical",
        replies_refused,
        "check the broker's access list for what the bridge may publish, and its limit of message size; the messages "
        "are kept and tried again",
        "the broker takes everything again",
    ),
    Condition(
        "subscription_refused",
        BrokerFacts,
        "critical",
        subscription_refused,
        "check the broker's access list for what the bridge may read",
        "the broker grants every subscription",
    ),
    Condition(
        "messages_parked",
        BrokerFacts,
        "warning",
        messages_parked,
        "check the broker's limit of message size and its log for why it ends the connection; they are tried again",
        "everything that was set aside has gone out",
    ),
    Condition(
        "unroutable",
        BrokerFacts,
        "warning",
        unroutable,
        "check the names of bridge and terminals (some brokers turn dots into slashes), and who publishes there",
        "no more such messages have come",
        quiet_s=UNROUTABLE_OVER_S,
    ),
    Condition(
        "rival",
        BrokerFacts,
        "critical",
        rival,
        "find the other bridge or client that uses this bridge's name, and stop it or give it a name of its own",
        "no other client has taken the MQTT session since",
        quiet_s=RIVAL_OVER_S,
    ),
    Condition(
        "flood",
        FloodFacts,
        "warning",
        flood,
        "look at what it sends (`kkt-bridge watch --topics 'pos/*'`) and stop its program; others are served in turn",
        "no terminal sends more than a shop sells",
        quiet_s=FLOOD_OVER_S,
    ),
    Condition(
        "unsettled_doubt",
        RegisterFacts,
        "critical",
        unsettled_doubts,
        "look with `kkt-bridge settle list`, compare with the paper, and settle it by hand",
        "every doubt is settled, it prints again",
    ),
    Condition(
        "unreadable_document",
        RegisterFacts,
        "critical",
        unreadable_document,
        "look at the paper of that document: adopt it for the receipt that waits for it, or pass it, with the command "
        "that the message says; until then nothing is printed there, as a POS may send that receipt again",
        "no document that cannot be read is in the way",
    ),
    Condition(
        "receipts_parked",
        RegisterFacts,
        "critical",
        receipts_parked,
        "look with `kkt-bridge settle list` and at the bridge's log; have them printed again with `kkt-bridge settle "
        "print-again`, and report what went wrong",
        "no receipt is set aside there any more",
    ),
    Condition(
        "journal_behind",
        RegisterFacts,
        "warning",
        journal_behind,
        "find out why the journal was old or new (a restored backup, a lost disk); nothing is printed twice, and "
        "`kkt-bridge verify` compares the books; it ends by itself, 24 hours of running after the last document "
        "was found or with the next start",
        "no document was found beyond what the journal knows for a day, or since the start",
    ),
    Condition(
        "history_unread",
        RegisterFacts,
        "warning",
        history_unread,
        "nothing, where this register never printed for this bridge; else a receipt from before that a POS sends again "
        "would be printed again: put a backup back (`kkt-bridge restore`), or make the journal anew with `kkt-bridge "
        "verify --rebuild`; it ends by itself, 24 hours of running after that or with the next start",
        "it was told for a day, or until the start",
    ),
    Condition(
        "register_offline",
        RegisterFacts,
        "critical",
        problem("offline"),
        "check the register's power and cable, and the port in the configuration",
        "it answers again",
        quiet_s=SETTLED_S,
    ),
    Condition(
        "paper_out",
        RegisterFacts,
        "warning",
        problem("paper_out"),
        "put in a new roll; receipts wait and are printed then",
        "it has paper again",
        quiet_s=SETTLED_S,
    ),
    Condition(
        "fn_exhausted",
        RegisterFacts,
        "critical",
        problem("fn_exhausted"),
        "have the fiscal storage replaced; receipts for this register are refused until then",
        "the fiscal storage takes documents again",
    ),
    Condition(
        "fn_lost_documents",
        RegisterFacts,
        "critical",
        problem("fn_lost_documents"),
        "call the register's service: its storage holds less than it has confirmed; nothing is printed on it meanwhile",
        "the fiscal storage holds what it has confirmed",
    ),
    Condition(
        "internal_error",
        RegisterFacts,
        "critical",
        problem("internal_error"),
        "report it with the bridge's log; a restart of the bridge tries again",
        "it works again",
        quiet_s=SETTLED_S,
    ),
    Condition(
        "register_not_ready",
        RegisterFacts,
        "warning",
        not_ready,
        "see what the register shows, and what `kkt-bridge status` says of it",
        "it prints again",
        after_s=UNREADY_S,
        quiet_s=SETTLED_S,
    ),
    Condition(
        "fn_expires",
        RegisterFacts,
        "warning",
        fn_expires,
        "order a new fiscal storage now and have it put in before that day",
        "the fiscal storage was replaced",
    ),
    Condition("clock", ClockVerdict, "warning", clock, ADVICE, "nothing speaks against the system clock any more"),
    Condition(
        "component_failed",
        BrokenParts,
        "critical",
        component_failed,
        "report it with the bridge's log; look at the disk under the journal",
        "every part can be looked at again",
    ),
)
"""Everything that is worth a person's attention."""
