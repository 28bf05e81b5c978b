"""Planted bugs: each is one that somebody could make, and each must be caught by an invariant.

`python -m simulation --mutation NAME` lives days with the bug until one of them shows it. The bugs are planted from
here, into the modules of this process; the program itself knows nothing of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Final

from paho.mqtt.exception import MalformedPacket

from kkt_bridge import clock
from kkt_bridge.errors import JournalError
from kkt_bridge.journal import database, journal, outbox, printing, retention
from kkt_bridge.journal import delivery as delivery_rows
from kkt_bridge.mqtt import holds, paho_client, redial, session
from kkt_bridge.ofd.exchange import AnswerKind
from kkt_bridge.operations import components
from kkt_bridge.receipts import identity
from kkt_bridge.receipts.lifecycle import DeliveryState, Status
from kkt_bridge.registers.virtual import driver as virtual
from kkt_bridge.stages import (
    publishing,
)
from kkt_bridge.stages.delivery import delivery, disposition, failure_attribution, trial
from kkt_bridge.stages.delivery import outcomes as delivery_outcomes
from kkt_bridge.stages.intake import decide, intake, record
from kkt_bridge.stages.printing import (
    in_doubt,
    lane,
    leases,
    manual_resolution,
    outcomes,
    stale_journal,
    storage_reader,
)
from kkt_bridge.stages.printing import status as lane_status

Mutation = Callable[[], None]


def acknowledge_before_commit() -> None:
    """The PUBACK goes out first, and the commit may never come."""
    real = intake.Intake._commit

    def commit(self: Any, requests: list[Any]) -> float:
        self._acknowledge(request.token for request in requests)
        return real(self, requests)

    intake.Intake._commit = commit  # type: ignore[method-assign]


def acknowledge_what_the_disk_refused() -> None:
    """A message is acknowledged although nothing of it could be written."""
    real = intake.Intake._while_storage_fails

    def refuse(self: Any, requests: list[Any], problem: JournalError) -> float:
        self._acknowledge(request.token for request in requests)
        return real(self, requests, problem)

    intake.Intake._while_storage_fails = refuse  # type: ignore[method-assign]


def stale_acknowledgement() -> None:
    """A PUBACK is sent on another connection than its message came by."""
    real = session.Session._send_queued

    def send(self: Any, client: Any) -> None:
        for number, token in enumerate(self._pubacks):
            self._pubacks[number] = token._replace(epoch=self._epoch)
        real(self, client)

    session.Session._send_queued = send  # type: ignore[method-assign]


def forget_the_poison() -> None:
    """A message that cannot be handled is answered, and not acknowledged: it comes back for ever."""
    real = intake.Intake._commit

    def commit(self: Any, requests: list[Any]) -> float:
        kept = [request for request in requests if request.error is None or request.error.code != "invalid_json"]
        if len(kept) < len(requests):
            self._journal.write(functools.partial(self._decide, requests))
            self._acknowledge(request.token for request in kept)
            return 0.0
        return real(self, requests)

    intake.Intake._commit = commit  # type: ignore[method-assign]


def adopt_by_total() -> None:
    """Whatever has the right form, operation and total is taken for our own document."""
    real = storage_reader.FiscalStorageReader._classify

    def judge(self: Any, tx: Any, fn_number: str, batch: Any, **how: Any) -> Any:
        return real(self, tx, fn_number, [_made_ours(tx, document) for document in batch], **how)

    storage_reader.FiscalStorageReader._classify = judge  # type: ignore[method-assign]


def _made_ours(tx: Any, document: Any) -> Any:
    """The document with the mark of whichever receipt in doubt it looks like."""
    for row in printing.unprinted(tx.connection):
        task = printing.unprinted_task(tx.connection, row.id)
        receipt = outcomes.readable(task)
        is_readable = receipt is not None and hasattr(document, "form")
        if task.status == Status.PRINTING and is_readable and outcomes.could_be(document, receipt):  # type: ignore[arg-type]
            return dataclasses.replace(document, requisite=identity.requisite_1192(task.key))
    return document


def print_again_when_in_doubt() -> None:
    """A doubt is settled by printing again, without a look at the storage."""

    def step(self: Any, status: Any) -> bool:
        self._position.read_to = status.last_fd_number
        self._advance_mark()
        return True

    storage_reader.FiscalStorageReader.step = step  # type: ignore[method-assign]


def trust_the_journal_alone() -> None:
    """The storage is read where the journal knows of a doubt, and else taken to hold what the journal says."""
    real = storage_reader.FiscalStorageReader.step

    def step(self: Any, status: Any) -> bool:
        if not self._journal.counts().get((self._settings.kkt, Status.PRINTING)):
            self._position.read_to = status.last_fd_number
            self._advance_mark()
        return real(self, status)

    storage_reader.FiscalStorageReader.step = step  # type: ignore[method-assign]


def absence_by_one_look() -> None:
    """What a single look does not show is taken for absent, and the driver is not told which document is to come."""

    def ask_at_rest(self: Any) -> Any:
        snapshot = self._ask()
        if snapshot.status.mode == "document_open" and self._may_cancel(snapshot.status):
            self._register.cancel_document()
            snapshot = self._ask()
        return snapshot

    lane.PrintLane._ask_at_rest = ask_at_rest  # type: ignore[method-assign]
    lane_status.RegisterSnapshot.equals = lambda *_: True  # type: ignore[assignment, method-assign]
    virtual.VirtualRegister._require = lambda *_: None  # type: ignore[assignment, method-assign]


def absent_when_content_differs() -> None:
    """A document with a receipt's mark and another total counts as somebody else's: the receipt is printed."""
    real = storage_reader.FiscalStorageReader._adopt

    def adopt(self: Any, tx: Any, task: Any, document: Any, found: Any, why_not: Any) -> bool:
        before = len(found.blockers)
        adopted = real(self, tx, task, document, found, why_not)
        del found.blockers[before:]
        return adopted

    storage_reader.FiscalStorageReader._adopt = adopt  # type: ignore[method-assign]


def let_go_before_in_doubt() -> None:
    """Receipts that could not be given back are forgotten: only what failed while it was printed is in doubt."""
    in_doubt.InDoubtResolver.count = lambda self: len(self._failed)  # type: ignore[method-assign]


def begin_without_a_trace() -> None:
    """Printing begins before `printing` is on the disk: a crash leaves a receipt that looks untouched."""
    lease, record = leases.lease, leases.record_outcomes

    def lease_and_forget(tx: Any, *how: Any) -> Any:
        tasks = lease(tx, *how)
        for task in tasks:
            printing.release(tx, task)
        return tasks

    def record_from_the_queue(tx: Any, found: Any, *how: Any) -> None:
        for outcome in found:
            tx.move(dataclasses.replace(outcome.task, status=Status.BUFFERED), Status.PRINTING)
        record(tx, found, *how)

    leases.lease = lease_and_forget
    for module in (leases, in_doubt, manual_resolution, storage_reader):
        module.record_outcomes = record_from_the_queue  # type: ignore[attr-defined]


def _dispose_otherwise(change: Callable[[Any, Any, Any], Any]) -> None:
    """Have delivery make something else of each disposition: of the answer, what is known, and the disposition."""
    real = disposition.dispose
    delivery.dispose = lambda answer, known: change(answer, known, real(answer, known))  # type: ignore[attr-defined]


def count_attempts_during_an_outage() -> None:
    """Every failure counts against the document, also when the OFD is away."""
    real = disposition.dispose
    delivery.dispose = lambda answer, known: real(  # type: ignore[attr-defined]
        answer, dataclasses.replace(known, health_ok=True, service_fails=False)
    )


def overtake_in_an_outage() -> None:
    """After a failure the next document is tried, although nothing says that the failed one is at fault."""
    _dispose_otherwise(
        lambda _answer, _known, decided: (
            dataclasses.replace(decided, delivery=DeliveryState.WAITING)
            if decided.delivery is DeliveryState.READY
            else decided
        )
    )


def trust_the_health_check_in_doubt() -> None:
    """However many documents fail, a health check that answers makes each of them the guilty one."""
    failure_attribution.FailureAttribution.service_fails = lambda *_: False  # type: ignore[assignment, method-assign]


def let_the_health_check_decide() -> None:
    """While the health check fails, no document is ever tried."""
    trial.Trials.is_proof_due = False  # type: ignore[assignment, method-assign]


def take_a_refused_bridge_for_a_refused_document() -> None:
    """401 and 404 end a document, whoever is meant by them."""
    refused = disposition.ANSWER_RULES[AnswerKind.DOCUMENT_REFUSED]
    disposition.ANSWER_RULES = MappingProxyType({**disposition.ANSWER_RULES, AnswerKind.BRIDGE_REFUSED: refused})  # type: ignore[misc]


def take_a_request_for_patience_for_a_failure() -> None:
    """429 is the document's fault."""
    failed = disposition.ANSWER_RULES[AnswerKind.SERVICE_FAILED]
    disposition.ANSWER_RULES = MappingProxyType({**disposition.ANSWER_RULES, AnswerKind.SLOW_DOWN: failed})  # type: ignore[misc]


