"""The operators' commands: a table from a command's name to a function of its arguments."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import Any, Final, TypeVar

from kkt_bridge.journal.commands import note_command
from kkt_bridge.journal.document_queue import dead_letters, dead_letters_of, discard, requeue
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.outbox import history_of
from kkt_bridge.journal.receipts import body_of, find_receipts, last_refusal_of, pending_page
from kkt_bridge.journal.records import DeadLetter, StoredReceipt, TakenCommand
from kkt_bridge.journal.transaction import DLQ, Transaction
from kkt_bridge.operations.command_worker import Answer, CommandFailed, Handler
from kkt_bridge.operations.telemetry import Telemetry
from kkt_bridge.receipts.lifecycle import PENDING, Status
from kkt_bridge.registers.base import FiscalRegister, ShiftReport
from kkt_bridge.stages import replies
from kkt_bridge.stages.delivery.delivery import Delivery
from kkt_bridge.stages.delivery.sync_pass import SyncInProgress
from kkt_bridge.stages.intake.admission import Admission
from kkt_bridge.stages.printing.lane import PrintLane
from kkt_bridge.stages.printing.manual_resolution import (
    AdoptFromPaper,
    AdoptFromStorage,
    ManuallyResolved,
    ManualResolution,
    PassUnreadable,
    PrintAgain,
    SettleRefused,
    not_in_doubt,
)
from kkt_bridge.stages.printing.requests import ShiftBaseline, ShiftOrder
from kkt_bridge.wire.commands import (
    DiscardArgs,
    NoArgs,
    PageArgs,
    PassedDocument,
    ReceiptArgs,
    RegisterArgs,
    ReprintArgs,
    RequeueArgs,
    SettleArgs,
    SyncArgs,
)
from kkt_bridge.wire.messages import rfc3339

REQUEUE_BATCH: Final = 100
"""Dead letters that one transaction requeues."""

BEGUN: Final = "begun"
"""Beside a command's args in its row: how the register stood when the command was begun."""

Found = TypeVar("Found", StoredReceipt, DeadLetter)


