"""A journal moved aside, damaged or replaced: kept for `verify --rebuild` and for whoever looks, never deleted."""

import os
import time
from pathlib import Path
from typing import Final

MARK: Final = ".damaged-"
REPLACED: Final = ".replaced-"
"""The same for one that made room for another: whole, and no longer the journal."""

COMPANIONS: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; moved along, so that it still opens under the new name."""


def rebuild_advice(journal: Path) -> str:
    """What to do when this journal was moved aside."""
    return (
        f"run `kkt-bridge verify --rebuild --config FILE` to make {journal.name} anew from what it and the fiscal "
        "storages still hold, then start the bridge again"
    )


def set_aside_files(journal: Path, mark: str = MARK) -> list[Path]:
    """The journals that stand beside this one, moved there with this mark, in the order in which they were."""
    names = sorted(path for path in journal.parent.glob(f"{_escaped(journal.name)}{mark}*"))
    return [path for path in names if not path.name.endswith(COMPANIONS)]


def set_aside(journal: Path, now_s: float | None = None, *, mark: str = MARK) -> Path:
    """Move a journal out of the way, with its companions; return where it is now.

    It may be open: SQLite neither checkpoints nor deletes anything of a database that was moved. The database goes
    first: interrupted in between, there is no journal any more, and `finish_setting_aside` does the rest.
    """
    target = _next_name(journal, now_s, mark)
    journal.rename(target)
    sync_directory(journal.parent)
    move_companions(journal, target)
    return target


def finish_setting_aside(journal: Path, mark: str = MARK) -> Path | None:
    """Of a journal that is not there: the newest that was moved aside, whole now; None if there is none."""
    newest = max(set_aside_files(journal, mark), default=None)
    if newest is not None:
        move_companions(journal, newest)
    return newest


def move_companions(journal: Path, target: Path) -> None:
    """Bring them after the database; a new journal must never meet the log of an old one."""
    for suffix in COMPANIONS:
        source = journal.with_name(journal.name + suffix)
        goal = target.with_name(target.name + suffix)
        if source.exists() and not goal.exists():
            source.rename(goal)
    sync_directory(journal.parent)


def sync_directory(directory: Path) -> None:
    """Have the names in it on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _next_name(journal: Path, now_s: float | None, mark: str) -> Path:
    """A name behind all that are there: a clock that went back must not make the newest look like an old one."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    target = journal.with_name(f"{journal.name}{mark}{stamp}")
    newest = max(set_aside_files(journal, mark), default=None)
    return target if newest is None or newest < target else newest.with_name(f"{newest.name}-{stamp}")


def _escaped(name: str) -> str:
    """A file name as a pattern that matches nothing else."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)
