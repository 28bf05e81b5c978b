"""Planted bugs: each is one that somebody could make, and each must be caught by an invariant.

`python -m simulation --mutation NAME` lives days with the bug until one of them shows it. The bugs are planted from
here, into the modules of this process; the program itself knows nothing of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from paho.mqtt.exception import MalformedPacket

from kkt_bridge import clock
from kkt_bridge.errors import JournalError
from kkt_bridge.journal import database, journal, retention
from kkt_bridge.journal import print_queue as printing
from kkt_bridge.mqtt import paho_client, redial, session
from kkt_bridge.mqtt import refused_publications as holds
from kkt_bridge.ofd.exchange import AnswerKind
from kkt_bridge.receipts import identity
from kkt_bridge.receipts.lifecycle import DeliveryState, Status
from kkt_bridge.registers.virtual import driver as virtual
from kkt_bridge.runtime import wiring
from kkt_bridge.stages import publishing
from kkt_bridge.stages.delivery import delivery, disposition, failure_attribution, trial
from kkt_bridge.stages.delivery import outcomes as delivery_outcomes
from kkt_bridge.stages.intake import decide, intake, record
from kkt_bridge.stages.printing import (
    in_doubt,
    lane,
    leases,
    manual_resolution,
    stale_journal,
    storage_reader,
)
from kkt_bridge.stages.printing import status as lane_status

Mutation = Callable[[], None]

MUTATIONS: Final[dict[str, Mutation]] = {}
"""Every planted bug by name."""

SHOWN_ON: Final[dict[str, int]] = {}
"""By name, a day that has shown it: there it is looked for first."""


def shown_on(day: int) -> Callable[[Mutation], Mutation]:
    """Enter a planted bug in the tables."""

    def enter(mutation: Mutation) -> Mutation:
        MUTATIONS[mutation.__name__] = mutation
        SHOWN_ON[mutation.__name__] = day
        return mutation

    return enter


def plant(owner: object, name: str, replacement: object) -> Any:
    """Replace an attribute and return the real one; AttributeError where the program has none of that name."""
    real = getattr(owner, name)
    setattr(owner, name, replacement)
    return real


@shown_on(day=1)
def acknowledge_before_commit() -> None:
    """The PUBACK goes out first, and the commit may never come."""

    def commit(self: Any, requests: list[Any]) -> float:
        self._acknowledge(request.token for request in requests)
        return real(self, requests)

    real = plant(intake.Intake, "_commit", commit)


@shown_on(day=28)
def acknowledge_what_the_disk_refused() -> None:
    """A message is acknowledged although nothing of it could be written."""

    def refuse(self: Any, requests: list[Any], problem: JournalError) -> float:
        self._acknowledge(request.token for request in requests)
        return real(self, requests, problem)

    real = plant(intake.Intake, "_while_storage_fails", refuse)


@shown_on(day=2)
def stale_acknowledgement() -> None:
    """A PUBACK is sent on another connection than its message came by."""

    def send(self: Any, client: Any) -> None:
        for number, token in enumerate(self._pubacks):
            self._pubacks[number] = token._replace(epoch=self._epoch)
        real(self, client)

    real = plant(session.Session, "_send_queued", send)


@shown_on(day=0)
def forget_the_poison() -> None:
    """A message that cannot be handled is answered, and not acknowledged: it comes back for ever."""

    def commit(self: Any, requests: list[Any]) -> float:
        kept = [request for request in requests if request.error is None or request.error.code != "invalid_json"]
        if len(kept) < len(requests):
            self._write(requests)
            self._acknowledge(request.token for request in kept)
            return 0.0
        return real(self, requests)

    real = plant(intake.Intake, "_commit", commit)


@shown_on(day=47)
def adopt_by_total() -> None:
    """Whatever has the right form, operation and total is taken for our own document."""

    def judge(self: Any, tx: Any, fn_number: str, batch: Any, **how: Any) -> Any:
        return real(self, tx, fn_number, [_made_ours(tx, document) for document in batch], **how)

    real = plant(storage_reader.FiscalStorageReader, "_classify", judge)


def _made_ours(tx: Any, document: Any) -> Any:
    """The document with the mark of whichever receipt in doubt it looks like."""
    for row_id in sorted(printing.unprinted(tx.connection).values()):
        task = printing.unprinted_task(tx.connection, row_id)
        receipt = leases.readable(task)
        is_readable = receipt is not None and hasattr(document, "form")
        if task.status == Status.PRINTING and is_readable and leases.could_be(document, receipt):  # type: ignore[arg-type]
            return dataclasses.replace(document, requisite=identity.requisite_1192(task.key))
    return document


@shown_on(day=4)
def print_again_when_in_doubt() -> None:
    """A doubt is settled by printing again, without a look at the storage."""

    def step(self: Any, status: Any) -> bool:
        self._position.read_to = status.last_fd_number
        self._advance_mark()
        return True

    plant(storage_reader.FiscalStorageReader, "step", step)


@shown_on(day=56)
def trust_the_journal_alone() -> None:
    """The storage is read where the journal knows of a doubt, and else taken to hold what the journal says."""

    def step(self: Any, status: Any) -> bool:
        if not self._journal.counts().get((self._settings.kkt, Status.PRINTING)):
            self._position.read_to = status.last_fd_number
            self._advance_mark()
        return real(self, status)

    real = plant(storage_reader.FiscalStorageReader, "step", step)


@shown_on(day=103)
def absence_by_one_look() -> None:
    """What a single look does not show is taken for absent, and the driver is not told which document is to come."""

    def ask_at_rest(self: Any) -> Any:
        snapshot = self._ask()
        if snapshot.status.mode == "document_open" and self._may_cancel(snapshot.status):
            self._register.cancel_document()
            snapshot = self._ask()
        return snapshot

    plant(lane.PrintLane, "_ask_at_rest", ask_at_rest)
    plant(lane_status.RegisterSnapshot, "equals", lambda *_: True)
    plant(virtual.VirtualRegister, "_require", lambda *_: None)


@shown_on(day=66)
def absent_when_content_differs() -> None:
    """A document with a receipt's mark and another total counts as somebody else's: the receipt is printed."""

    def adopt(self: Any, tx: Any, task: Any, document: Any, found: Any, why_not: Any) -> bool:
        before = len(found.blockers)
        adopted = real(self, tx, task, document, found, why_not)
        del found.blockers[before:]
        return adopted

    real = plant(storage_reader.FiscalStorageReader, "_adopt", adopt)


@shown_on(day=0)
def let_go_before_in_doubt() -> None:
    """Receipts that could not be given back are forgotten: only what failed while it was printed is in doubt."""
    plant(in_doubt.InDoubtResolver, "count", lambda self: len(self._failed))


@shown_on(day=2)
def begin_without_a_trace() -> None:
    """Printing begins before `printing` is on the disk: a crash leaves a receipt that looks untouched."""

    def lease_and_forget(tx: Any, *how: Any) -> Any:
        tasks = lease(tx, *how)
        for task in tasks:
            printing.release(tx, task)
        return tasks

    def record_from_the_queue(tx: Any, found: Any, *how: Any) -> None:
        for outcome in found:
            tx.move(dataclasses.replace(outcome.task, status=Status.BUFFERED), Status.PRINTING)
        record(tx, found, *how)

    lease = plant(leases, "lease", lease_and_forget)
    for module in (leases, in_doubt, manual_resolution, storage_reader):
        record = plant(module, "record_outcomes", record_from_the_queue)


def _dispose_otherwise(change: Callable[[Any, Any, Any], Any]) -> None:
    """Have delivery make something else of each disposition: of the answer, what is known, and the disposition."""
    real = plant(delivery, "dispose", lambda answer, known: change(answer, known, real(answer, known)))


@shown_on(day=4)
def count_attempts_during_an_outage() -> None:
    """Every failure counts against the document, also when the OFD is away."""
    real = plant(
        delivery,
        "dispose",
        lambda answer, known: real(answer, dataclasses.replace(known, health_ok=True, service_fails=False)),
    )


@shown_on(day=4)
def overtake_in_an_outage() -> None:
    """After a failure the next document is tried, although nothing says that the failed one is at fault."""
    _dispose_otherwise(
        lambda _answer, _known, decided: (
            dataclasses.replace(decided, delivery=DeliveryState.WAITING)
            if decided.delivery is DeliveryState.READY
            else decided
        )
    )


@shown_on(day=38)
def trust_the_health_check_in_doubt() -> None:
    """However many documents fail, a health check that answers makes each of them the guilty one."""
    plant(failure_attribution.FailureAttribution, "service_fails", lambda *_: False)


@shown_on(day=17)
def let_the_health_check_decide() -> None:
    """While the health check fails, no document is ever tried."""
    plant(trial.Trials, "is_proof_due", False)


def _answer_as(kind: AnswerKind, other: AnswerKind) -> None:
    """Have answers of one kind handled as those of another."""
    rules = disposition.ANSWER_RULES
    plant(disposition, "ANSWER_RULES", MappingProxyType({**rules, kind: rules[other]}))


@shown_on(day=50)
def take_a_refused_bridge_for_a_refused_document() -> None:
    """401 and 404 end a document, whoever is meant by them."""
    _answer_as(AnswerKind.BRIDGE_REFUSED, AnswerKind.DOCUMENT_REFUSED)


@shown_on(day=21)
def take_a_request_for_patience_for_a_failure() -> None:
    """429 is the document's fault."""
    _answer_as(AnswerKind.SLOW_DOWN, AnswerKind.SERVICE_FAILED)


