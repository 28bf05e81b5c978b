"""What a statement costs must not depend on what is stored: every one finds its rows by an index."""

import importlib
import pkgutil
import re
from itertools import chain

import pytest
from support.clocks import ManualClock
from support.stages import new_journal

import kkt_bridge.journal as room
from kkt_bridge.journal.statements import SIZES, BulkInsert, PreparedStatement, WhereIn, prepared_insert
from kkt_bridge.journal.tables import settings
from kkt_bridge.journal.transaction import _move_statements

GROWING = {"receipts", "requests", "documents", "steps", "outbox", "tombstones", "commands"}

REASONS = {
    "document_queue._FAILING": "once a start, and only what the OFD does not have: ordered where there is much",
    "recovered._OWNER": "the documents whose receipts were lost, when a person adopts one of them",
    "document_queue._FIRST_WAIT": "the first entry of an index that holds only what waits",
    "receipts._TRIM_REFUSALS_OF_POS": "some thousand refusals: it is what keeps them so few",
    "receipts._LAST_REFUSAL": "some thousand refusals, when an operator asks for a receipt that was never taken",
    "receipts._TRIM_REFUSALS": "some thousand refusals: it is what keeps them so few",
}
"""Statements that say SCAN and may: what they walk is small, for the reason given."""


def statements():
    """Every prepared statement of the journal by its name, those in tuples and for several keys numbered."""
    found = {f"transaction._move_statements[{size}]": _move_statements(("fd_before",))[size] for size in SIZES}
    for module in pkgutil.iter_modules(room.__path__):
        if module.ispkg:
            continue
        members = vars(importlib.import_module(f"{room.__name__}.{module.name}"))
        for name, member in members.items():
            if isinstance(member, PreparedStatement):
                found[f"{module.name}.{name}"] = member
            elif isinstance(member, BulkInsert):
                found[f"{module.name}.{name}"] = member._one
            elif isinstance(member, WhereIn):
                found |= {f"{module.name}.{name}[{size}]": part for size, part in member._by_size.items()}
            elif isinstance(member, tuple):
                parts = chain.from_iterable(each if isinstance(each, tuple) else (each,) for each in member)
                several = [part for part in parts if isinstance(part, PreparedStatement)]
                found |= {f"{module.name}.{name}[{number}]": part for number, part in enumerate(several)}
    return found


STATEMENTS = statements()


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    journal = new_journal(tmp_path_factory.mktemp("journal"), ManualClock())
    yield journal._database.writer
    journal.close()


def plan_of(writer, statement):
    text = statement.text(writer)
    values = [None] * len(statement._names)
    return [row[3] for row in writer.connection.execute(f"EXPLAIN QUERY PLAN {text}", values)]


def walks(step):
    """Whether a step of a plan reads more than it was asked for; the values of the statement itself are no table."""
    if "TEMP B-TREE" in step or "AUTOMATIC" in step:
        return True
    return bool(re.match(r"SCAN (?!moved$|(\d+ )?CONSTANT ROWS?$)", step))


def test_all_statements_are_looked_at():
    assert len(STATEMENTS) > 40
    assert set(REASONS) <= set(STATEMENTS)


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_walks_a_growing_table(writer, name):
    steps = [step for step in plan_of(writer, STATEMENTS[name]) if walks(step)]
    assert bool(steps) == (name in REASONS), steps


@pytest.mark.parametrize("name", REASONS)
def test_the_exceptions_walk_no_whole_table(writer, name):
    for step in plan_of(writer, STATEMENTS[name]):
        scanned = re.match(r"SCAN (\w+)( USING INDEX \w+)?$", step)
        assert scanned is None or scanned[2] or scanned[1] not in GROWING, step


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_names_the_growing_tables_it_changes_by_key(writer, name):
    """An UPDATE or DELETE without WHERE would be a catastrophe that no plan shows."""
    text = STATEMENTS[name].text(writer)
    if text.startswith(("UPDATE", "DELETE")):
        assert "WHERE" in text


def test_a_value_that_no_statement_asked_for_is_refused(writer):
    """The other way to lose a column: to be told of it and not to write it."""
    statement = prepared_insert(settings.insert())
    with pytest.raises((AssertionError, KeyError, TypeError)):
        statement(writer, {"name": "a", "value": "b", "strikes": 3})
    with pytest.raises(KeyError):
        statement(writer, {"name": "a"})


def test_rows_come_with_their_columns_by_name(writer):
    statement = STATEMENTS["settings.SET_SETTING"]
    assert statement(writer, [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]).rowcount == 2
    assert STATEMENTS["settings._GET"](writer, {"name": "b"}).fetchone().value == "2"
    assert STATEMENTS["settings._GET"](writer, {"name": "c"}).fetchone() is None
    assert STATEMENTS["settings._GET"].scalar(writer, {"name": "c"}, str) is None
