"""Trials by documents: the oldest of each register first, and never more than one out of turn."""

import pytest
from support.delivery import HOUR_S, key, printed, statuses
from support.stages import InProcessBridge, check_counts

from kkt_bridge.journal.records import DueDocument
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.stages.delivery.trial import Trials, TrialState


@pytest.fixture
def open_shop(tmp_path, ofd):
    shops = []

    def opened(health_path, **settings):
        shop = InProcessBridge(
            tmp_path,
            registers=("kkt-1", "kkt-2"),
            ofd={"url": ofd.url, "timeout_s": 2, "health_path": health_path},
            pos={"pos-1": "kkt-1", "pos-2": "kkt-2"},
            **settings,
        )
        shops.append(shop)
        return shop

    yield opened
    for shop in shops:
        check_counts(shop.journal, shop.folder)
        shop.kill()


@pytest.fixture
def shop(open_shop):
    """No health check: documents show whether the OFD is there."""
    return open_shop("")


class Witness:
    """Notes which documents are tried, and heals the OFD before the attempt that is asked for."""

    def __init__(self, shop, ofd, monkeypatch):
        self.tried = []
        self.heal_before = None
        self.is_healed_once = False
        """Whether it is only for that attempt."""
        exchange, answer = shop.sync.exchange, shop.sync.exchange.answer

        def carry_out(request):
            self.tried.append(request.key)
            if request.key == self.heal_before:
                ofd.set_faults()
            answered = answer(request)
            if request.key == self.heal_before and self.is_healed_once:
                ofd.set_faults(outage=True)
                self.heal_before = None
            return answered

        monkeypatch.setattr(exchange, "answer", carry_out)


@pytest.fixture
def witness(shop, ofd, monkeypatch):
    return Witness(shop, ofd, monkeypatch)


@pytest.mark.parametrize("out_of_turn", [1, 2, 4])
def test_an_outage_that_ends_amid_a_trial_lets_one_document_overtake_what_has_failed(shop, ofd, witness, out_of_turn):
    requests = printed(shop, 6)
    ofd.set_faults(outage=True)
    witness.heal_before = key(requests[out_of_turn])
    shop.sync.run_for(HOUR_S, at_once=5)
    assert statuses(shop, requests) == ["synced"] * 6
    others = [request for request in requests if request is not requests[out_of_turn]]
    order = ofd.order(requests)
    assert [request for request in order if request in others] == others, "nothing but the one overtakes"
    assert order[0] == requests[out_of_turn]
    at = witness.tried.index(witness.heal_before)
    assert key(requests[0]) in witness.tried[max(0, at - 3) : at], "the oldest failed in the same trial"
    assert set(witness.tried[:at]) == {key(request) for request in requests[:out_of_turn]}
    assert witness.tried[at + 1] == key(requests[0]), "and is the next again"


def test_none_overtakes_where_the_oldest_of_another_register_shows_that_the_ofd_is_there(shop, ofd, witness):
    first, second = printed(shop, 3), printed(shop, 3, pos_id="pos-2")
    ofd.set_faults(outage=True)
    witness.heal_before = key(second[0])
    shop.sync.run_for(HOUR_S, at_once=5)
    assert statuses(shop, first + second) == ["synced"] * 6
    assert ofd.order(first) == first
    assert ofd.order(second) == second


def test_the_oldest_of_every_register_is_tried_before_one_from_behind(shop, ofd, witness):
    first, second = printed(shop, 3), printed(shop, 3, pos_id="pos-2")
    ofd.set_faults(outage=True)
    shop.sync.run_for(600, at_once=5)
    oldest = {key(first[0]), key(second[0])}
    behind = next(at for at, tried in enumerate(witness.tried) if tried not in oldest)
    assert set(witness.tried[:behind]) == oldest


