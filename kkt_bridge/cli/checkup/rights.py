"""Whether the bridge's user may do what the bridge does: read its settings, and write its journal and storages.

It is tried, not computed: modes, access lists, mounts and security modules all have their say. Each file is opened as
the bridge would open it, and closed untouched; a folder gets a file that is taken away at once. Root may do
everything, so where root asks, a child process tries it as the bridge's user.
"""

import grp
import json
import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from kkt_bridge.cli.checkup.findings import CheckupFinding, fail, ok
from kkt_bridge.cli.checkup.machine import nearest_existing
from kkt_bridge.journal.lock import lock_of
from kkt_bridge.settings import Settings

CHECK: Final = "rights"


class Account(NamedTuple):
    """A user of this machine."""

    name: str
    uid: int
    gid: int


class Obstacle(NamedTuple):
    """Something that the user may not do: the file or folder, what was tried, and the system's word."""

    path: str
    deed: str
    reason: str


def account(name: str) -> Account:
    """The user of this name; KeyError if there is none."""
    entry = pwd.getpwnam(name)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def bridge_account(settings: Settings) -> Account:
    """As whom the bridge runs, as far as can be told: root is none, but whoever owns the journal's folder may be."""
    uid = os.geteuid()
    if uid == 0:
        with suppress(OSError):
            uid = nearest_existing(settings.journal.path.parent).stat().st_uid
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a container may run under a number without a name
        return Account(str(uid), uid, os.getegid())
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def examine_rights(config: Path, settings: Settings, user: Account) -> Iterator[CheckupFinding]:
    """What this user may not do, all in one finding for what is to be read and one for what is to be written."""
    tried = _try_as(user, config, settings)
    unread = [each for each in tried if each.deed == "read"]
    unwritten = [each for each in tried if each.deed != "read"]
    if unread:
        files = " ".join(sorted(each.path for each in unread))
        yield fail(
            CHECK, _told(unread, user), f"chgrp {_group(user)} {files} && chmod 640 {files}, and see its folders"
        )
    if unwritten:
        files = " ".join(sorted({each.path for each in unwritten}))
        advice = f"chown {user.name}: {files}"
        if any("Permission" not in each.reason for each in unwritten):
            advice = f"see how its disk is mounted; or {advice}"
        yield fail(CHECK, _told(unwritten, user), advice)
    if not tried:
        yield ok(CHECK, f"user {user.name} can read the settings, and write the journal and the registers' storages")


def _told(obstacles: list[Obstacle], user: Account) -> str:
    told = "; ".join(f"{each.path}{_owner(each.path)}: {each.reason}" for each in obstacles)
    return f"user {user.name} cannot {obstacles[0].deed} {told}"


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


def _group(user: Account) -> str:
    try:
        return grp.getgrgid(user.gid).gr_name
    except KeyError:
        return str(user.gid)


def _try_as(user: Account, config: Path, settings: Settings) -> list[Obstacle]:
    if user.uid == os.geteuid():
        return list(_try_all(config, settings))
    # Only root gets here, before this program has a second thread: a fork is safe, and keeps what was loaded.
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os.initgroups(user.name, user.gid)
            os.setgid(user.gid)
            os.setuid(user.uid)
            os.write(write_end, json.dumps(list(_try_all(config, settings))).encode())
            os._exit(0)
        os._exit(1)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read()
    if os.waitpid(child, 0)[1] != 0:
        return [Obstacle(str(config), "be tried:", f"this process could not become {user.name}")]
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


def _try_to_open(file: Path, flags: int, deed: str) -> Iterator[Obstacle]:
    try:
        os.close(os.open(file, flags | os.O_CLOEXEC | os.O_NONBLOCK))
    except FileNotFoundError:
        return  # it is made at the first start, or named by another finding
    except OSError as error:
        yield Obstacle(str(file), deed, error.strerror or str(error))


def _try_to_make_a_file(folder: Path) -> Iterator[Obstacle]:
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".kkt-bridge-doctor-"):
            pass
    except OSError as error:
        if folder.is_dir():
            yield Obstacle(str(folder), "write", error.strerror or str(error))