@shown_on(day=42)
def wait_for_an_answer_for_ever() -> None:
    """A batch that does not come back holds its register up until a restart."""
    plant(delivery.Delivery, "_give_up_lost", lambda _self: None)


@shown_on(day=35)
def take_a_portal_for_the_ofd() -> None:
    """Whatever answers 200 has the document."""
    _answer_as(AnswerKind.NOT_THE_OFD, AnswerKind.ACCEPTED)


@shown_on(day=0)
def a_new_key_for_each_attempt() -> None:
    """The OFD cannot tell a repeat from a new document."""

    def submit(self: Any, requests: list[Any]) -> int:
        anew = [dataclasses.replace(each, key=each.key and f"{each.key}:{self._batch}") for each in requests]
        return real(self, anew)

    real = plant(delivery.Delivery, "_submit", submit)


@shown_on(day=0)
def send_the_newest_first() -> None:
    """Documents go to the OFD in the order of a stack."""

    def ready(self: Any, *which: Any) -> list[Any]:
        return list(reversed(real(self, *which)))

    real = plant(delivery.Delivery, "_ready", ready)


@shown_on(day=4)
def believe_that_it_was_sent() -> None:
    """A document whose answer was lost counts as delivered, whether it arrived or not."""
    _dispose_otherwise(
        lambda answer, _known, decided: (
            disposition.Disposition(DeliveryState.SENT, "success") if answer.kind is AnswerKind.LINE_FAILED else decided
        )
    )


