"""The SQLite file: opened exclusively, checked, migrated; foreign errors translated here.

WAL with `synchronous=FULL`: a commit that returned is on the disk, and readers never wait for the writer.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from kkt_bridge.errors import JournalDamaged, JournalError, StorageUnavailable
from kkt_bridge.journal.lock import JournalLock
from kkt_bridge.journal.schema import known_schema, migrations
from kkt_bridge.journal.set_aside import COMPANIONS, MARK, finish_setting_aside, rebuild_advice, set_aside

BUSY_TIMEOUT_MS: Final = 5000
"""How long a writer of another process (a backup, a shell) may hold the file before a commit fails."""

_CHUNK: Final = 1 << 20
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
_PRIMARY_CODE: Final = 0xFF
"""The lower byte of SQLite's extended result codes."""


class Database:
    """The journal's file: one writing connection, and reading ones for whoever asks."""

    def __init__(self, url: str, *, anew: bool = False) -> None:
        """`anew`: a journal may begin here although a damaged one was moved aside; for `verify --rebuild` alone."""
        self._url = url
        self._anew = anew
        self.path = Path(url.removeprefix("sqlite:///"))
        self._lock = JournalLock(self.path)
        self._writer: Connection | None = None
        self._readers: Engine | None = None

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
        writer = self.writer
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

        Errors: JournalInUse; JournalDamaged, and the damaged file was moved aside; StorageUnavailable.
        """
        self._lock.take()
        try:
            self._require_what_was_there()
            with translated():
                engine = create_engine(
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
                self._readers = create_engine(self._url, isolation_level="AUTOCOMMIT", hide_parameters=True)
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

    def _require_what_was_there(self) -> None:
        """Begin no empty journal in the place of a damaged one: it would not know what was printed.

        Errors: JournalDamaged.
        """
        if not self.path.exists():
            moved = None if self._anew else finish_setting_aside(self.path)
            if moved is not None:
                raise _Lost(f"{self.path}: there is no journal, and {moved.name} beside it was damaged")
        elif self._lock.is_known and self.path.stat().st_size == 0:
            raise JournalDamaged("the journal is damaged: the file is empty")

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
            moved = set_aside(self.path)
        except OSError as error:
            message = f"{self.path}: {damage}, and it can be neither read nor moved aside: {error.strerror}"
            return StorageUnavailable(f"{message}: see to the disk")
        return JournalDamaged(f"{self.path}: {damage}; it was moved to {moved.name}: {rebuild_advice(self.path)}")

    def _migrate(self) -> None:
        """Run the migrations that this file has not seen."""
        done = int(self.writer.exec_driver_sql("PRAGMA user_version").scalar_one())
        if done > known_schema():
            raise JournalError(f"{self.path}: written by a newer kkt-bridge (schema {done}, known {known_schema()})")
        for migration in migrations():
            if migration.number > done:
                with self.transaction():
                    for statement in migration.statements:
                        self.writer.exec_driver_sql(statement)
                    self.writer.exec_driver_sql(f"PRAGMA user_version = {migration.number}")


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
    if code in _DAMAGE:
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
