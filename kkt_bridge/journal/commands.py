"""Operators' commands: taken durably, carried out once, their results kept."""

from dataclasses import fields
from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from kkt_bridge.journal.records import TakenCommand
from kkt_bridge.journal.statements import PreparedStatement, prepared_insert
from kkt_bridge.journal.tables import IS_FINISHED_COMMAND, IS_OPEN_COMMAND, commands
from kkt_bridge.journal.transaction import Transaction

ONLY_ASK: Final = frozenset({"status", "receipt", "buffer-list", "dlq-list"})
"""Commands that change nothing: no audit needs them, and a dashboard sends them all day."""

ANSWERS_KEPT_MS: Final = 60_000
"""Milliseconds for which the answer to a command that only asks is kept: asked again later, it is answered anew."""

ANSWERS_DROPPED_MAX: Final = 20
"""Old answers dropped in the commit of a new one."""


def find_command(connection: Connection, command_id: str) -> TakenCommand | None:
    """The command with this id, if it was ever taken."""
    row = _FIND(connection, {"command_id": command_id}).fetchone()
    return TakenCommand(*row) if row is not None else None


def take_command(
    tx: Transaction,
    *,
    command_id: str,
    name: str,
    issued_by: str,
    args: str,
    reply_topic: str,
    correlation: bytes | None,
) -> None:
    """Take a command; it is carried out after this commit."""
    audited = (command_id, name, issued_by, args, reply_topic, correlation)
    _TAKE(tx.connection, (tx.new_id(), *audited, int(name in ONLY_ASK), tx.instant.wall_ms))
    tx.commands_touched = True


def open_commands(connection: Connection, after: int, limit: int) -> list[TakenCommand]:
    """Commands taken and not yet carried out, behind this row id."""
    return [TakenCommand(*row) for row in _OPEN(connection, {"after": after, "limit": limit})]


def note_command(tx: Transaction, taken: TakenCommand, args: str) -> None:
    """Keep with a command that is open what a repeat of it after a restart has to know: `args` with that in it."""
    _NOTE(tx.connection, {"row_id": taken.id, "new_args": args})


def finish_command(tx: Transaction, taken: TakenCommand, result: str) -> None:
    """Keep what came of it; of one that only asks no longer than a redelivery of it may take."""
    _FINISH(tx.connection, {"row_id": taken.id, "new_result": result, "new_finished": tx.instant.steady_ms})
    if taken.name in ONLY_ASK:
        _DROP_ANSWERED(tx.connection, {"before": tx.instant.steady_ms - ANSWERS_KEPT_MS, "limit": ANSWERS_DROPPED_MAX})


_c = commands.c
_columns = select(*(_c[each.name] for each in fields(TakenCommand)))
_FIND: Final = PreparedStatement(_columns.where(_c.command_id == bindparam("command_id")))
_OPEN: Final = PreparedStatement(
    _columns.where(IS_OPEN_COMMAND, _c.id > bindparam("after")).order_by(_c.id).limit(bindparam("limit"))
)
_FINISH: Final = PreparedStatement(
    update(commands)
    .where(_c.id == bindparam("row_id"))
    .values(result=bindparam("new_result"), finished_steady_ms=bindparam("new_finished"))
)
_NOTE: Final = PreparedStatement(
    update(commands).where(_c.id == bindparam("row_id")).values(args=bindparam("new_args"))
)
_answered = (
    select(_c.id)
    .where(IS_FINISHED_COMMAND, _c.only_asks == 1, _c.finished_steady_ms < bindparam("before"))
    .order_by(_c.finished_steady_ms)
    .limit(bindparam("limit"))
)
_DROP_ANSWERED: Final = PreparedStatement(delete(commands).where(_c.id.in_(_answered)))
_TAKE: Final = prepared_insert(insert(commands), without={"finished_steady_ms", "result"})
