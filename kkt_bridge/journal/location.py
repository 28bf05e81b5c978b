"""The place of a journal: is it one that a bridge may rely on, and was there a journal before?"""

from pathlib import Path
from typing import Final

from kkt_bridge.errors import JournalError
from kkt_bridge.journal.lock import KNOWN, lock_of
from kkt_bridge.journal.quarantine import COMPANIONS, REPLACED, quarantined_files

_MOUNTS: Final = Path("/proc/self/mounts")


def require_one_name(path: Path) -> None:
    """See that the file can be reached by this path alone: lock and log go by the name. Errors: JournalError."""
    if path.exists() and not path.is_dir() and path.stat().st_nlink > 1:
        raise JournalError(
            f"{path}: the file has a second name (a hard link), and under that one it would be locked and logged "
            "apart: remove the other name; a copy is made with `kkt-bridge backup`"
        )
    if str(path) in _mount_points():
        raise JournalError(f"{path}: is mounted by itself, without its log and its lock: mount its folder instead")


def what_tells_of_a_lost_journal(path: Path) -> str | None:
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


def _mount_points() -> set[str]:
    try:
        rows = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return {row.split()[1].replace("\\040", " ") for row in rows}
