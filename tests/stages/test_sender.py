"""Senders: documents of several registers under way at once, those of each strictly in order, whoever answers when."""

import threading
from collections import defaultdict
from contextlib import contextmanager

import pytest
from support.brokers import wait_until
from support.receipts import receipt
from support.stages import Shop, check_counts, mend_disk

from kkt_bridge.clock import SystemClock
from kkt_bridge.errors import OfdUnreachable
from kkt_bridge.runtime.loops import Loop
from kkt_bridge.runtime.worker import Worker
from kkt_bridge.stages.courier import Courier
from kkt_bridge.stages.delivery import TRAIN_MAX
from kkt_bridge.stages.rounds import Round
from kkt_bridge.stages.sender import DEPARTURE_S, Crew, Train

SOON_S = 10
REGISTERS = tuple(f"kkt-{number}" for number in range(1, 5))


class Gate:
    """An OFD that takes a document when it is told to; by register, and noting the order."""

    def __init__(self):
        self.held = {}
        self.arrived = defaultdict(list)
        self.waiting = set()
        self.fails = {}
        self._kkt = {}

    def know(self, requests):
        self._kkt |= {f"{request['pos_id']}:{request['receipt_id']}": request["kkt"] for request in requests}

    def hold(self, kkt):
        self.held[kkt] = threading.Event()

    def let_go(self, kkt):
        self.held.pop(kkt).set()

    def deliver(self, key, _body):
        kkt = self._kkt[key]
        if kkt in self.held:
            self.waiting.add(kkt)
            assert self.held[kkt].wait(SOON_S)
        if self.fails.get(key, 0):
            self.fails[key] -= 1
            raise OfdUnreachable("on purpose")
        self.arrived[kkt].append(key)
        return 1_795_345_381

    def ask_health(self):
        return True

    def close(self):
        pass


def key(request):
    return f"{request['pos_id']}:{request['receipt_id']}"


@pytest.fixture
def shop(tmp_path):
    sections = {"buffer": {"capacity": 1000}, "sync": {"backoff_initial_s": 0.1}}
    opened = Shop(tmp_path, registers=REGISTERS, clock=SystemClock(), **sections)
    opened.sync.client.close()
    opened.gate = opened.sync.client = opened.sync.courier._ofd = Gate()
    yield opened
    mend_disk(opened.journal)
    check_counts(opened.journal, opened.folder)
    opened.kill()


def printed(shop, count, kkt):
    requests = [receipt(kkt=kkt) for _ in range(count)]
    shop.gate.know(requests)
    for request in requests:
        shop.sell(request)
    shop.print_all()
    return requests


@contextmanager
def running(sync):
    """The delivery and its senders, each in a thread of its own."""
    loops = [Loop("deliver", sync.delivery.step, bell=sync.crew.bell)]
    loops += [Loop(f"send-{number}", sender.step, bell=sender.bell) for number, sender in enumerate(sync.crew.senders)]
    workers = [Worker(loop) for loop in loops]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.stop()
        assert all(worker.join(SOON_S) for worker in workers)


def all_synced(shop, requests):
    return all(shop.status(request) == "synced" for request in requests)


def test_an_ofd_that_holds_one_registers_answers_keeps_no_other_waiting(shop):
    slow, *others = (printed(shop, 5, kkt) for kkt in REGISTERS)
    shop.gate.hold("kkt-1")
    with running(shop.sync):
        for requests in others:
            wait_until(lambda requests=requests: all_synced(shop, requests), SOON_S, "the others to be delivered")
        assert shop.gate.waiting == {"kkt-1"}
        assert shop.gate.arrived["kkt-1"] == []
        shop.gate.let_go("kkt-1")
        wait_until(lambda: all_synced(shop, slow), SOON_S, "the rest")


def test_documents_of_all_registers_are_under_way_at_the_same_time(shop):
    requests = [request for kkt in REGISTERS for request in printed(shop, 3, kkt)]
    for kkt in REGISTERS:
        shop.gate.hold(kkt)
    with running(shop.sync):
        wait_until(lambda: shop.gate.waiting == set(REGISTERS), SOON_S, "all four")
        for kkt in REGISTERS:
            shop.gate.let_go(kkt)
        wait_until(lambda: all_synced(shop, requests), SOON_S, "the answers")


def test_what_is_printed_while_another_register_waits_goes_out(shop):
    printed(shop, 1, "kkt-1")
    shop.gate.hold("kkt-1")
    with running(shop.sync):
        wait_until(lambda: shop.gate.waiting == {"kkt-1"}, SOON_S, "the slow one")
        for _ in range(3):
            requests = printed(shop, 2, "kkt-2")
            shop.sync.crew.bell.set()
            wait_until(lambda requests=requests: all_synced(shop, requests), SOON_S, "the other register's")
        shop.gate.let_go("kkt-1")


def test_what_waits_out_its_own_failure_goes_out_while_another_register_waits(shop):
    (held,), (failing,) = printed(shop, 1, "kkt-1"), printed(shop, 1, "kkt-2")
    shop.gate.hold("kkt-1")
    shop.gate.fails[key(failing)] = 2
    with running(shop.sync):
        wait_until(lambda: all_synced(shop, [failing]), SOON_S, "the third attempt")
        shop.gate.let_go("kkt-1")
        wait_until(lambda: all_synced(shop, [held]), SOON_S, "the other one")


