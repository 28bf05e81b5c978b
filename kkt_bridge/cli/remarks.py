"""What is odd about a configuration with which the bridge runs all the same."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kkt_bridge.settings import Settings


@dataclass(frozen=True, slots=True)
class Remark:
    """One oddity: the key that it is about, what is odd, and what to do."""

    key: str
    message: str
    advice: str


def remarks_on(settings: Settings) -> Iterator[Remark]:
    """Every remark, for the log at the start and for `doctor`; files that are named are looked at, not read."""
    yield from _unmapped(settings)
    if settings.mqtt.password_file is not None:
        yield from _exposed("mqtt.password_file", settings.mqtt.password_file)


def _unmapped(settings: Settings) -> Iterator[Remark]:
    if len(settings.kkt) > 1 and not settings.pos:
        first = settings.kkt[0].id
        yield Remark(
            "pos",
            f"there are {len(settings.kkt)} registers and no [pos]: a receipt that does not name its register in `kkt` "
            "is refused (unknown_kkt)",
            f'say which POS prints where: [pos], and below it a line such as "pos-1" = "{first}" for each',
        )


def _exposed(key: str, path: Path) -> Iterator[Remark]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        yield Remark(
            key,
            f"{path} can be read or changed by everybody on this machine (mode {stat.S_IMODE(mode):04o})",
            f"chmod 640 {path}, and make it belong to root and the bridge's group",
        )