def wait_for_an_answer_for_ever() -> None:
    """A batch that does not come back holds its register up until a restart."""
    delivery.Delivery._give_up_lost = lambda _self: None  # type: ignore[method-assign]


def take_a_portal_for_the_ofd() -> None:
    """Whatever answers 200 has the document."""
    taken = disposition.ANSWER_RULES[AnswerKind.ACCEPTED]
    disposition.ANSWER_RULES = MappingProxyType({**disposition.ANSWER_RULES, AnswerKind.NOT_THE_OFD: taken})  # type: ignore[misc]


def a_new_key_for_each_attempt() -> None:
    """The OFD cannot tell a repeat from a new document."""
    real = delivery.Delivery._submit

    def submit(self: Any, requests: list[Any]) -> int:
        anew = [dataclasses.replace(each, key=each.key and f"{each.key}:{self._batch}") for each in requests]
        return real(self, anew)

    delivery.Delivery._submit = submit  # type: ignore[method-assign]


def send_the_newest_first() -> None:
    """Documents go to the OFD in the order of a stack."""
    real = delivery.Delivery._ready

    def ready(self: Any, *which: Any) -> list[Any]:
        return list(reversed(real(self, *which)))

    delivery.Delivery._ready = ready  # type: ignore[method-assign]


def believe_that_it_was_sent() -> None:
    """A document whose answer was lost counts as delivered, whether it arrived or not."""
    _dispose_otherwise(
        lambda answer, _known, decided: (
            disposition.Disposition(DeliveryState.SENT, "success") if answer.kind is AnswerKind.LINE_FAILED else decided
        )
    )