class Commands:
    """The operators' commands."""

    def __init__(
        self,
        *,
        journal: Journal,
        telemetry: Telemetry,
        admission: Admission,
        delivery: Delivery,
        lanes: Sequence[PrintLane],
        wake_delivery: Callable[[], None],
        wake_lane: Callable[[str], None],
        zone: tzinfo,
    ) -> None:
        self._journal = journal
        self._telemetry = telemetry
        self._admission = admission
        self._delivery = delivery
        self._lanes = {lane.view.kkt: lane for lane in lanes}
        self._wake_delivery = wake_delivery
        self._wake_lane = wake_lane
        self._zone = zone

    def table(self) -> Mapping[str, Handler]:
        """Return the handlers by the name of the command."""
        return {
            "status": self._status,
            "sync": self._sync,
            "receipt": self._receipt,
            "buffer-list": self._buffer_list,
            "dlq-list": self._dlq_list,
            "dlq-requeue": self._dlq_requeue,
            "dlq-discard": self._dlq_discard,
            "x-report": self._x_report,
            "pause": self._pause,
            "resume": self._resume,
            "reprint": self._reprint,
            "settle": self._settle,
            "shift-open": partial(self._work_shift, opens=True),
            "shift-close": partial(self._work_shift, opens=False),
        }

    # -- the bridge ------------------------------------------------------------------------------------

    def _status(self, _args: NoArgs, _command: TakenCommand) -> Answer:
        return self._telemetry.status()

    def _sync(self, args: SyncArgs, _command: TakenCommand) -> "Future[Answer]":
        try:
            result = self._delivery.request(force=args.force)
        except SyncInProgress:
            raise CommandFailed("sync_in_progress", "a sync is running already: wait for its result") from None
        self._wake_delivery()
        return _then(result, asdict)

    def _pause(self, _args: NoArgs, _command: TakenCommand) -> Answer:
        self._admission.set_paused(self._journal, paused=True)
        return {"paused": True}

    def _resume(self, _args: NoArgs, _command: TakenCommand) -> Answer:
        self._admission.set_paused(self._journal, paused=False)
        return {"paused": False}

    # -- receipts --------------------------------------------------------------------------------------

    def _receipt(self, args: ReceiptArgs, _command: TakenCommand) -> Answer:
        stored = self._the_one(args.receipt_id, args.pos_id)
        row_id = stored.id
        body = self._journal.read(lambda connection: body_of(connection, row_id)) if row_id is not None else None
        steps = self._journal.read(lambda connection: history_of(connection, row_id)) if row_id is not None else []
        return {
            "receipt": json.loads(body) if body is not None else None,
            "status": stored.status,
            "reply": replies.stored(stored, self._zone, duplicate=False).model_dump(mode="json"),
            "server_time": stored.server_time,
            "history": [
                {
                    "from": step.from_status,
                    "to": step.to_status,
                    "at": rfc3339(step.at_ms, self._zone),
                    "fd_number": step.fd_number,
                    "error": step.error,
                }
                for step in steps
            ],
            "purged": row_id is None,
        }

    def _the_one(self, receipt_id: str, pos_id: str | None) -> StoredReceipt:
        stored = _the_one_of(pos_id, self._journal.read(lambda connection: find_receipts(connection, receipt_id)))
        if stored is None:
            known = self._refusal_in_words(receipt_id, pos_id)
            raise CommandFailed("not_found", f"no receipt {receipt_id} was ever taken here; {known}")
        return stored

    def _refusal_in_words(self, receipt_id: str, pos_id: str | None) -> str:
        """Return when and why a receipt that is not here was refused, as far as it is known."""
        found = self._journal.read(lambda connection: last_refusal_of(connection, receipt_id, pos_id))
        if found is None:
            return "if it was refused, the log of the bridge says when and why"
        reply, refused_steady_ms = json.loads(found[0]), found[1]
        ago = timedelta(seconds=max(0, self._journal.steady_ms() - refused_steady_ms) // 1000)
        error = reply["error"]
        return f"it was refused {ago} ago of {reply['pos_id']}: {error['code']}: {error['message']}"

    def _buffer_list(self, args: PageArgs, _command: TakenCommand) -> Answer:
        queues = [(Status(kind), kkt) for (kkt, kind), n in self._journal.counts().items() if kind in PENDING and n]
        found = self._journal.read(
            lambda connection: [
                pending
                for status, kkt in queues
                for pending in pending_page(connection, status, kkt, args.after, args.limit)
            ]
        )
        page = sorted(found, key=lambda pending: pending.id)[: args.limit]
        shown = [
            {
                "receipt_id": pending.key.receipt_id,
                "pos_id": pending.key.pos_id,
                "kkt": pending.kkt,
                "status": pending.status,
                "received_at": rfc3339(pending.received_ms, self._zone),
                "attempts": pending.attempts,
                "last_error": pending.last_error,
            }
            for pending in page
        ]
        return {
            "receipts": shown,
            "total": self._journal.pending(),
            "next": page[-1].id if len(page) == args.limit else None,
        }

    # -- dead letters ----------------------------------------------------------------------------------

    def _dlq_list(self, args: PageArgs, _command: TakenCommand) -> Answer:
        page = self._dead_letters(args.after, args.limit)
        return {
            "letters": [
                {
                    "receipt_id": letter.key.receipt_id,
                    "pos_id": letter.key.pos_id,
                    "kkt": letter.kkt,
                    "stage": "ofd",
                    "attempts": letter.strikes,
                    "reason": letter.reason,
                    "last_error": letter.last_error,
                    "failed_at": rfc3339(letter.failed_ms, self._zone),
                }
                for letter in page
            ],
            "total": self._journal.total(DLQ),
            "next": page[-1].document if len(page) == args.limit else None,
        }

    def _dead_letters(self, after: int, limit: int) -> list[DeadLetter]:
        registers = [kkt for (kkt, kind), n in self._journal.counts().items() if kind == DLQ and n]
        found = self._journal.read(
            lambda connection: [letter for kkt in registers for letter in dead_letters(connection, kkt, after, limit)]
        )
        return sorted(found, key=lambda letter: letter.document)[:limit]

    def _dlq_requeue(self, args: RequeueArgs, _command: TakenCommand) -> Answer:
        if args.all == (args.receipt_id is not None):
            raise CommandFailed("invalid_command", "name a receipt_id, or say all: true")
        if args.receipt_id is None:
            requeued = self._requeue_all()
        else:
            letter, requeued = self._the_letter(args.receipt_id, args.pos_id), 1
            self._journal.write(lambda tx: requeue(tx, letter))
        self._wake_delivery()
        return {"requeued": requeued}

    def _requeue_all(self) -> int:
        """Requeue all in batches: a receipt that comes in between must not wait for thousands of them."""
        requeued = after = 0
        # Onwards only: what the OFD refuses again meanwhile must not be requeued for ever.
        while letters := self._dead_letters(after, REQUEUE_BATCH):
            self._journal.write(partial(_requeue_letters, letters))
            requeued += len(letters)
            after = letters[-1].document
        return requeued

    def _dlq_discard(self, args: DiscardArgs, _command: TakenCommand) -> Answer:
        letter = self._the_letter(args.receipt_id, args.pos_id)
        self._journal.write(lambda tx: discard(tx, letter, args.reason))
        return {"discarded": 1}

    def _the_letter(self, receipt_id: str, pos_id: str | None) -> DeadLetter:
        letter = _the_one_of(pos_id, self._journal.read(lambda connection: dead_letters_of(connection, receipt_id)))
        if letter is None:
            raise CommandFailed("not_found", f"receipt {receipt_id} is no dead letter")
        return letter

    # -- registers -------------------------------------------------------------------------------------

    def _work_shift(self, args: RegisterArgs, command: TakenCommand, *, opens: bool) -> "Future[Answer]":
        kept = json.loads(command.args)
        begun = kept.get(BEGUN)

        def note(seen: ShiftBaseline) -> None:
            with_note = json.dumps({**kept, BEGUN: asdict(seen)}, ensure_ascii=False)
            self._journal.write(lambda tx: note_command(tx, command, with_note))

        return self._on_register(args.kkt, ShiftOrder(opens, ShiftBaseline(**begun) if begun else None, note))

    def _x_report(self, args: RegisterArgs, _command: TakenCommand) -> "Future[Answer]":
        return self._on_register(args.kkt, lambda register: register.x_report())

    def _reprint(self, args: ReprintArgs, _command: TakenCommand) -> "Future[Answer]":
        return self._on_register(args.kkt, lambda register: register.print_copy(args.fd_number))

    def _on_register(self, kkt: str | None, job: Callable[[FiscalRegister], ShiftReport | None]) -> "Future[Answer]":
        lane = self._lane(kkt)
        name = lane.view.kkt
        result = lane.request(job)
        self._wake_lane(name)
        return _then(result, lambda report: {"kkt": name, **(asdict(report) if report is not None else {})})

    def _settle(self, args: SettleArgs, _command: TakenCommand) -> "Future[Answer]":
        if args.pass_document is not None:
            return self._pass(args.pass_document, args.reason)
        assert args.receipt_id is not None  # the model asks for it
        stored = self._the_one(args.receipt_id, args.pos_id)
        may_be_found = stored.status == Status.BUFFERED and args.adopt is not None
        if stored.status != Status.PRINTING and not may_be_found:
            raise _refused(not_in_doubt(stored.key, stored.status))
        lane = self._lane(stored.kkt)
        order = ManualResolution(stored.key, _decision(args), args.reason)
        settled = lane.settle(order)
        self._wake_lane(stored.kkt)
        return _then(settled, _shown_settled)

    def _pass(self, document: PassedDocument, reason: str) -> "Future[Answer]":
        storages = {lane.view.status.fn_number: lane for lane in self._lanes.values() if lane.view.status is not None}
        lane = storages.get(document.fn_number)
        if lane is None:
            there_is = ", ".join(sorted(storages)) or "none was asked yet"
            raise CommandFailed(
                "not_in_the_way", f"no register here holds fiscal storage {document.fn_number}; there is {there_is}"
            )
        kkt = lane.view.kkt
        passed = lane.settle(PassUnreadable(document.fn_number, document.fd_number, reason))
        self._wake_lane(kkt)
        return _then(passed, lambda _: {"kkt": kkt, "outcome": "passed", **document.model_dump()})

    def _lane(self, kkt: str | None) -> PrintLane:
        there_is = ", ".join(sorted(self._lanes))
        if kkt is None and len(self._lanes) > 1:
            raise CommandFailed("invalid_command", f"say which register in args.kkt: {there_is}")
        lane = self._lanes.get(kkt) if kkt is not None else next(iter(self._lanes.values()))
        if lane is None:
            raise CommandFailed("unknown_kkt", f"no register {kkt} here; there is {there_is}")
        return lane


def _the_one_of(pos_id: str | None, found: Iterable[Found]) -> Found | None:
    """Return the one of this POS, the only one where none is named, None where there is none."""
    of_pos = [each for each in found if pos_id in {None, each.key.pos_id}]
    if len(of_pos) > 1:
        pos = ", ".join(each.key.pos_id for each in of_pos)
        raise CommandFailed("ambiguous", f"several POS used this id ({pos}): say which in pos_id")
    return of_pos[0] if of_pos else None


def _requeue_letters(letters: Sequence[DeadLetter], tx: Transaction) -> None:
    for letter in letters:
        requeue(tx, letter)


def _decision(args: SettleArgs) -> AdoptFromStorage | AdoptFromPaper | PrintAgain:
    document = args.adopt
    if document is None:
        assert args.doubt is not None  # the model asks for it
        return PrintAgain(args.doubt)
    if document.fn_number is None:
        return AdoptFromStorage(document.fd_number)
    # The model takes all of a document or nothing but its number.
    assert document.fiscal_sign is not None
    assert document.datetime is not None
    assert document.shift_number is not None
    assert document.receipt_number is not None
    return AdoptFromPaper(
        fn_number=document.fn_number,
        fd_number=document.fd_number,
        fiscal_sign=document.fiscal_sign,
        at=datetime.fromisoformat(document.datetime),
        shift_number=document.shift_number,
        receipt_number=document.receipt_number,
    )


def _shown_settled(settled: ManuallyResolved) -> Answer:
    task, mark = settled.task, settled.printed.mark if settled.printed is not None else None
    return {
        "receipt_id": task.key.receipt_id,
        "pos_id": task.key.pos_id,
        "kkt": task.kkt,
        "outcome": "adopted" if mark is not None else "queued",
        "fiscal": mark.model_dump(mode="json") if mark is not None else None,
    }


def _refused(refusal: SettleRefused) -> CommandFailed:
    return CommandFailed(refusal.code, str(refusal))


def _then(future: "Future[Any]", shape: Callable[[Any], Answer]) -> "Future[Answer]":
    """Return a future of the answer, which `shape` makes of the result of this one."""
    answer: Future[Answer] = Future()

    def pass_on(done: "Future[Any]") -> None:
        error = done.exception()
        if error is not None:
            answer.set_exception(_refused(error) if isinstance(error, SettleRefused) else error)
        else:
            answer.set_result(shape(done.result()))

    future.add_done_callback(pass_on)
    return answer
