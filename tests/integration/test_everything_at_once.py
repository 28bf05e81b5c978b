"""Kills, cut lines, lost answers and power cuts in any mixture. Afterwards each receipt has one of everything."""

import os
import random

import pytest
from support.lossy_line import LossyLine
from support.receipts import small_receipt

pytestmark = pytest.mark.campaign

SEEDS = [int(seed) for seed in os.environ.get("TEST_SEEDS", "3,6").split(",")]
REGISTERS = ("kkt-1", "kkt-2")
STEPS = ("open", "requisites", "line", "subtotal", "before_close", "after_close", "print")
ROUNDS, RECEIPTS = 6, 10
ALL_S = 60


def kill(world, line, chance):
    world.bridge.kill()
    world.bridge.start()


def terminate(world, line, chance):
    world.bridge.restart()


def break_the_line(world, line, chance):
    line.cut()


def lose_acknowledgements(world, line, chance):
    line.swallow_pubacks = True
    world.sell(small_receipt(kkt=chance.choice(REGISTERS)))
    line.swallow_pubacks = False
    line.cut()


def cut_the_power(world, line, chance):
    world.fault(chance.choice(REGISTERS), {"power_cut": {"at": chance.choice(STEPS), "times": chance.randint(1, 2)}})


def lose_answers_of_a_register(world, line, chance):
    world.fault(chance.choice(REGISTERS), {"lose_answer_next": chance.randint(1, 2)})


def lose_answers_of_the_ofd(world, line, chance):
    world.ofd_faults(drop_answers_next=chance.randint(1, 5))


def take_the_ofd_away(world, line, chance):
    world.ofd_faults(outage=True)


def end_all_faults(world, line, chance):
    world.ofd_faults()
    for kkt in REGISTERS:
        world.heal(kkt)


def do_nothing(world, line, chance):
    """The sun shines."""


WEATHER = (
    cut_the_power,
    lose_answers_of_a_register,
    lose_answers_of_the_ofd,
    take_the_ofd_away,
    end_all_faults,
)
"""What is wrong before the receipts come."""
BLOWS = (kill, terminate, break_the_line, lose_acknowledgements, do_nothing)
"""What falls on them while they are on their way."""


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_each_receipt_has_one_document_one_verdict_and_one_delivery(make_world, mosquitto, seed):
    chance = random.Random(seed)
    with LossyLine(mosquitto.port) as line:
        world = make_world(registers=REGISTERS, print_time_s=0.01, mqtt_port=line.port)
        ids, done = [], []
        for _ in range(ROUNDS):
            weather, blow = chance.choice(WEATHER), chance.choice(BLOWS)
            done += [weather.__name__, blow.__name__]
            weather(world, line, chance)
            requests = [small_receipt(kkt=chance.choice(REGISTERS)) for _ in range(RECEIPTS)]
            ids += world.publish_receipts(requests + chance.sample(requests, 3))
            blow(world, line, chance)
        end_all_faults(world, line, chance)
        world.wait_statuses(ids, "synced", timeout_s=ALL_S)
        verdicts = {receipt_id: world.wait_reply(receipt_id) for receipt_id in ids}
        assert {reply["status"] for reply in verdicts.values()} == {"printed"}, done
        assert {receipt_id: len(world.documents_of(receipt_id)) for receipt_id in ids} == dict.fromkeys(ids, 1), done
        for kkt in REGISTERS:
            numbers = [entry["fd_number"] for entry in world.ofd_books()["documents"] if entry["kkt"] == kkt]
            assert len(numbers) == len(world.receipts_on(kkt)), done
        world.wait_state("buffer", lambda state: state["pending"] == 0 and state["dlq_size"] == 0)
