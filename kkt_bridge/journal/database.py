"""The SQLite file: opened exclusively, checked, migrated; foreign errors translated here.

WAL with `synchronous=FULL`: a commit that returned is on the disk, and readers never wait for the writer.
"""

import logging
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from kkt_bridge.errors import JournalDamaged, JournalError, JournalLost, StorageUnavailable
from kkt_bridge.journal.copying import copy_pages, finish, unfinished
from kkt_bridge.journal.generation import (
    BRIDGE,
    FOREIGN,
    NAMELESS,
    SETTING,
    generation_of_file,
    new_generation,
    require_own_log,
)
from kkt_bridge.journal.lock import JournalLock, lock_of, require_one_name
from kkt_bridge.journal.migrate import known_schema, migrations
from kkt_bridge.journal.permissions import make_private, narrow
from kkt_bridge.journal.quarantine import (
    COMPANIONS,
    MARK,
    damaged_last,
    finish_quarantine,
    quarantine,
    rebuild_advice,
    signs_of_lost_journal,
)
from kkt_bridge.journal.settings import MARK_AS_RESTORED
from kkt_bridge.settings import journal_path

READER_CACHE_KIB: Final = 512
"""Pages that a reading connection keeps: there are several, they read little, and the system keeps the pages too."""

BUSY_TIMEOUT_MS: Final = 5000
"""How long a writer of another process (a backup, a shell) may hold the file before a commit fails."""

MIGRATION_SPARE_BYTES: Final = 32 << 20
"""Room that must be left beside the copy before a migration: for the log of what it changes."""

_CHUNK: Final = 1 << 20
"""Bytes read at once where a whole file is."""
_DISK: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_FOREIGN_SCHEMA: Final = re.compile(r"no such (table|column)|table \w+ has no column named")
"""What SQLite says where the file is not what the migrations made: every statement of the program fits that."""
_PRIMARY_CODE: Final = 0xFF
"""The lower byte of SQLite's extended result codes."""

log = logging.getLogger(__name__)

NewEngine = Callable[..., Engine]
"""Makes an engine, with the arguments of SQLAlchemy's `create_engine`."""

new_engine: Final[NewEngine] = create_engine


