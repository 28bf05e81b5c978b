import json
import re

import pytest
from cli.running_bridge import BRIDGE, run


def test_a_healthy_bridge_at_a_glance(shop):
    done = shop.run("status")

    assert done.returncode == 0
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["online", "health", "buffer", "breaker", "sync", "kkt-1"]
    assert lines[1] == "health    healthy"
    assert re.search(r"ready, shift \d+ (open|closed), FN 9999\d{12} till 20\d\d-\d\d-\d\d, last FD \d+", lines[5])


def test_without_a_terminal_there_are_no_colours(shop):
    assert "\x1b" not in shop.run("status").stdout


def test_with_json_it_is_every_state_message(shop):
    states = shop.json("status")

    assert {"online", "health", "buffer", "breaker", "sync", "kkt"} <= states.keys()
    assert states["kkt"]["kkt-1"]["ready"] is True
    assert states["online"]["online"] is True


def test_a_degraded_bridge_is_told_with_its_reason(own_shop):
    own_shop.run("pause")

    done = own_shop.run("status")

    assert done.returncode == 1
    assert "health    degraded: buffer: paused by an operator" in done.stdout
    assert ", paused" in done.stdout


def test_an_unhealthy_bridge_is_told_with_its_reason(own_shop):
    own_shop.break_register(offline=True)
    own_shop.until(lambda state: state["health"]["status"] == "unhealthy", "a register away")

    done = own_shop.run("status")

    assert done.returncode == 1
    assert re.search(r"^! kkt-1 prints nothing: offline.* \(since 20", done.stdout, re.MULTILINE)
    assert "  -> check the register's power and cable" in done.stdout
    assert "health    unhealthy: kkt/kkt-1: " in done.stdout
    assert "kkt-1     not ready: " in done.stdout


def test_a_bridge_whose_disk_is_full_is_told_by_what_it_published(own_shop):
    own_shop.fill_disk()
    assert own_shop.run("pause").returncode == 1
    own_shop.until_published("health", lambda health: health["status"] == "unhealthy", "word of the journal")
    own_shop.until_published(
        "alerts", lambda told: any(alert["code"] == "storage" for alert in told["alerts"]), "the alert"
    )

    done = own_shop.run("status")

    assert done.returncode == 1
    assert re.search(r"storage_unavailable: .*; this is what the bridge has last published:\n", done.stderr)
    assert "health    unhealthy: journal: " in done.stdout
    assert re.search(r"^kkt-1     ready", done.stdout, re.MULTILINE)
    assert "! the journal takes nothing, new receipts are refused" in done.stdout
    assert "  -> look at the disk under the journal" in done.stdout


def test_with_json_what_was_published_has_the_same_shape(own_shop):
    answered = own_shop.json("status")
    own_shop.fill_disk()
    own_shop.run("pause")

    done = own_shop.run("status", "--json")

    states = json.loads(done.stdout)
    assert states.keys() == answered.keys()
    assert states["kkt"].keys() == answered["kkt"].keys()


def test_a_bridge_that_died_is_offline_since_about_its_last_word(own_shop):
    own_shop.kill_bridge()

    done = own_shop.run("status", "--json")

    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(
        rf"kkt-bridge: bridge {BRIDGE} is offline since about 20\d\d-\d\d-\d\dT[\d:.]+\+03:00: .*\n", done.stderr
    )


def test_a_bridge_that_was_stopped_is_offline(own_shop):
    own_shop.stop_bridge()

    done = own_shop.run("status")

    assert done.returncode == 1
    assert f"bridge {BRIDGE} is offline since about " in done.stderr


def test_a_bridge_that_never_was_is_told(shop):
    done = shop.run("status", "--bridge", "nobody")

    assert done.returncode == 1
    assert f"no bridge nobody has been seen at 127.0.0.1:{shop.broker.port} under kkt/v1" in done.stderr


def test_a_bridge_that_does_not_answer_is_told(shop):
    topic = "kkt/v1/deaf/state/online"
    with shop.client() as client:
        client.publish(
            topic, json.dumps({"online": True, "since": "2026-11-22T14:00:00.000+03:00"}).encode(), retain=True
        )

        done = shop.run("status", "--bridge", "deaf", "--timeout", "0.5")

        client.publish(topic, b"", retain=True)
    assert done.returncode == 1
    assert "bridge deaf did not answer `status` within 0.5 s" in done.stderr


@pytest.mark.parametrize("payload", [b"", b"no JSON", b"[]", b'{"online": 1}', b'{"online": "true"}'])
def test_a_state_that_says_nothing_is_no_bridge(shop, payload):
    topic = "kkt/v1/odd/state/online"
    with shop.client() as client:
        client.publish(topic, payload, retain=True)

        done = shop.run("status", "--bridge", "odd")

        client.publish(topic, b"", retain=True)
    assert done.returncode == 1
    assert "bridge odd " in done.stderr


def test_the_exit_statuses_are_documented():
    text = run("status", "--help").stdout

    for status, word in ((0, "healthy"), (1, "not healthy"), (2, "wrong arguments")):
        assert re.search(rf"^ +{status} .*{word}", text, re.MULTILINE)
