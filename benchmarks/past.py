"""Bridges with a past: many receipts stored, or many that the OFD lacks."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from sqlite3 import connect

from benchmarks.bridge import Bridge, Shop
from benchmarks.contenders import load_bridge, load_of
from benchmarks.ofd import Ofd
from benchmarks.processes import wait_until
from benchmarks.site import Site
from benchmarks.synthetic import multiply

SETTLE_S = 30.0


def past_of(site: Site, name: str, copies: int, *, pending: bool) -> Path:
    """A directory with such a journal, made once: `pending` receipts wait for the OFD, others are delivered."""
    directory = site.directory / name
    if not directory.exists():
        directory.mkdir()
        with ExitStack() as stack:
            url = site.away if pending else stack.enter_context(Ofd(directory)).url
            bridge = stack.enter_context(site.bridge(Shop(url), directory))
            load_bridge(bridge, replace(load_of(site), window=1, count=1))
            wanted = "printed" if pending else "synced"
            wait_until(lambda: _is_settled(bridge, wanted), SETTLE_S, f"a receipt that is {wanted} and published")
        multiply(directory / "journal.db", copies)
    return directory


@contextmanager
def bridge_with(site: Site, name: str, copies: int, *, pending: bool) -> Iterator[Bridge]:
    """A running bridge on such a journal, with the OFD away."""
    with site.bridge(Shop(site.away), past_of(site, name, copies, pending=pending)) as bridge:
        yield bridge


def _is_settled(bridge: Bridge, status: str) -> bool:
    with closing(connect(f"file:{bridge.journal}?mode=ro", uri=True)) as connection:
        statuses = [row[0] for row in connection.execute("SELECT status FROM receipts")]
        waiting = connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
        last_step = connection.execute("SELECT max(id) FROM steps").fetchone()[0]
        published = connection.execute("SELECT value FROM settings WHERE name = 'steps_published'").fetchone()
    return statuses == [status] and not waiting and published is not None and int(published[0]) >= last_step
