import json
import signal
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from cli.running_bridge import BRIDGE, ENVIRONMENT, STOP_TIMEOUT_S, command
from support.receipts import encoded, receipt

from kkt_bridge.cli.watch import ShopClock


@contextmanager
def watching(shop, *args):
    """A watch that runs, and has said its first line."""
    # A job of a shell in the background has SIGINT ignored, and its children too: Ctrl-C is to be heard all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        command("watch", "--config", shop.config, *args),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    ) as process:  # fmt: skip
        try:
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def lines_until(process, wanted):
    """The lines up to the first that holds this text."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            return lines
    raise AssertionError(f"ended without {wanted!r}: {lines}")


def test_it_ends_after_a_count(shop):
    done = shop.run("watch", "--count", "6")

    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 6


def test_with_json_each_message_is_a_topic_and_a_payload(shop):
    done = shop.run("watch", "--json", "--count", "6", "--topics", "state/*")

    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(message["topic"].startswith(f"kkt/v1/{BRIDGE}/state/") for message in messages)
    assert any(message["payload"].get("online") is True for message in messages)


def test_only_what_matches_is_shown(shop):
    done = shop.run("watch", "--json", "--count", "1", "--topics", "*/kkt-?")

    assert json.loads(done.stdout)["topic"] == f"kkt/v1/{BRIDGE}/state/kkt/kkt-1"


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b"plain words", "plain words"),
        (b"\xff", "\ufffd"),
        (b'{"n": NaN}', '{"n": NaN}'),
        (b'{"n": 1e999}', '{"n": 1e999}'),
        (b'{"n": 1.5}', {"n": 1.5}),
        (b"", ""),
    ],
)
def test_a_payload_that_is_no_json_is_text(shop, payload, shown):
    with watching(shop, "--json") as process, shop.client() as client:
        client.publish(f"kkt/v1/{BRIDGE}/oddle", payload)

        line = lines_until(process, "oddle")[-1]

    assert {"topic": f"kkt/v1/{BRIDGE}/oddle", "payload": shown} == json.loads(line)


def test_a_sale_is_told_step_by_step(shop):
    request = receipt(pos_id="pos-3")
    name = request["receipt_id"]
    with watching(shop) as process:
        shop.run("send", "-", stdin=encoded(request))

        told = "".join(lines_until(process, "printed > synced"))

    for line in (
        f"pos/pos-3/receipt      {name}: sale of 2 positions",
        f"event/receipt          {name} of pos-3: buffered",
        f"{name} of pos-3: printing > printed, FD ",
        f"pos/pos-3/reply        printed {name} of pos-3: FD ",
    ):
        assert line in told


def test_nothing_that_is_published_can_steer_the_terminal(shop):
    with watching(shop) as process, shop.client() as client:
        client.publish(f"kkt/v1/{BRIDGE}/event/odd", "\x1b[2J\x9b31m\u202e\r\n".encode())

        line = lines_until(process, "event/odd")[-1]

    assert line.endswith("event/odd              \\x1b[2J\\x9b31m\\u202e\\r\\n\n")


def test_ctrl_c_is_a_good_end(shop):
    with watching(shop) as process:
        process.send_signal(signal.SIGINT)

        assert process.wait(STOP_TIMEOUT_S) == 0
        assert process.stderr.read() == ""


def test_a_reader_that_leaves_is_a_good_end(shop):
    with watching(shop, "--topics", "state/online") as process:
        process.stdout.close()

        assert process.wait(STOP_TIMEOUT_S) == 0
        assert process.stderr.read() == ""


def test_a_reader_that_leaves_in_the_middle_of_a_line_is_a_good_end(shop):
    with watching(shop) as process, shop.client() as client:
        process.stdout.close()
        client.publish(f"kkt/v1/{BRIDGE}/event/odd", b"x" * 1000)

        assert process.wait(STOP_TIMEOUT_S) == 0
        assert process.stderr.read() == ""


def test_a_broker_that_goes_is_told(own_shop):
    with watching(own_shop) as process:
        own_shop.broker.kill()

        assert process.wait(STOP_TIMEOUT_S) == 1
        (line,) = process.stderr.read().splitlines()
        assert line == f"kkt-bridge: 127.0.0.1:{own_shop.broker.port}: the MQTT broker ended the connection"


def test_the_time_is_the_shops_and_not_this_machines():
    clock = ShopClock()
    clock.note(b"no JSON")
    clock.note(b'{"since": "2026-11-22T14:03:00.204+12:45"}')
    clock.note(b'{"receipt_id": "1"}')
    ahead = timedelta(hours=12, minutes=45)
    before, told, after = datetime.now(UTC) + ahead, clock.time(), datetime.now(UTC) + ahead
    assert told in {f"{before:%H:%M:%S}", f"{after:%H:%M:%S}"}
