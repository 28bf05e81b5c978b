"""The same through the embedded broker, which is written in Python and for trying out."""

from benchmarks.bridge import Shop
from benchmarks.brokers import Embedded
from benchmarks.contenders import load_bridge, load_echo, load_of
from benchmarks.rounds import interleaved
from benchmarks.site import Site
from benchmarks.table import Bound, Row
from benchmarks.throughput import row


def through_embedded(site: Site) -> list[Row]:
    """64 in flight with MQTT 3.1.1, bridge and echo alike."""
    with Embedded(site.directory) as broker:
        inner = Site(site.directory / "embedded", broker, site.runs)
        inner.directory.mkdir()
        load = load_of(inner)
        with inner.echo() as echo, inner.bridge(Shop(inner.away)) as bridge:
            printed, echoed = interleaved(
                [lambda: load_bridge(bridge, load), lambda: load_echo(echo, load)], inner.runs
            )
    return [row("receipts/s through the embedded broker", printed, echoed, Bound(0.5))]