def test_what_was_behind_is_behind_again_once_a_document_was_taken(shop, ofd, witness):
    ofd.set_faults(outage=True)
    requests = printed(shop, 10)
    shop.sync.run_for(150, at_once=5)
    assert key(requests[3]) in witness.tried, "by turns, some from behind were tried"
    witness.heal_before, witness.is_healed_once = key(requests[0]), True
    shop.sync.run_for(70, at_once=5)
    assert statuses(shop, requests) == ["synced"] + ["printed"] * 9
    shop.sync.run_for(HOUR_S, at_once=5)
    taken = max(at for at, tried in enumerate(witness.tried) if tried == key(requests[0]))
    seen = list(dict.fromkeys(witness.tried[taken + 1 :]))
    assert seen == [key(request) for request in requests[1:]], "in their order, the oldest first"


def test_an_ofd_that_asks_for_patience_has_none_tried_out_of_turn(shop, ofd, witness):
    ofd.set_faults(outage=True)
    requests = printed(shop, 3)
    shop.sync.run()
    ofd.set_faults(post_status=429)
    tried = len(witness.tried)
    shop.sync.run_for(600, at_once=5)
    assert set(witness.tried[tried:]) == {key(requests[0])}


@pytest.mark.parametrize("health_path", ["/ofd/v1/health", ""])
def test_an_open_breaker_is_tried_at_its_own_pace_and_then_all_goes_at_once(open_shop, ofd, health_path):
    shop = open_shop(health_path, breaker={"reset_timeout_s": 0.1})
    ofd.set_faults(outage=True)
    requests = printed(shop, 40)
    shop.sync.run_for(10, at_once=0.05)
    ofd.set_faults()
    shop.sync.run_for(0.3, at_once=0.05)
    assert statuses(shop, requests) == ["synced"] * 40


def test_where_no_breaker_opens_a_service_that_fails_is_left_alone_for_a_while_and_then_all_goes_at_once(
    open_shop, ofd
):
    shop = open_shop("", breaker={"fail_max": 1000})
    ofd.set_faults(outage=True)
    requests = printed(shop, 3)
    before = ofd.requests()
    shop.sync.run_for(60)
    assert ofd.requests() - before < 50
    ofd.set_faults()
    shop.sync.run_for(10)
    assert statuses(shop, requests) == ["synced"] * 3


def test_as_soon_as_a_document_is_taken_no_register_is_left_alone_any_longer(open_shop, ofd):
    shop = open_shop("", breaker={"fail_max": 1000})
    ofd.set_faults(outage=True)
    requests = printed(shop)
    shop.sync.run_for(5)
    requests += printed(shop, pos_id="pos-2")
    shop.sync.run_for(10)
    ofd.set_faults()
    while statuses(shop, requests) == ["printed"] * 2:
        shop.clock.advance(0.5)
        shop.sync.run()
    assert statuses(shop, requests) == ["synced"] * 2


def due(number, kkt="kkt-1"):
    return DueDocument(
        id=number,
        key=ReceiptKey("pos-1", str(number)),
        kkt=kkt,
        status=Status.PRINTED,
        document=number,
        body=b"{}",
        attempts=0,
        strikes=0,
    )


def fail(trials, documents):
    """Have a trial of these documents, all in vain."""
    trials.begin(documents)
    while trials.candidates:
        trials.note_outcome(trials.candidates.popleft(), is_taken=False, is_pause=False)
    assert trials.state is TrialState.NONE


def test_in_a_long_outage_all_get_their_turn_and_then_it_begins_anew():
    trials, documents, behind = Trials(), [due(number) for number in range(1, 5)], []
    for _ in range(9):
        after = trials.behind(documents[0])
        chosen = [] if after is None else [each for each in documents if each.document > after][:1]
        if after is not None and not chosen:
            trials.start_over(documents[0])
            chosen = [documents[1]]
        tried = trials.choose(documents[0], chosen, [])
        assert tried[0].document == 1
        behind += [each.document for each in tried[1:]]
        fail(trials, tried)
    assert behind == [2, 3, 4, 2, 3, 4, 2, 3]


def test_the_oldest_of_others_come_before_one_that_may_be_overtaken():
    trials, first, others = Trials(), due(1), [due(7, "kkt-2"), due(8, "kkt-3"), due(9, "kkt-4")]
    alone = trials.choose(first, [due(2)], others)
    assert alone == [first], "before anything failed, nothing is known against it"
    fail(trials, alone)
    assert [each.document for each in trials.choose(first, [due(2), due(3)], others)] == [7, 8, 1, 2]