@shown_on(day=10)
def reply_past_the_outbox() -> None:
    """The final reply is published when the receipt is printed, and not kept until the broker has it."""

    def hand_over(self: Any, message: Any) -> None:
        real(self, message)
        self._delivered.append(message.id)

    real = plant(publishing.Publisher, "_hand_over", hand_over)


@shown_on(day=28)
def lose_what_was_posted() -> None:
    """What was only posted is dropped where the disk does not take it: the broker's messages go out again."""

    def attempt(self: Any, entries: list[Any]) -> None:
        real(self, entries)
        self._postponed.clear()

    real = plant(journal.Journal, "_attempt", attempt)


@shown_on(day=18)
def leave_the_transaction_open() -> None:
    """After a COMMIT that failed, SQLite's transaction stays open: every later one fails until a restart."""

    @contextmanager
    def transaction(self: Any) -> Iterator[Any]:
        with database.translated():
            self.writer.connection.driver_connection.execute("BEGIN IMMEDIATE")
            yield self.writer
            self.writer.dialect.do_commit(self.writer.connection)

    plant(database.Database, "transaction", transaction)


@shown_on(day=2)
def purge_without_a_tombstone() -> None:
    """What is purged is forgotten: its repeat is a new receipt."""
    plant(retention, "write_tombstones", lambda *_: None)


