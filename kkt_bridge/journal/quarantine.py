"""A journal moved aside, damaged or replaced: kept for `verify --rebuild` and for whoever looks, never deleted."""

import glob
import os
import re
import time
from pathlib import Path
from typing import Final

from kkt_bridge.journal.generation import generation_of_file
from kkt_bridge.journal.lock import KNOWN, lock_of

MARK: Final = ".damaged-"
REPLACED: Final = ".replaced-"
"""The same for one that made room for another: whole, and no longer the journal."""

COMPANIONS: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; moved along, so that it still opens under the new name."""

_STAMP: Final = "%Y%m%dT%H%M%SZ"
"""When it was moved, in the name."""
_STAMPED: Final = re.compile(r"\d{8}T\d{6}Z")


def rebuild_advice(journal: Path) -> str:
    """What to do when this journal was moved aside."""
    return (
        f"run `kkt-bridge verify --rebuild --config FILE` to make {journal.name} anew from what it and the fiscal "
        "storages still hold, then start the bridge again"
    )


def quarantined_files(journal: Path, mark: str = MARK) -> list[Path]:
    """The journals that stand beside this one, moved there with this mark, in the order in which they were."""
    files = journal.parent.glob(f"{glob.escape(journal.name)}{mark}*")
    return sorted(
        (path for path in files if not path.name.endswith(COMPANIONS)), key=lambda path: _moved_at(path, mark)
    )


def all_quarantined(journal: Path) -> list[Path]:
    """The journals that stand beside this one, damaged and replaced, in the order in which they were moved there."""
    return [path for _, path in sorted(_all_stamped(journal))]


def damaged_last(journal: Path) -> Path | None:
    """The newest that was moved aside, if it was for damage; None if none was, or one was replaced after it."""
    newest = max(_all_stamped(journal), default=None)
    return newest[1] if newest is not None and newest[1].name.startswith(journal.name + MARK) else None


def signs_of_lost_journal(path: Path) -> str | None:
    """Of a journal that is not there: what says that it should be, and the ways out; None where nothing does."""
    lock = lock_of(path)
    known = lock.exists() and lock.read_bytes().startswith(KNOWN.rstrip())
    strays = [stray for suffix in COMPANIONS if (stray := path.with_name(path.name + suffix)).exists()]
    replaced = quarantined_files(path, REPLACED)
    if not (known or replaced or any(stray.stat().st_size for stray in strays)):
        return None
    reasons = [f"{lock.name} says that a bridge has kept one here"] if known else []
    reasons += [f"{stray.name} of one is left" for stray in strays]
    if replaced:
        reasons.append(f"{replaced[-1].name} was moved aside by a restore that did not end, so repeat it")
    names = " and ".join(file.name for file in (lock, *strays) if file.exists())
    fresh = f"remove {names}" if names else f"move {replaced[-1].name} elsewhere"
    return (
        f"{path}: there is no journal, but {', '.join(reasons)}: is its disk mounted? Nothing was begun. Put a copy "
        "back with `kkt-bridge restore COPY --config FILE`, or make it anew from what is left and "
        "what the registers hold with `kkt-bridge verify --rebuild --config FILE`; only if a new, "
        f"empty one is really to begin here, {fresh}"
    )


def quarantine(journal: Path, now_s: float | None = None, *, mark: str = MARK) -> Path:
    """Move a journal out of the way, with its companions; return where it is now.

    It may be open: SQLite neither checkpoints nor deletes anything of a database that was moved. The database goes
    first: interrupted in between, there is no journal any more, and `finish_quarantine` does the rest.
    """
    target = _next_name(journal, now_s, mark)
    journal.rename(target)
    sync_directory(journal.parent)
    move_companions(journal, target)
    return target


def finish_quarantine(journal: Path, generations: frozenset[str]) -> None:
    """Of a journal that is not there: bring the newest that was moved aside its companions, if they are its own.

    `generations` are those that the lock remembers. The log of a journal that came later keeps to itself: read into
    an older file, it would make of both what never was.
    """
    newest = max(_all_stamped(journal), default=None)
    if newest is None:
        return
    found = generation_of_file(newest[1])
    if found is None or not generations or found in generations:
        move_companions(journal, newest[1])


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
    stamp = time.strftime(_STAMP, time.gmtime(now_s))
    newest = max((moved_at for moved_at, _ in _all_stamped(journal)), default="")
    return journal.with_name(f"{journal.name}{mark}{stamp if newest < stamp else f'{newest}-{stamp}'}")


def _all_stamped(journal: Path) -> list[tuple[str, Path]]:
    return [(_moved_at(path, mark), path) for mark in (MARK, REPLACED) for path in quarantined_files(journal, mark)]


def _moved_at(path: Path, mark: str) -> str:
    """The stamp in its name, with what was added behind it; of one renamed by hand, when it was last written."""
    stamp = path.name.rpartition(mark)[2]
    return stamp if _STAMPED.match(stamp) else time.strftime(_STAMP, time.gmtime(path.stat().st_mtime))
