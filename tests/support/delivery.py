"""Printed receipts on their way to a simulated OFD, and the OFD's books."""

from support.receipts import receipt
from support.simulated_ofd import OfdClient

from kkt_bridge.journal.document_queue import dead_letters

HOUR_S = 3600
WEEK_S = 7 * 24 * HOUR_S


class Ofd(OfdClient):
    """The simulated OFD, by the keys of its documents."""

    def documents(self):
        return {entry["key"]: entry for entry in self.received()["documents"]}

    def requests(self):
        return self.received()["requests"]

    def order(self, requests):
        """The receipts that arrived, in the order of their first arrival."""
        received = self.documents()
        arrived = [request for request in requests if key(request) in received]
        return sorted(arrived, key=lambda request: received[key(request)]["order"])


def key(request):
    return f"{request['pos_id']}:{request['receipt_id']}"


def printed(shop, count=1, **changes):
    requests = [receipt(**changes) for _ in range(count)]
    for request in requests:
        shop.sell(request, pos=request["pos_id"])
    shop.print_all()
    return requests


def statuses(shop, requests):
    return [shop.status(request) for request in requests]


def letters(shop, kkt="kkt-1"):
    return shop.journal.read(lambda connection: dead_letters(connection, kkt, 0, 100))


def documents(shop, kkt="kkt-1"):
    return shop.rows("SELECT delivery, attempts, strikes FROM documents WHERE kkt = ? ORDER BY id", kkt)
