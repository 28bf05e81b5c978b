"""Where the demo lives: its directory, and the configuration of its bridge."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from kkt_bridge.errors import KktBridgeError
from kkt_bridge.registers.virtual.fiscal_document import CORRECTION, RECEIPT, FiscalDocument
from kkt_bridge.registers.virtual.storage_file import read_documents
from kkt_bridge.wire.topics import Topics

BRIDGE_ID: Final = "demo-shop"
TOPICS: Final = Topics("kkt/v1", BRIDGE_ID)


class SiteInUse(KktBridgeError):
    """The directory holds files: a demo counts what it finds there, and leaves everything of its own."""


class BrokerAt(NamedTuple):
    """Where a broker listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class DemoSpeed:
    """How fast things go; seconds."""

    rate: float
    """Receipts a second over all POS; 0: as fast as they are answered."""
    print_time_s: float
    breaker_reset_s: float
    sync_interval_s: float


BRISK: Final = DemoSpeed(rate=0.0, print_time_s=0.02, breaker_reset_s=0.5, sync_interval_s=0.2)
"""For counting: over in seconds."""

WATCHABLE: Final = DemoSpeed(rate=5.0, print_time_s=0.12, breaker_reset_s=4.0, sync_interval_s=1.0)
"""For watching: an eye can follow."""


class Site:
    """The demo's files in one directory."""

    def __init__(self, directory: Path, registers: int) -> None:
        self.directory = directory.resolve()
        self.config = self.directory / "bridge.toml"
        self.ofd_state = self.directory / "ofd.jsonl"
        self.registers = [f"kkt-{number}" for number in range(1, registers + 1)]

    def prepare(self) -> None:
        """Make the directory; SiteInUse if there is anything in it."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            in_use = self.config.exists() or any(self.directory.iterdir())
            probe = self.directory / ".kkt-bridge-demo"
            if not in_use:
                probe.touch(exist_ok=False)
                probe.unlink()
        except OSError as error:
            raise KktBridgeError(f"--dir: {self.directory} cannot be used: {error.strerror}") from None
        if in_use:
            held = "an earlier demo" if self.config.exists() else "files already"
            raise SiteInUse(f"--dir: {self.directory} holds {held}; choose a directory that is new or empty")

    def configure(self, *, broker: BrokerAt, ofd_url: str, pos: int, capacity: int, pace: DemoSpeed) -> None:
        """Write the bridge's configuration, fit for a story that is told in seconds."""
        mapping = "\n".join(
            f'"pos-{number + 1}" = "{self.registers[number % len(self.registers)]}"' for number in range(pos)
        )
        registers = "\n".join(
            f'[[kkt]]\nid = "{kkt}"\ndriver = "virtual"\nstate = {self._quoted(f"{kkt}.fn")}\n'
            f'print_time_s = {pace.print_time_s}\nsender_email = "receipts@example.com"\n'
            for kkt in self.registers
        )
        self.config.write_text(
            f"""\
bridge_id = "{BRIDGE_ID}"

[mqtt]
host = {json.dumps(broker.host)}
port = {broker.port}
session_expiry_s = 60

[journal]
url = {json.dumps(f"sqlite:///{self.directory}/journal.db", ensure_ascii=False)}

[buffer]
capacity = {capacity}

{registers}
[pos]
{mapping}

[ofd]
url = "{ofd_url}"
timeout_s = 2

[sync]
interval_s = {pace.sync_interval_s}
backoff_initial_s = 0.2
backoff_max_s = 1
network_hold_s = 0.5

[breaker]
fail_max = 3
reset_timeout_s = {pace.breaker_reset_s}
success_threshold = 2

[telemetry]
interval_s = 5
""",
            encoding="utf-8",
        )

    def receipts(self) -> Iterator[FiscalDocument]:
        """Every receipt and correction in the fiscal storages."""
        for kkt in self.registers:
            path = self.directory / f"{kkt}.fn"
            if path.exists():
                yield from (document for document in read_documents(path) if document.body.form in _RECEIPT_FORMS)

    def _quoted(self, name: str) -> str:
        return json.dumps(str(self.directory / name), ensure_ascii=False)


_RECEIPT_FORMS: Final = frozenset({RECEIPT, CORRECTION})