def reply_past_the_outbox() -> None:
    """The final reply is published when the receipt is printed, and not kept until the broker has it."""
    real = publishing.Publisher._hand_over

    def hand_over(self: Any, message: Any) -> None:
        real(self, message)
        self._delivered.append(message.id)

    publishing.Publisher._hand_over = hand_over  # type: ignore[method-assign]


def lose_what_was_posted() -> None:
    """What was only posted is dropped where the disk does not take it: the broker's messages go out again."""
    real = journal.Journal._attempt

    def attempt(self: Any, entries: list[Any]) -> None:
        real(self, entries)
        self._postponed.clear()

    journal.Journal._attempt = attempt  # type: ignore[method-assign]


def leave_the_transaction_open() -> None:
    """After a COMMIT that failed, SQLite's transaction stays open: every later one fails until a restart."""

    @contextmanager
    def transaction(self: Any) -> Iterator[Any]:
        with database.translated():
            self.writer.connection.driver_connection.execute("BEGIN IMMEDIATE")
            yield self.writer
            self.writer.dialect.do_commit(self.writer.connection)

    database.Database.transaction = transaction  # type: ignore[method-assign]


def purge_without_a_tombstone() -> None:
    """What is purged is forgotten: its repeat is a new receipt."""
    retention.write_tombstones = lambda *_: None  # type: ignore[attr-defined]


def order_by_the_wall_clock() -> None:
    """The hybrid clock follows the system clock back."""
    clock.Hlc.next = lambda _self, now_ms: clock.Hlc(now_ms, 0)  # type: ignore[assignment, method-assign]


def take_more_than_fits() -> None:
    """The buffer's capacity is looked at from before the transaction."""
    real = record.Recorder.facts

    def facts(self: Any, tx: Any, request: Any) -> Any:
        return dataclasses.replace(real(self, tx, request), pending=tx.before.pending)

    record.Recorder.facts = facts  # type: ignore[method-assign]


def believe_a_contradiction() -> None:
    """Other content under a known id is answered with the stored reply, as if it had been printed."""
    real = decide._decide_receipt

    def decide_receipt(request: Any, receipt: Any, facts: Any, rules: Any) -> Any:
        return real(request, receipt, facts, rules) if facts.receipt is None else decide.Repeat(facts.receipt)

    decide._decide_receipt = decide_receipt


def bury_silently() -> None:
    """A dead letter leaves no step, so no event."""
    real = delivery_rows.dead_letter

    def dead_letter(tx: Any, due: Any, **how: Any) -> None:
        before = len(tx.steps)
        real(tx, due, **how)
        del tx.steps[before:]

    delivery_outcomes.dead_letter = dead_letter  # type: ignore[attr-defined]


