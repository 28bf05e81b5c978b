"""Simulated POS terminals against real brokers and bridges: what they count, and how they take what goes wrong."""

import json
import math
import signal
import subprocess
import sys
import threading
import time

import pytest
from support.brokers import HOST, MosquittoProcess, free_port
from support.processes import wait_until

from kkt_bridge.errors import BrokerAway
from kkt_bridge.mqtt.client import BridgeAddress
from kkt_bridge.simulators.pos import Tally, Terminals, TerminalSettings, Trade, latencies
from kkt_bridge.wire.topics import Topics

END_TIMEOUT_S = 60.0


def sim_pos(world, *arguments, port=None):
    """The command, on the broker and bridge of this world; without one, on a bridge that is not there."""
    where = ["--port", str(port or world.broker.port), "--bridge", world.bridge.id if world else "nobody"]
    return subprocess.Popen(
        [sys.executable, "-m", "kkt_bridge", "sim", "pos", *where, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process):
    out, err = process.communicate(timeout=END_TIMEOUT_S)
    return process.returncode, out, err


def sold(world, *arguments):
    status, out, err = ended(sim_pos(world, "--json", *arguments))
    assert status == 0, out + err
    return json.loads(out)


def settings_for(world, **changes):
    bridge = BridgeAddress(world.broker.host, world.broker.port, Topics("kkt/v1", world.bridge.id))
    return TerminalSettings(bridge, **({"count": 3, "seed": "test", "retry_after_s": 0.5} | changes))


def a_trade(customers, rate=0.0):
    trade = Trade(rate)
    trade.let_in(customers)
    trade.close_the_door()
    return trade


def test_sells_and_counts_over_both_protocols(make_world, any_broker):
    world = make_world(broker=any_broker)
    report = sold(world, "--receipts", "30", "--pos", "3")
    counted = {name: report[name] for name in ("published", "printed", "rejected", "duplicates", "unanswered")}
    assert counted == {"published": 30, "printed": 30, "rejected": 0, "duplicates": 0, "unanswered": 0}
    assert len(world.receipts_on()) == 30
    times = report["latencies"]
    assert 0 < times["p50_ms"] <= times["p95_ms"] <= times["p99_ms"] <= times["max_ms"]


def test_the_same_seed_again_prints_nothing_more(make_world):
    world = make_world()
    first = sold(world, "--receipts", "12", "--seed", "7")
    again = sold(world, "--receipts", "12", "--seed", "7")
    assert (first["duplicates"], again["duplicates"]) == (0, 12)
    assert again["printed"] == 12
    assert len(world.receipts_on()) == 12


def test_refusals_are_counted_by_their_code(make_world):
    world = make_world({"buffer.capacity": 4})
    world.ofd_faults(outage=True)
    report = sold(world, "--receipts", "10")
    assert (report["printed"], report["rejected"], report["errors"]) == (4, 6, {"buffer_full": 6})


def test_says_in_words_what_it_did(make_world):
    world = make_world()
    status, out, err = ended(sim_pos(world, "--receipts", "5", "--rate", "50"))
    assert (status, err) == (0, "")
    assert out.startswith("5 receipts: 5 printed, 0 rejected, 0 without an answer\n")
    assert "until the final reply: p50 " in out


def test_gives_up_on_a_bridge_that_is_away(mosquitto):
    arguments = ("--json", "--receipts", "2", "--retry-after", "0.3", "--deadline", "1.5")
    status, out, _ = ended(sim_pos(None, *arguments, port=mosquitto.port))
    report = json.loads(out)
    assert (status, report["published"], report["unanswered"]) == (1, 1, 1)
    assert report["retries"] >= 3
    assert report["latencies"]["max_ms"] is None


def test_a_broker_that_is_away_is_one_line(make_world):
    status, out, err = ended(sim_pos(None, port=free_port()))
    assert (status, out) == (1, "")
    assert err.startswith("kkt-bridge: 127.0.0.1:")
    assert "no MQTT broker there" in err
    assert err.count("\n") == 1


def test_ctrl_c_ends_it_with_what_it_has(make_world):
    world = make_world()
    process = sim_pos(world, "--receipts", "1000", "--rate", "20", "--json")
    wait_until(lambda: len(world.receipts_on()) >= 3, END_TIMEOUT_S, "three receipts")
    process.send_signal(signal.SIGINT)
    status, out, err = ended(process)
    report = json.loads(out)
    assert (status, err) == (1, "")
    assert 3 <= report["printed"] < 1000


@pytest.mark.parametrize("arguments", [["--receipts", "0"], ["--rate", "0"], ["--retry-after", "soon"], []])
def test_arguments_that_make_no_sense_are_refused(arguments):
    given = arguments and ["--bridge", "x", *arguments]
    run = subprocess.run(
        [sys.executable, "-m", "kkt_bridge", "sim", "pos", *given], capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    assert "Traceback" not in run.stderr


def test_a_receipt_without_an_answer_is_sent_again_under_its_id(make_world):
    world = make_world()
    world.bridge.terminate()
    trade = a_trade(3)
    with Terminals(settings_for(world, retry_after_s=0.2), trade) as terminals:
        wait_until(lambda: terminals.tally.retries >= 6, END_TIMEOUT_S, "several attempts")
        world.bridge.start()
        assert terminals.wait(END_TIMEOUT_S)
    report = terminals.tally.report()
    assert (report["published"], report["printed"], report["unanswered"]) == (3, 3, 0)
    assert len(world.receipts_on()) == 3


def test_a_register_that_takes_its_time_is_waited_for(make_world):
    world = make_world({"reply.buffered_after_s": 0.5}, print_time_s=1.2)
    world.sell()  # opens the shift, which takes its own time
    with Terminals(settings_for(world, count=1, retry_after_s=0.9), a_trade(1)) as terminals:
        assert terminals.wait(END_TIMEOUT_S)
    assert terminals.tally.report()["retries"] == 0


def test_terminals_live_through_a_broker_that_goes_and_comes(make_world, tmp_path):
    with MosquittoProcess(tmp_path / "broker") as broker:
        world = make_world(broker=broker)
        world.sees_everything = False
        with Terminals(settings_for(world), a_trade(60, rate=40)) as terminals:
            wait_until(lambda: terminals.tally.answered >= 10, END_TIMEOUT_S, "ten answers")
            broker.restart()
            assert terminals.wait(END_TIMEOUT_S)
        assert terminals.tally.report()["printed"] == 60
        assert len(world.receipts_on()) == 60


def test_terminals_that_cannot_begin_say_so():
    terminals = Terminals(
        TerminalSettings(BridgeAddress(HOST, free_port(), Topics("kkt/v1", "shop")), count=2, seed=1), Trade()
    )
    with pytest.raises(BrokerAway), terminals:
        pass


def test_customers_come_at_their_rate():
    trade = a_trade(6, rate=20)
    started = time.monotonic()
    while trade.next_customer():
        pass
    assert 0.2 <= time.monotonic() - started < 2


def test_nobody_comes_after_the_door_is_closed():
    trade = Trade()
    trade.let_in(2)
    trade.close_the_door()
    assert [trade.next_customer() for _ in range(3)] == [True, True, False]


def test_a_stopped_trade_lets_go_of_who_waits():
    trade, left = Trade(), []
    waiting = threading.Thread(target=lambda: left.append(trade.next_customer()))
    waiting.start()
    trade.stop()
    waiting.join(10)
    assert left == [False]


def test_an_endless_trade_does_not_end():
    trade = Trade()
    trade.let_in(math.inf)
    assert all(trade.next_customer() for _ in range(100))


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([], (None, None, None, None)),
        ([0.002], (2, 2, 2, 2)),
        ([n / 1000 for n in range(100, 0, -1)], (50, 95, 99, 100)),
        ([n / 1000 for n in range(1, 11)], (5, 10, 10, 10)),
    ],
)
def test_percentiles_are_of_the_nearest_rank(seconds, expected):
    assert tuple(latencies(seconds).values()) == expected


def test_a_tally_knows_what_is_without_an_answer():
    tally = Tally()
    for _ in range(3):
        tally.note_published()
    tally.note_final({"status": "printed", "pos_id": "pos-1", "receipt_id": "a"}, 0.1)
    tally.note_final({"status": "rejected", "error": {"code": "paused"}}, 0.1)
    report = tally.report()
    assert (tally.answered, report["unanswered"], report["errors"]) == (2, 1, {"paused": 1})