@shown_on(day=0)
def order_by_the_wall_clock() -> None:
    """The hybrid clock follows the system clock back."""
    plant(clock.Hlc, "next", lambda _self, now_ms: clock.Hlc(now_ms, 0))


@shown_on(day=35)
def take_more_than_fits() -> None:
    """The buffer's capacity is looked at from before the transaction."""

    def facts(self: Any, tx: Any, request: Any) -> Any:
        return dataclasses.replace(real(self, tx, request), pending=tx.before.pending)

    real = plant(record.Recorder, "facts", facts)


@shown_on(day=2)
def believe_a_contradiction() -> None:
    """Other content under a known id is answered with the stored reply, as if it had been printed."""

    def decide_receipt(request: Any, receipt: Any, facts: Any, rules: Any) -> Any:
        return real(request, receipt, facts, rules) if facts.receipt is None else decide.Repeat(facts.receipt)

    real = plant(decide, "_decide_receipt", decide_receipt)


@shown_on(day=178)
def bury_silently() -> None:
    """A dead letter leaves no step, so no event."""

    def dead_letter(tx: Any, due: Any, **how: Any) -> None:
        before = len(tx.steps)
        real(tx, due, **how)
        del tx.steps[before:]

    real = plant(delivery_outcomes, "dead_letter", dead_letter)


@shown_on(day=0)
def drop_old_replies() -> None:
    """The outbox is bounded for replies as it is for events: a broker that is away for long loses them."""

    def messages_after(connection: Any, after: int, limit: int) -> Any:
        return [message for message in real(connection, after, limit) if message.is_event or message.id % 3]

    real = plant(publishing, "messages_after", messages_after)


@shown_on(day=0)
def commit_in_two_parts() -> None:
    """The transitions are committed, and then, by themselves, the messages that tell of them."""

    def finish(self: Any) -> Any:
        messages, self.messages = self.messages, []
        state = real(self)
        if messages:
            dialect, driver = self.connection.dialect, self.connection.connection
            dialect.do_commit(driver)
            driver.execute("BEGIN IMMEDIATE")
            self.messages, self.steps = messages, []
            state = real(self)
        return state

    real = plant(journal.Transaction, "finish", finish)


@shown_on(day=56)
def take_while_paused() -> None:
    """A pause is told, and not kept to."""

    def facts(self: Any, tx: Any, request: Any) -> Any:
        return dataclasses.replace(real(self, tx, request), paused=False)

    real = plant(record.Recorder, "facts", facts)


@shown_on(day=78)
def ask_the_wrong_storage() -> None:
    """After a swap, the new storage is asked, and its silence taken for proof."""

    def open_question(self: Any, task: Any, evidence: Any) -> Any:
        status = evidence.status
        here = dataclasses.replace(task, fn_before=status.fn_number, fd_before=status.last_fd_number)
        return real(self, here if task.fn_before != status.fn_number else task, evidence)

    real = plant(in_doubt.InDoubtResolver, "_open_question", open_question)