def test_each_register_keeps_its_order_whatever_fails(shop):
    requests = {kkt: printed(shop, 2 * TRAIN_MAX + 3, kkt) for kkt in REGISTERS}
    for of_register in requests.values():
        for number in (0, 7, TRAIN_MAX):
            shop.gate.fails[key(of_register[number])] = 1
    failed = set(shop.gate.fails)
    with running(shop.sync):
        wait_until(lambda: all(shop.journal.counts()[kkt, "printed"] == 0 for kkt in REGISTERS), 60, "all of them")
    for kkt, of_register in requests.items():
        arrived = shop.gate.arrived[kkt]
        assert sorted(arrived) == sorted(map(key, of_register)), "each once"
        unhurt = [one for one in arrived if one not in failed]
        assert unhurt == [key(request) for request in of_register if key(request) not in failed]


def test_nothing_of_a_register_is_sent_behind_a_failure_before_that_is_written_down(shop):
    requests = printed(shop, 5, "kkt-1")
    shop.gate.fails[key(requests[2])] = 1
    shop.sync.step()
    assert shop.gate.arrived["kkt-1"] == [key(request) for request in requests[:2]]
    assert {status for (status,) in shop.rows("SELECT delivery FROM documents")} == {"ready"}
    shop.sync.delivery.step()
    assert [status for (status,) in shop.rows("SELECT delivery FROM documents ORDER BY id")] == [
        "sent",
        "sent",
        "waiting",
        "ready",
        "ready",
    ]


def test_a_sync_asked_for_while_documents_are_under_way_counts_only_its_own(shop):
    printed(shop, 2, "kkt-1")
    shop.gate.hold("kkt-1")
    with running(shop.sync):
        wait_until(lambda: shop.gate.waiting == {"kkt-1"}, SOON_S, "the first")
        printed(shop, 3, "kkt-2")
        result = shop.sync.delivery.request(force=False)
        shop.sync.crew.bell.set()
        wait_until(lambda: len(shop.gate.arrived["kkt-2"]) == 3, SOON_S, "the other register's")
        assert not result.done(), "the register whose documents are under way has not had its turn"
        shop.gate.let_go("kkt-1")
        assert (result.result(SOON_S).sent, result.result().skipped) == (3, 0)


def test_a_bug_in_a_sender_holds_up_no_register_for_ever(shop, monkeypatch):
    """It is not met again at once, and an operator's sync comes to its end."""
    (request,) = printed(shop, 1, "kkt-1")
    carried = []
    monkeypatch.setattr(shop.sync.courier, "carry", lambda *_: carried.append(1 / 0))
    with pytest.raises(ZeroDivisionError):
        shop.sync.step()
    assert shop.sync.run() > 1
    result = shop.sync.delivery.request(force=False)
    with pytest.raises(ZeroDivisionError):
        shop.sync.run()
    shop.sync.run()
    assert result.result(timeout=0).skipped == 1
    monkeypatch.undo()
    shop.sync.order()
    assert shop.status(request) == "synced"


def test_an_answer_that_brings_a_bug_to_light_costs_its_document_an_attempt_and_nobody_else(shop, monkeypatch):
    first, second = printed(shop, 2, "kkt-1")
    deliver, poison = shop.sync.client.deliver, key(first)

    def deliver_or_fail(name, body):
        return 1 / 0 if name == poison else deliver(name, body)

    monkeypatch.setattr(shop.sync.client, "deliver", deliver_or_fail)
    shop.sync.run()
    assert (shop.status(first), shop.status(second)) == ("printed", "synced")
    ((delivery, strikes, error),) = shop.rows(
        "SELECT delivery, strikes, last_error FROM documents WHERE delivery != 'sent'"
    )
    assert (delivery, strikes) == ("waiting", 1)
    assert "division by zero" in error
    monkeypatch.undo()
    shop.sync.run_for(10)
    assert shop.status(first) == "synced"


# -- one train at a time while the OFD answers at once --------------------------------------------------------


class Watch:
    """A clock to be set."""

    def __init__(self):
        self.at = 100.0

    def monotonic(self):
        return self.at


def test_a_train_leaves_when_the_last_one_is_back_or_must_be_waiting_for_the_ofd():
    watch = Watch()
    courier = Courier(ofd=Gate(), clock=watch)
    crew, trains = Crew(courier, 3, watch), [Train(kkt, [], Round(force=False, started=0)) for kkt in REGISTERS]
    assert crew.seconds_to_departure() == 0
    crew.send(trains[0])
    assert crew.seconds_to_departure() == pytest.approx(DEPARTURE_S)
    watch.at += DEPARTURE_S
    assert crew.seconds_to_departure() == 0
    crew.send(trains[1])
    watch.at += DEPARTURE_S
    crew.send(trains[2])
    watch.at += DEPARTURE_S
    assert crew.seconds_to_departure() is None, "nobody is left"
    for sender in crew.senders:
        sender.step()
    assert [(train.kkt, answers) for train, answers in crew.back()] == [(kkt, []) for kkt in REGISTERS[:3]]
    crew.send(trains[0])
    for sender in crew.senders:
        sender.step()
    list(crew.back())
    assert crew.seconds_to_departure() == 0, "it came back at once"
