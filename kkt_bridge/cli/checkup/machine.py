"""The machine: its clock, the disk under the journal, and the rights of the bridge's user.

Rights are tried, not computed: modes, access lists, mounts and security modules all have their say. Each file is opened
as the bridge would open it, and closed untouched; a folder gets a file that is taken away at once. Root may do
everything, so where root asks, a child process tries it as the bridge's user.
"""

import grp
import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Final, NamedTuple

from kkt_bridge.cli.checkup import CheckupFinding, fail, ok, warn
from kkt_bridge.clock import Clock
from kkt_bridge.journal.lock import lock_of
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
    """Check the time of the machine, shown as the shop reads it."""
    now = local_time(clock, settings.zone)
    shown = f"{now:%Y-%m-%d %H:%M:%S %z} in {settings.timezone}"
    if now.year < YEAR_MIN:
        return fail(
            "clock", shown, "set the clock, and have it kept by NTP: a register refuses documents from the past"
        )
    return ok("clock", shown)


def local_time(clock: Clock, zone: tzinfo) -> datetime:
    """Return the machine's time in this zone."""
    return (datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=clock.now_ms())).astimezone(zone)


def examine_journal_directory(directory: Path) -> list[CheckupFinding]:
    """Check that the directory is there, writable, roomy, and on a disk of this machine."""
    check = "journal directory"
    place = nearest_existing(directory)
    if not place.is_dir():
        return [fail(check, f"{place} is no directory", "name another one in journal.url")]
    there = f"{directory} is there" if place == directory else f"{directory} is made at the first start"
    return [ok(check, there), _examine_room(place), _examine_file_system(place)]


def nearest_existing(path: Path) -> Path:
    """Return the path itself, or the nearest directory above that is there."""
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
    """Return the kind of this path's mount (fstab(5)): of nested ones the inmost, of stacked ones the last."""
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


RIGHTS: Final = "rights"


class Obstacle(NamedTuple):
    """Something that the user may not do: the file or folder, the attempt, and the system's answer."""

    path: str
    attempt: str
    reason: str


def bridge_account(settings: Settings) -> pwd.struct_passwd:
    """Return the likely user of the bridge: who asks, or, where that is root, the owner of the journal's folder."""
    uid = os.geteuid()
    if uid == 0:
        with suppress(OSError):
            uid = nearest_existing(settings.journal.path.parent).stat().st_uid
    try:
        return pwd.getpwuid(uid)
    except KeyError:  # a container may run under a number without a name
        return pwd.struct_passwd((str(uid), "", uid, os.getegid(), "", "", ""))


def examine_rights(config: Path, settings: Settings, user: pwd.struct_passwd) -> Iterator[CheckupFinding]:
    """Check what this user may do: one finding for all that cannot be read, one for all that cannot be written."""
    tried = _try_as(user, config, settings)
    unread = [each for each in tried if each.attempt == "read"]
    unwritten = [each for each in tried if each.attempt != "read"]
    if unread:
        files = " ".join(sorted(each.path for each in unread))
        yield fail(
            RIGHTS, _described(unread, user), f"chgrp {_group(user)} {files} && chmod 640 {files}, and see its folders"
        )
    if unwritten:
        files = " ".join(sorted({each.path for each in unwritten}))
        advice = f"chown {user.pw_name}: {files}"
        if any("Permission" not in each.reason for each in unwritten):
            advice = f"see how its disk is mounted; or {advice}"
        yield fail(RIGHTS, _described(unwritten, user), advice)
    if not tried:
        yield ok(
            RIGHTS, f"user {user.pw_name} can read the settings, and write the journal and the registers' storages"
        )


def _described(obstacles: list[Obstacle], user: pwd.struct_passwd) -> str:
    described = "; ".join(f"{each.path}{_owner(each.path)}: {each.reason}" for each in obstacles)
    return f"user {user.pw_name} cannot {obstacles[0].attempt} {described}"


def _owner(path: str) -> str:
    try:
        status = Path(path).stat()
    except OSError:
        return ""
    try:
        name = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        name = str(status.st_uid)
    return f" (of {name}, mode {status.st_mode & 0o7777:04o})"


def _group(user: pwd.struct_passwd) -> str:
    try:
        return grp.getgrgid(user.pw_gid).gr_name
    except KeyError:
        return str(user.pw_gid)


def _try_as(user: pwd.struct_passwd, config: Path, settings: Settings) -> list[Obstacle]:
    if user.pw_uid == os.geteuid():
        return list(_try_all(config, settings))
    # Only root gets here, before this program has a second thread: a fork is safe, and keeps what was loaded.
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.initgroups(user.pw_name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            os.write(write_end, json.dumps(list(_try_all(config, settings))).encode())
            os._exit(0)
        os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read()
    if os.waitpid(child, 0)[1] != 0:
        return [Obstacle(str(config), "be tried:", f"this process could not become {user.pw_name}")]
    return [Obstacle(*each) for each in json.loads(answer)]


def _try_all(config: Path, settings: Settings) -> Iterator[Obstacle]:
    ofd = settings.ofd
    named = (settings.mqtt.password_file, ofd.token_file, ofd.tls.ca, ofd.tls.cert, ofd.tls.key)
    for file in (config, *(path for path in named if path is not None)):
        yield from _try_to_open(file, os.O_RDONLY, "read")
    journal = settings.journal.path
    written = [journal, Path(f"{journal}-wal"), Path(f"{journal}-shm"), lock_of(journal)]
    written += [kkt.state.absolute() for kkt in settings.kkt]
    for folder in sorted({nearest_existing(path.parent) for path in written}):
        yield from _try_to_make_a_file(folder)
    for file in written:
        yield from _try_to_open(file, os.O_RDWR, "write")


def _try_to_open(file: Path, flags: int, attempt: str) -> Iterator[Obstacle]:
    try:
        os.close(os.open(file, flags | os.O_CLOEXEC | os.O_NONBLOCK))
    except FileNotFoundError:
        return  # it is made at the first start, or named by another finding
    except OSError as error:
        yield Obstacle(str(file), attempt, error.strerror or str(error))


def _try_to_make_a_file(folder: Path) -> Iterator[Obstacle]:
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".kkt-bridge-doctor-"):
            pass
    except OSError as error:
        if folder.is_dir():
            yield Obstacle(str(folder), "write", error.strerror or str(error))
