"""Oddities of a configuration with which the bridge runs all the same."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kkt_bridge.settings import OfdSettings, Settings


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """One oddity: its key, a description, and what to do."""

    key: str
    message: str
    advice: str


def config_warnings(settings: Settings) -> Iterator[ConfigWarning]:
    """Yield every warning, for the log at the start and for `doctor`; files that are named are looked at, not read."""
    yield from _unmapped(settings)
    yield from _without_a_sender(settings)
    ofd = settings.ofd
    secrets = {
        "mqtt.password_file": settings.mqtt.password_file,
        "ofd.token_file": ofd.token_file,
        "ofd.tls.key": ofd.tls.key,
    }
    for key, path in secrets.items():
        if path is not None:
            yield from _exposed(key, path)
    yield from _without_effect(ofd)


def _unmapped(settings: Settings) -> Iterator[ConfigWarning]:
    if len(settings.kkt) > 1 and not settings.pos:
        first = settings.kkt[0].id
        yield ConfigWarning(
            "pos",
            f"there are {len(settings.kkt)} registers and no [pos]: a receipt that does not name its register in `kkt` "
            "is refused (unknown_kkt)",
            f'say which POS prints where: [pos], and below it a line such as "pos-1" = "{first}" for each',
        )


def _without_a_sender(settings: Settings) -> Iterator[ConfigWarning]:
    if lacking := [kkt.id for kkt in settings.kkt if kkt.sender_email is None]:
        yield ConfigWarning(
            "kkt.sender_email",
            f"none for {', '.join(lacking)}: where a buyer left an e-mail, the document lacks the sender's address "
            "(FFD tag 1117), which has to stand there",
            'if buyers get receipts by e-mail, give the address that these come from: sender_email = "…" in [[kkt]]',
        )


def _without_effect(ofd: OfdSettings) -> Iterator[ConfigWarning]:
    if ofd.token_file is not None and ofd.shown_url != ofd.url:
        message = "the name and the password in it are not sent, as there is an ofd.token_file"
        yield ConfigWarning("ofd.url", message, "leave one of the two out")
    if ofd.url.startswith("http:") and (ofd.tls.ca or ofd.tls.cert):
        message = "has no effect, as ofd.url begins with http:"
        yield ConfigWarning("ofd.tls", message, "let ofd.url begin with https:, or leave [ofd.tls] out")


def _exposed(key: str, path: Path) -> Iterator[ConfigWarning]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        yield ConfigWarning(
            key,
            f"{path} can be read or changed by everybody on this machine (mode {stat.S_IMODE(mode):04o})",
            f"chmod 640 {path}, and make it belong to root and the bridge's group",
        )