def drop_old_replies() -> None:
    """The outbox is bounded for replies as it is for events: a broker that is away for long loses them."""
    real = outbox.messages_after

    def messages_after(connection: Any, after: int, limit: int) -> Any:
        return [message for message in real(connection, after, limit) if message.is_event or message.id % 3]

    publishing.messages_after = messages_after  # type: ignore[attr-defined]


def commit_in_two_parts() -> None:
    """The transitions are committed, and then, by themselves, the messages that tell of them."""
    real = journal.Transaction.finish

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

    journal.Transaction.finish = finish  # type: ignore[method-assign]


def take_while_paused() -> None:
    """A pause is told, and not kept to."""
    real = record.Recorder.facts

    def facts(self: Any, tx: Any, request: Any) -> Any:
        return dataclasses.replace(real(self, tx, request), paused=False)

    record.Recorder.facts = facts  # type: ignore[method-assign]


def ask_the_wrong_storage() -> None:
    """After a swap, the new storage is asked, and its silence taken for proof."""
    real = in_doubt.InDoubtResolver._open_question

    def open_question(self: Any, task: Any, evidence: Any) -> Any:
        status = evidence.status
        here = dataclasses.replace(task, fn_before=status.fn_number, fd_before=status.last_fd_number)
        return real(self, here if task.fn_before != status.fn_number else task, evidence)

    in_doubt.InDoubtResolver._open_question = open_question  # type: ignore[method-assign]


def refuse_twice_differently() -> None:
    """A refused request leaves nothing behind for its redelivery."""
    record.remember_refusal = lambda *_, **__: None  # type: ignore[attr-defined]


def print_what_was_retained() -> None:
    """A receipt that comes with the retain flag is taken like any other."""
    real = decide._refusal_of_new

    def refusal(request: Any, *how: Any) -> Any:
        return real(dataclasses.replace(request, retained=False), *how)

    decide._refusal_of_new = refusal


def let_go_of_what_the_disk_refuses() -> None:
    """What was refused while the disk was full is taken in hand to be recorded, and let go if that fails again."""
    real = intake.Intake._record_some

    def record(self: Any) -> bool:
        some = list(self._unrecorded)[: intake.BATCH_MAX]
        recorded = real(self)
        if not recorded:
            for digest in some:
                del self._unrecorded[digest]
        return recorded

    intake.Intake._record_some = record  # type: ignore[method-assign]


def judge_foreign_properties() -> None:
    """A property that no client should send ends the connection; the broker sends the same message again."""
    real = paho_client.read_properties

    def read(data: Any) -> Any:
        if b"\x01\x02" in bytes(data[:40]) or b"\x23\x00\x00" in bytes(data[:40]):
            raise MalformedPacket("a property with a value that it cannot have")
        return real(data)

    paho_client.read_properties = read  # type: ignore[attr-defined]
    redial.ON_END.pop((redial.RedialState.KNOWN_V5, redial.ConnectionEnd.UNREADABLE), None)  # type: ignore[attr-defined]


def events_of_any_size() -> None:
    """Steps travel together without a bound in bytes, and what the broker cuts over comes first again."""
    publishing.EVENT_BYTES_MAX = 1 << 20  # type: ignore[misc]
    publishing._shown = lambda name: name
    holds.Suspects.cut = lambda self, _in_flight: (self, [])  # type: ignore[method-assign]


def believe_a_refusal() -> None:
    """A reply that the broker refuses is taken out of the outbox as if it had arrived."""
    publishing.Publisher.refused = publishing.Publisher.published  # type: ignore[method-assign]


def steps_follow_an_undecided_trial() -> None:
    """While one refused event is tried again, those behind it go out too."""
    real = publishing.Publisher._try_steps

    def try_steps(self: Any) -> Any:
        return real(self) if self._trial is None else self._publish_steps()

    publishing.Publisher._try_steps = try_steps  # type: ignore[method-assign]


def wait_for_a_puback_for_ever() -> None:
    """Nobody notices that the broker answers pings alone."""
    session.PUBACK_TIMEOUT_S = session.PUBACK_TIMEOUT_MAX_S = float("inf")  # type: ignore[misc]


def overlook_dead_letters() -> None:
    """Everything of the OFD's is dead, and the state of the bridge says that it is well."""
    real = components.JournalComponent.report

    def without_dead_letters(self: Any) -> Any:
        report = real(self)
        return dataclasses.replace(report, facts=[dataclasses.replace(fact, dead_letters={}) for fact in report.facts])

    components.JournalComponent.report = without_dead_letters  # type: ignore[method-assign]


