"""Who may read a journal: buyers' contacts are in it, so its user alone; and words for who may not."""

import logging
import os
import pwd
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

PRIVATE_FILE: Final = 0o600
"""The rights of every file of a journal: its user reads and writes, nobody else does either."""

PRIVATE_FOLDER: Final = 0o700
"""The same for a folder that is made for one."""

_OTHERS: Final = 0o077
"""The rights of everybody else."""

log = logging.getLogger(__name__)


def make_private(path: Path) -> None:
    """Make an empty file that only its user can read, if there is none: SQLite takes an empty file for a new one."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode=PRIVATE_FILE))


def narrow(paths: Iterable[Path]) -> None:
    """Take from everybody else what they may do with these files, as far as they are there and ours."""
    for path in paths:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & _OTHERS:
                path.chmod(mode & ~_OTHERS)
                log.warning("%s could be read by others (%s): now by its user alone", path, f"{mode:o}")
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("%s can be read by others, and cannot be changed: %s", path, error.strerror)


def who_may(path: Path) -> str:
    """Whose this file is, or the nearest folder above it that can be seen, and who asks."""
    for place in (path, *path.parents):
        with suppress(OSError):
            found = place.stat()
            return f"{place} belongs to {_name(found.st_uid)}, this runs as {_name(os.geteuid())}"
    return f"this runs as {_name(os.geteuid())}"


def not_allowed(path: Path) -> str:
    """What to say to whoever may not read a journal."""
    return f"{path}: this user may not read it: {who_may(path)}: run this as the bridge's user, or as root"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