class Database:
    """The journal's file: one writing connection, and reading ones for whoever asks."""

    def __init__(
        self,
        url: str,
        *,
        bridge: str | None = None,
        anew: bool = False,
        new_engine: NewEngine = new_engine,
    ) -> None:
        """`bridge` is whose journal it is, where that is to be written into it.

        `anew`: a journal may begin here although one was lost or moved aside; for `verify --rebuild` alone.
        """
        self._bridge = bridge
        self._anew = anew
        self._new_engine = new_engine
        self.path = journal_path(url)
        self._url = URL.create("sqlite", database=str(self.path))
        self._lock = JournalLock(self.path)
        self._writer: Connection | None = None
        self._readers: Engine | None = None
        self.was_restored = False
        """Whether this start found another file than the one that was used here last: its memory may be an old one."""

    @property
    def writer(self) -> Connection:
        """The connection that the group commit, and nobody else, writes through."""
        assert self._writer is not None, "the database is not open"
        return self._writer

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """A connection that sees what is committed."""
        assert self._readers is not None, "the database is not open"
        with translated(), self._readers.connect() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One write transaction, committed at the end of the block. Errors: JournalError and its kinds."""
        # Past SQLAlchemy's own bookkeeping of transactions, which costs more than SQLite's BEGIN and COMMIT.
        writer = self._writer
        assert writer is not None, "the database is not open"
        driver: Any = writer.connection.driver_connection
        with translated():
            driver.execute("BEGIN IMMEDIATE")
            try:
                yield writer
                writer.dialect.do_commit(driver)
            finally:
                # A COMMIT that fails may leave SQLite's transaction open: every later BEGIN would fail, long after
                # the disk is well again.
                if driver.in_transaction:
                    driver.rollback()

    def open(self) -> None:
        """Take the file for this process alone, check it and bring its schema up to date.

        Errors: JournalInUse; JournalLost; JournalDamaged, and the damaged file was moved aside; StorageUnavailable;
        JournalError where what is there must not be opened.
        """
        self._lock.take()
        try:
            self._require_no_lost_journal()
            require_one_name(self.path)
            require_own_log(self.path, self._lock.generations)
            in_file = generation_of_file(self.path)
            self._make_private()
            with translated():
                engine = self._new_engine(
                    self._url,
                    poolclass=NullPool,
                    connect_args={"check_same_thread": False},
                    isolation_level="AUTOCOMMIT",
                    hide_parameters=True,
                )
                event.listen(engine, "connect", _prepare_writer)
                self._writer = engine.connect()
                self._check()
                self._migrate()
                self._begin_generation(in_file)
                self._readers = self._new_engine(self._url, isolation_level="AUTOCOMMIT", hide_parameters=True)
                event.listen(self._readers, "connect", _prepare_reader)
            self._lock.note_success()
        except JournalDamaged as damage:
            verdict = self._verdict(damage)
            self.close()
            raise verdict from damage
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        if self._readers is not None:
            self._readers.dispose()
            self._readers = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._lock.release()

    def _require_no_lost_journal(self) -> None:
        """Begin no empty journal in the place of one that is gone: it would not know what was printed.

        Errors: JournalDamaged, JournalLost.
        """
        if not self.path.exists():
            if self._anew:
                return
            finish_quarantine(self.path, self._lock.generations)
            if moved := damaged_last(self.path):
                raise _Lost(f"{self.path}: there is no journal, and {moved.name} beside it was damaged")
            if lost := signs_of_lost_journal(self.path):
                raise JournalLost(lost)
        elif self._lock.is_known and self.path.stat().st_size == 0:
            raise JournalDamaged("the journal is damaged: the file is empty")

    def _make_private(self) -> None:
        """Have the files readable by the bridge's user alone; SQLite gives log and index the rights of the database."""
        try:
            make_private(self.path)
        except OSError as error:
            raise StorageUnavailable(f"{self.path}: the journal cannot be made: {error.strerror}") from None
        companions = (self.path.with_name(self.path.name + suffix) for suffix in COMPANIONS)
        narrow((self.path, lock_of(self.path), *companions))

    def _check(self) -> None:
        findings = self.writer.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if findings != "ok":
            raise JournalDamaged(f"the journal is damaged: {' '.join(str(findings).split())}")

    def _verdict(self, damage: JournalDamaged) -> JournalError:
        """Move the damaged file aside, unless it is the disk that fails, or a file that never was a journal."""
        if isinstance(damage, _Lost):
            return JournalDamaged(f"{damage}; {rebuild_advice(self.path)}")
        try:
            _read_all(self.path)
            if not self._lock.is_known:
                return JournalDamaged(
                    f"{self.path}: {damage}; no bridge has run on this file: name another one in journal.url, or, "
                    f"if it was a journal, rename it to {self.path.name}{MARK}BY-HAND and {rebuild_advice(self.path)}"
                )
            moved = quarantine(self.path)
        except OSError as error:
            message = f"{self.path}: {damage}, and it can be neither read nor moved aside: {error.strerror}"
            return StorageUnavailable(f"{message}: see to the disk")
        return JournalDamaged(f"{self.path}: {damage}; it was moved to {moved.name}: {rebuild_advice(self.path)}")

    def _migrate(self) -> None:
        """Run the migrations that this file has not seen, once there is a copy of what it was."""
        done = int(self.writer.exec_driver_sql("PRAGMA user_version").scalar_one())
        if done > known_schema():
            raise JournalError(
                f"{self.path}: written by a newer kkt-bridge (schema {done}, known {known_schema()}): install that one "
                f"again, or go back to a copy from before with `kkt-bridge restore COPY --config FILE`"
            )
        if 0 < done < known_schema():
            self._keep_copy(done)
        for migration in migrations():
            if migration.number > done:
                with self.transaction():
                    for statement in migration.statements:
                        self.writer.exec_driver_sql(statement)
                    self.writer.exec_driver_sql(f"PRAGMA user_version = {migration.number}")

    def _keep_copy(self, done: int) -> None:
        """Keep what is there now, in case somebody wants to go back to the release that wrote it."""
        target = self.path.with_name(f"{self.path.name}.before-schema-{known_schema()}")
        source: Any = self.writer.connection.driver_connection
        (size,) = source.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size").fetchone()
        free = shutil.disk_usage(self.path.parent).free
        if free < size + MIGRATION_SPARE_BYTES:
            raise StorageUnavailable(
                f"{self.path}: is of schema {done} and is to be brought to {known_schema()}, but there is no room for "
                f"a copy of it: {(size + MIGRATION_SPARE_BYTES) >> 20} MiB are needed, {free >> 20} are free: make room"
            )
        try:
            with unfinished(target) as made:
                copy_pages(source, made)
                finish(made, target)
        except OSError as error:
            raise StorageUnavailable(f"{target}: the copy before the new schema failed: {error.strerror}") from None
        story = "%s: brought from schema %d to %d; as it was it is kept in %s"
        log.warning(story, self.path, done, known_schema(), target.name)

    def _begin_generation(self, in_file: str | None) -> None:
        """Give the file a new generation, and have it there before the log grows (see generation.py).

        `in_file` is the one that the file had without its log. Where the disk takes nothing now, the old ones stay:
        they were this file's, and still are.
        """
        source: Any = self.writer.connection.driver_connection
        row = source.execute("SELECT value FROM settings WHERE name = ?", (SETTING,)).fetchone()
        known, found = self._lock.generations, str(row[0]) if row else NAMELESS
        self.was_restored = found not in known or found + FOREIGN in known
        if known and found not in known:
            log.warning("%s is not the file that was used here last: a copy was put back", self.path)
        new = new_generation()
        # The file may go without any of these into the next start, by a kill now or by a checkpoint later.
        old = {found} if in_file is None else {in_file, found}
        foreign = {name + FOREIGN for name in old} if self.was_restored else set()
        if not self._lock.remember(frozenset({*old, *foreign, new})):
            return
        try:
            with self.transaction() as writer:
                for statement in MARK_AS_RESTORED if self.was_restored else ():
                    writer.exec_driver_sql(statement)
                for name, value in ((SETTING, new), (BRIDGE, self._bridge)):
                    if value is not None:
                        writer.exec_driver_sql("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))
            (busy, *_) = source.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except (JournalDamaged, sqlite3.DatabaseError, JournalError) as error:
            log.warning("%s: %s", self.path, error)
            return
        if not busy:
            self._lock.remember(frozenset({new}))


class _Lost(JournalDamaged):
    """There is no journal where a damaged one was moved aside."""


def _read_all(path: Path) -> None:
    """Read every byte: a disk that fails looks to SQLite much like damage, and passes. OSError where it does."""
    for suffix in ("", *COMPANIONS):
        part = path.with_name(path.name + suffix)
        if part.exists():
            with part.open("rb", buffering=0) as file:
                while file.read(_CHUNK):
                    pass


@contextmanager
def translated() -> Iterator[None]:
    """The driver's errors as ours: is the disk to blame, the file, or we?"""
    try:
        yield
    except sqlite3.Error as error:
        raise _ours(error) from error
    except DBAPIError as error:
        raise _ours(error.orig) from error
    except SQLAlchemyError as error:
        raise JournalError(f"the journal failed: {error}") from error


def _ours(error: BaseException | None) -> JournalError:
    code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
    if code in _DAMAGE or _FOREIGN_SCHEMA.match(str(error)):
        return JournalDamaged(f"the journal is damaged: {error}")
    if code in _DISK:
        return StorageUnavailable(f"the journal's disk does not take it: {error}")
    return JournalError(f"the journal refused: {error}")


def _prepare_writer(dbapi_connection: Any, _record: Any) -> None:
    # The driver's own transaction control is off: BEGIN IMMEDIATE below, nothing implicit.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    if cursor.execute("PRAGMA page_count").fetchone() == (0,):
        cursor.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only a file that holds nothing yet takes it
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "wal_autocheckpoint = 4000",
        "journal_size_limit = 16777216",
        "temp_store = MEMORY",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare_reader(dbapi_connection: Any, _record: Any) -> None:
    dbapi_connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    dbapi_connection.execute("PRAGMA query_only = 1")
    dbapi_connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
