"""The history of an offending receipt from everybody's records, for the engineer who must find out why."""

from collections.abc import Iterator
from datetime import UTC, datetime

from chaos.evidence import Evidence, lines_about, read_steps
from chaos.records import Sale
from chaos.site import Site
from chaos.verdict import papers_by_requisite

from kkt_bridge.receipts.identity import ReceiptKey, requisite_1192

REPLIES_MAX = 12


def history(site: Site, evidence: Evidence, key: ReceiptKey) -> Iterator[str]:
    """Everything known of one receipt, line by line."""
    yield f"receipt {key[0]}:{key[1]}"
    for sale in (sale for sale in evidence.sales() if sale.key == key):
        yield from _conversation(sale)
    for paper in papers_by_requisite(evidence).get(requisite_1192(key), []):
        body = paper.document.body
        yield f"  {paper.kkt}: FD {paper.document.fd_number} {body.type} {body.total} at {paper.document.at}"
    for entry in evidence.ofd_received["documents"]:
        if entry["key"] == ":".join(key):
            yield f"  OFD: FD {entry['fd_number']} of {entry['kkt']}, {entry['times']} times, order {entry['order']}"
            yield f"       first {entry['first_at']}, last {entry['last_at']}"
    yield f"  journal: {evidence.rows.get(key)}"
    for at_ms, before, after, fd_number, error in read_steps(site.journal, key):
        yield f"    {_time(at_ms / 1000)} {before} -> {after} FD {fd_number} {error or ''}"
    for line in lines_about(site.bridge.log, lambda line: key[1] in line):
        yield f"  log: {line}"


def _conversation(sale: Sale) -> Iterator[str]:
    yield f"  {sale.kind}, expected {sale.expected}, {sale.request['type']} {sale.request.get('kkt', '')}"
    for send in sale.sends:
        yield f"    {_time(send.at)} sent {send.what}{', acknowledged' if send.acknowledged else ''}"
    for reply in sale.replies[:REPLIES_MAX]:
        fiscal = reply.content["fiscal"] or {}
        yield (
            f"    {_time(reply.at)} told {reply.verdict} FD {fiscal.get('fd_number')} "
            f"{'duplicate' if reply.content['duplicate'] else ''}"
        )


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
