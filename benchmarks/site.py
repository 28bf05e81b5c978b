"""The machine under test: one broker, an echo beside the bridges, and a directory for all that they keep."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bridge import TOPIC_ROOT, Bridge, Shop
from benchmarks.brokers import Broker
from benchmarks.curves import Curves
from benchmarks.ofd import away_url
from benchmarks.processes import Child, python, wait_until

ECHO_START_S = 15.0
ANY_ANSWER = '"receipt_id"'
"""What an echo is to hold: the request itself."""


@dataclass(frozen=True)
class Site:
    """Where measurements take place; the broker runs already."""

    directory: Path
    broker: Broker
    runs: int
    """Of each figure, interleaved with its reference."""
    quick: bool = False
    """Whether the figures are for everyday use, so that short looks do."""
    curves: Curves = field(default_factory=Curves)
    """What is seen on the way, for the plots."""
    away: str = field(default_factory=away_url)
    """The address of an OFD that is never there."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def bridge(self, shop: Shop, directory: Path | None = None) -> Bridge:
        """A bridge with a name that the broker does not know yet; not started."""
        name = f"bench-{next(self._numbers)}"
        return Bridge(name, directory or self.directory / name, self.broker.port, shop)

    @contextmanager
    def echo(self) -> Iterator[str]:
        """An echo; yields the branch that it answers on."""
        branch = f"{TOPIC_ROOT}/echo-{next(self._numbers)}"
        log = self.directory / f"{branch.replace('/', '-')}.log"
        options = ["--port", str(self.broker.port), "--protocol", str(self.broker.protocol), "--branch", branch]
        with Child("the echo", python("benchmarks.echo", *options), log) as child:

            def is_ready() -> bool:
                child.check()
                return b"ready" in log.read_bytes()

            wait_until(is_ready, ECHO_START_S, "an echo that listens")
            yield branch