@shown_on(day=0)
def refuse_twice_differently() -> None:
    """A refused request leaves nothing behind for its redelivery."""
    plant(record, "remember_refusal", lambda *_, **__: None)


@shown_on(day=21)
def print_what_was_retained() -> None:
    """A receipt that comes with the retain flag is taken like any other."""

    def refusal(request: Any, *how: Any) -> Any:
        return real(dataclasses.replace(request, retained=False), *how)

    real = plant(decide, "_refusal_of_new", refusal)


@shown_on(day=18)
def let_go_of_what_the_disk_refuses() -> None:
    """What was refused while the disk was full is taken in hand to be recorded, and let go if that fails again."""

    def record(self: Any) -> bool:
        some = list(self._unrecorded)[: intake.BATCH_MAX]
        recorded = real(self)
        if not recorded:
            for digest in some:
                del self._unrecorded[digest]
        return recorded

    real = plant(intake.Intake, "_record_some", record)


@shown_on(day=9)
def judge_foreign_properties() -> None:
    """A property that no client should send ends the connection; the broker sends the same message again."""

    def read(data: Any) -> Any:
        if b"\x01\x02" in bytes(data[:40]) or b"\x23\x00\x00" in bytes(data[:40]):
            raise MalformedPacket("a property with a value that it cannot have")
        return real(data)

    real = plant(paho_client, "read_properties", read)
    del redial.ON_END[redial.RedialState.KNOWN_V5, redial.ConnectionEnd.UNREADABLE]  # type: ignore[attr-defined]


@shown_on(day=16)
def events_of_any_size() -> None:
    """Steps travel together without a bound in bytes, and what the broker cuts over comes first again."""
    plant(publishing, "EVENT_BYTES_MAX", 1 << 20)
    plant(publishing, "_shown", lambda name: name)
    plant(holds.Suspects, "cut", lambda self, _in_flight: (self, []))


@shown_on(day=27)
def believe_a_refusal() -> None:
    """A reply that the broker refuses is taken out of the outbox as if it had arrived."""
    plant(publishing.Publisher, "refused", publishing.Publisher.published)


@shown_on(day=9729)
def steps_follow_an_undecided_trial() -> None:
    """While one refused event is tried again, those behind it go out too."""

    def try_steps(self: Any) -> Any:
        return real(self) if self._trial is None else self._publish_steps()

    real = plant(publishing.Publisher, "_try_steps", try_steps)


@shown_on(day=10)
def wait_for_a_puback_for_ever() -> None:
    """Nobody notices that the broker answers pings alone."""
    plant(session, "PUBACK_TIMEOUT_S", float("inf"))
    plant(session, "PUBACK_TIMEOUT_MAX_S", float("inf"))


@shown_on(day=192)
def overlook_dead_letters() -> None:
    """Everything of the OFD's is dead, and the state of the bridge says that it is well."""

    def without_dead_letters(*args: Any) -> Any:
        report = real(*args)
        return dataclasses.replace(report, facts=[dataclasses.replace(fact, dead_letters={}) for fact in report.facts])

    real = plant(wiring, "journal_report", without_dead_letters)


@shown_on(day=78)
def trust_a_copy_over_an_exchange() -> None:
    """What waits in a copy is printed although the storage of that time, which may hold it, is gone."""
    plant(stale_journal, "judge_storage", lambda *_: stale_journal.StorageVerdict.CAUGHT_UP)


@shown_on(day=118)
def wait_for_no_register() -> None:
    """A bridge without its memory prints what comes again while a register that may have printed it is away."""
    plant(stale_journal.StaleJournal, "holds_up_others", lambda _: False)


def bugs() -> str:
    """Return all of them as a Markdown table, each with its description."""
    lines = [f"| `{name}` | {(mutation.__doc__ or '').partition(chr(10))[0]} |" for name, mutation in MUTATIONS.items()]
    return "\n".join(["| planted bug | what it is |", "|---|---|", *lines])
