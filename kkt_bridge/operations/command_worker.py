"""The command worker: reads operators' commands from the journal, has them carried out, and records the answers.

A command was made durable before it was acknowledged; what is open after a restart is carried out then.
"""

import json
import logging
import queue
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import tzinfo
from typing import Any, Final

from pydantic import ValidationError

from kkt_bridge.errors import KktBridgeError, StorageUnavailable
from kkt_bridge.journal.commands import finish_command, open_commands
from kkt_bridge.journal.journal import Journal
from kkt_bridge.journal.records import TakenCommand
from kkt_bridge.journal.transaction import Transaction
from kkt_bridge.receipts.model import Strict
from kkt_bridge.wire.commands import COMMANDS
from kkt_bridge.wire.decode import validation_faults
from kkt_bridge.wire.messages import CommandError, CommandEvent, CommandResult, FaultyField, rfc3339
from kkt_bridge.wire.topics import Topics

BATCH_MAX: Final = 20
"""Commands that are read at once."""

RETRY_S: Final = 1.0
"""Seconds before answers are written again, where the disk took none."""

Answer = dict[str, Any]
Handler = Callable[[Any, TakenCommand], "Answer | Future[Answer]"]
"""Takes the command's validated args, and its row; answers at once, or later."""

log = logging.getLogger(__name__)


class CommandFailed(Exception):
    """The command was not carried out; the operator is told why."""

    def __init__(self, code: str, message: str, fields: list[FaultyField] | None = None) -> None:
        super().__init__(message)
        self.error = CommandError(code=code, message=message, fields=fields or [])


class CommandWorker:
    """Carries out commands in the order in which they were taken."""

    def __init__(
        self,
        *,
        journal: Journal,
        handlers: Mapping[str, Handler],
        topics: Topics,
        zone: tzinfo,
        wake: Callable[[], None],
    ) -> None:
        self._journal = journal
        self._handlers = handlers
        self._topics = topics
        self._zone = zone
        self._wake = wake
        self._last = 0
        self._done: queue.SimpleQueue[tuple[TakenCommand, Future[Answer]]] = queue.SimpleQueue()
        self._unanswered: tuple[TakenCommand, Answer | CommandError] | None = None

    def step(self) -> float | None:
        """Carry out the commands that were taken, and answer those that are done."""
        try:
            self._answer_done()
            return self._carry_out()
        except StorageUnavailable as problem:
            log.warning("answers to commands wait for the disk: %s", problem)
            return RETRY_S

    def _carry_out(self) -> float | None:
        taken = self._journal.read(lambda connection: open_commands(connection, self._last, BATCH_MAX))
        for command in taken:
            self._last = command.id
            outcome = self._begin(command)
            if isinstance(outcome, Future):
                outcome.add_done_callback(lambda future, command=command: self._put_done(command, future))  # type: ignore[misc]
            else:
                self._answer(command, outcome)
        return 0.0 if len(taken) == BATCH_MAX else None

    def _begin(self, command: TakenCommand) -> "Answer | CommandError | Future[Answer]":
        try:
            return self._handlers[command.name](_parsed(command), command)
        except ValidationError as error:
            fields = [FaultyField(path=f"args.{path}", message=text) for path, text in validation_faults(error)]
            message = f"{fields[0].path}: {fields[0].message}"
            return CommandError(code="invalid_command", message=message, fields=fields)
        except Exception as error:  # noqa: BLE001 (whatever it is, the operator is told)
            return _as_error(error)

    def _put_done(self, command: TakenCommand, future: "Future[Answer]") -> None:
        self._done.put((command, future))
        self._wake()

    def _answer_done(self) -> None:
        if self._unanswered is not None:
            self._answer(*self._unanswered)
        while not self._done.empty():
            command, future = self._done.get_nowait()
            error = future.exception()
            self._answer(command, future.result() if error is None else _as_error(error))

    def _answer(self, command: TakenCommand, outcome: Answer | CommandError) -> None:
        self._unanswered = (command, outcome)  # until it is on the disk
        self._journal.write(lambda tx: self._write_answer(tx, command, outcome))
        self._unanswered = None
        how = outcome.code if isinstance(outcome, CommandError) else "done"
        log.info("command %s by %s: %s", command.name, command.issued_by, how)

    def _write_answer(self, tx: Transaction, command: TakenCommand, outcome: Answer | CommandError) -> None:
        at = rfc3339(tx.instant.wall_ms, self._zone)
        answer, error = (None, outcome) if isinstance(outcome, CommandError) else (outcome, None)
        ok = error is None
        result = CommandResult(command_id=command.command_id, ok=ok, result=answer, error=error, at=at).payload()
        event = CommandEvent(
            command_id=command.command_id,
            name=command.name,
            issued_by=command.issued_by,
            ok=ok,
            error=error.code if error is not None else None,
            reason=_reason_of(command),
            at=at,
        )
        finish_command(tx, command, result.decode())
        tx.publish(command.reply_topic, result, command.correlation)
        tx.publish(self._topics.event("command"), event.payload(), is_event=True)


def _as_error(error: BaseException) -> CommandError:
    if isinstance(error, CommandFailed):
        return error.error
    if isinstance(error, KktBridgeError):
        return CommandError(code="failed", message=str(error))
    log.error("a command failed in an unexpected way", exc_info=error)
    return CommandError(code="internal_error", message=f"{type(error).__name__}: {error}")


def _parsed(command: TakenCommand) -> Strict:
    return COMMANDS[command.name].model_validate(json.loads(command.args)["args"])


def _reason_of(command: TakenCommand) -> str | None:
    """Return the operator's reason; None if the command takes none, or its arguments were refused."""
    try:
        return getattr(_parsed(command), "reason", None)
    except (ValidationError, KeyError):
        return None
