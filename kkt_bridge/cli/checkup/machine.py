"""The machine's clock, and the disk under the journal."""

import shutil
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final

from kkt_bridge.cli.checkup.findings import CheckupFinding, fail, ok, warn
from kkt_bridge.clock import Clock
from kkt_bridge.settings import Settings

YEAR_MIN: Final = 2026
"""This program did not exist before: a clock that says so has lost its battery."""

FREE_BYTES_FAIL: Final = 20 << 20
FREE_BYTES_WARN: Final = 500 << 20
MIB: Final = 1 << 20

_REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph"})
"""File systems on which neither locks nor syncs can be relied on as SQLite needs them."""

_VOLATILE: Final = frozenset({"tmpfs", "ramfs"})
_MOUNTS: Final = Path("/proc/self/mounts")


def examine_clock(settings: Settings, clock: Clock) -> CheckupFinding:
    """The time of the machine, as the shop reads it."""
    now = local_time(clock, settings.zone)
    shown = f"{now:%Y-%m-%d %H:%M:%S %z} in {settings.timezone}"
    if now.year < YEAR_MIN:
        return fail(
            "clock", shown, "set the clock, and have it kept by NTP: a register refuses documents from the past"
        )
    return ok("clock", shown)


def local_time(clock: Clock, zone: tzinfo) -> datetime:
    """The machine's time in this zone."""
    return (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=clock.now_ms())).astimezone(zone)


def examine_journal_directory(directory: Path) -> list[CheckupFinding]:
    """Whether the journal can live there: is it there, writable, roomy, and on a disk of this machine?"""
    check = "journal directory"
    place = nearest_existing(directory)
    if not place.is_dir():
        return [fail(check, f"{place} is no directory", "name another one in journal.url")]
    there = f"{directory} is there" if place == directory else f"{directory} is made at the first start"
    return [ok(check, there), _examine_room(place), _examine_file_system(place)]


def nearest_existing(path: Path) -> Path:
    """The path itself, or the nearest directory above that is there."""
    absolute = path.absolute()
    return next(place for place in (absolute, *absolute.parents) if place.exists())


def _examine_room(place: Path) -> CheckupFinding:
    free = shutil.disk_usage(place).free
    shown = f"{free // MIB} MiB free at {place}"
    advice = "make room: a full disk makes the bridge refuse receipts"
    if free < FREE_BYTES_FAIL:
        return fail("free space", shown, advice)
    return warn("free space", shown, advice) if free < FREE_BYTES_WARN else ok("free space", shown)


def _examine_file_system(place: Path) -> CheckupFinding:
    kind = _file_system(place)
    if kind in _REMOTE:
        return warn(
            "file system", f"{kind} at {place}", "put the journal on a disk of this machine: receipts may be lost"
        )
    if kind in _VOLATILE:
        return warn(
            "file system", f"{kind} at {place}", "put the journal on a disk: this one forgets when switched off"
        )
    return ok("file system", f"{kind or 'unknown'} at {place}")


def _file_system(place: Path) -> str | None:
    """The kind of the mount that holds this path (fstab(5)): of nested mounts the inmost, of stacked ones the last."""
    try:
        rows = [row.split() for row in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return None
    resolved = place.resolve()
    # Spaces in a mount point stand there in octal.
    mounts = [(Path(row[1].replace("\\040", " ")), row[2]) for row in rows]
    holding = [(len(mount.parts), kind) for mount, kind in mounts if resolved.is_relative_to(mount)]
    deepest = max((depth for depth, _ in holding), default=0)
    return next((kind for depth, kind in reversed(holding) if depth == deepest), None)
