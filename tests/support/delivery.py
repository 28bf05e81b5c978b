"""Printed receipts on their way to a simulated OFD, and the OFD as its owner sees it."""

import httpx
from support.receipts import receipt

from kkt_bridge.journal.delivery import dead_letters

HOUR_S = 3600
WEEK_S = 7 * 24 * HOUR_S


class Ofd:
    """The OFD as its owner sees it."""

    def __init__(self, simulator):
        self.url = simulator.url
        self._http = httpx.Client(base_url=simulator.url, trust_env=False)

    def close(self):
        self.faults()
        self._http.close()

    def faults(self, **content):
        answer = self._http.put("/_faults", json=content)
        assert answer.status_code == 200, answer.text

    def received(self):
        return {entry["key"]: entry for entry in self._http.get("/_received").json()["documents"]}

    def requests(self):
        return self._http.get("/_received").json()["requests"]

    def order(self, requests):
        """The receipts that arrived, in the order of their first arrival."""
        received = self.received()
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