def trust_a_copy_over_an_exchange() -> None:
    """What waits in a copy is printed although the storage of that time, which may hold it, is gone."""
    stale_journal.judge_storage = lambda *_: stale_journal.StorageVerdict.CAUGHT_UP


def wait_for_no_register() -> None:
    """A bridge without its memory prints what comes again while a register that may have printed it is away."""
    stale_journal.StaleJournal.holds_up_others = lambda _: False  # type: ignore[method-assign]


MUTATIONS: Final = MappingProxyType(
    {
        mutation.__name__: mutation
        for mutation in (
            acknowledge_before_commit,
            acknowledge_what_the_disk_refused,
            stale_acknowledgement,
            forget_the_poison,
            adopt_by_total,
            print_again_when_in_doubt,
            trust_the_journal_alone,
            absence_by_one_look,
            absent_when_content_differs,
            let_go_before_in_doubt,
            begin_without_a_trace,
            ask_the_wrong_storage,
            count_attempts_during_an_outage,
            trust_the_health_check_in_doubt,
            let_the_health_check_decide,
            take_a_refused_bridge_for_a_refused_document,
            take_a_request_for_patience_for_a_failure,
            wait_for_an_answer_for_ever,
            take_a_portal_for_the_ofd,
            overtake_in_an_outage,
            a_new_key_for_each_attempt,
            send_the_newest_first,
            believe_that_it_was_sent,
            reply_past_the_outbox,
            drop_old_replies,
            commit_in_two_parts,
            lose_what_was_posted,
            leave_the_transaction_open,
            purge_without_a_tombstone,
            order_by_the_wall_clock,
            take_more_than_fits,
            believe_a_contradiction,
            refuse_twice_differently,
            bury_silently,
            take_while_paused,
            print_what_was_retained,
            let_go_of_what_the_disk_refuses,
            judge_foreign_properties,
            events_of_any_size,
            believe_a_refusal,
            steps_follow_an_undecided_trial,
            wait_for_a_puback_for_ever,
            overlook_dead_letters,
            trust_a_copy_over_an_exchange,
            wait_for_no_register,
        )
    }
)
"""Every planted bug by name."""

SHOWN_ON: Final[Mapping[str, int]] = MappingProxyType(
    {
        "acknowledge_before_commit": 1,
        "acknowledge_what_the_disk_refused": 28,
        "stale_acknowledgement": 2,
        "forget_the_poison": 0,
        "adopt_by_total": 47,
        "print_again_when_in_doubt": 4,
        "trust_the_journal_alone": 56,
        "absence_by_one_look": 103,
        "absent_when_content_differs": 66,
        "let_go_before_in_doubt": 0,
        "begin_without_a_trace": 2,
        "ask_the_wrong_storage": 78,
        "count_attempts_during_an_outage": 4,
        "trust_the_health_check_in_doubt": 38,
        "let_the_health_check_decide": 17,
        "take_a_refused_bridge_for_a_refused_document": 50,
        "take_a_request_for_patience_for_a_failure": 21,
        "wait_for_an_answer_for_ever": 42,
        "take_a_portal_for_the_ofd": 35,
        "overtake_in_an_outage": 4,
        "a_new_key_for_each_attempt": 0,
        "send_the_newest_first": 0,
        "believe_that_it_was_sent": 4,
        "reply_past_the_outbox": 10,
        "drop_old_replies": 0,
        "commit_in_two_parts": 0,
        "lose_what_was_posted": 28,
        "leave_the_transaction_open": 18,
        "purge_without_a_tombstone": 2,
        "order_by_the_wall_clock": 0,
        "take_more_than_fits": 35,
        "believe_a_contradiction": 2,
        "refuse_twice_differently": 0,
        "bury_silently": 178,
        "take_while_paused": 56,
        "print_what_was_retained": 21,
        "let_go_of_what_the_disk_refuses": 18,
        "judge_foreign_properties": 9,
        "events_of_any_size": 16,
        "believe_a_refusal": 27,
        "steps_follow_an_undecided_trial": 9729,
        "wait_for_a_puback_for_ever": 10,
        "overlook_dead_letters": 192,
        "trust_a_copy_over_an_exchange": 78,
        "wait_for_no_register": 118,
    }
)
"""Days that have shown them, by name: there they are looked for first."""


def bugs() -> str:
    """All of them as a Markdown table, each with what it is."""
    lines = [f"| `{name}` | {(mutation.__doc__ or '').partition(chr(10))[0]} |" for name, mutation in MUTATIONS.items()]
    return "\n".join(["| planted bug | what it is |", "|---|---|", *lines])
