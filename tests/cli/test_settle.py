"""`kkt-bridge settle`, as an operator types it; how it settles is shown in tests/integration/test_doubts.py."""

import json
import uuid

import pytest
from support.receipts import encoded, receipt

from kkt_bridge.cli.message_text import message_lines, state_line
from kkt_bridge.wire.examples import EXAMPLES

ID = str(uuid.uuid4())
WHOLE = ["--fn=9999078900000001", "--sign=2819546253", "--at=2026-11-22T14:03:00+03:00", "--shift=12", "--number=34"]


def test_no_doubts_are_told_in_a_line(shop):
    listed = shop.run("settle", "list")

    assert (listed.returncode, listed.stdout) == (0, "receipts in doubt: 0, shown: 0\n")
    assert shop.json("settle", "list") == {"doubts": [], "total": 0, "in_the_way": []}


@pytest.mark.parametrize("work", [["adopt", "--fd=3"], ["adopt", "--fd=3", *WHOLE], ["print-again", "--doubt=1"]])
def test_an_unknown_receipt_is_one_line(shop, work):
    done = shop.run("settle", *work, ID, "--reason=x")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"kkt-bridge: not_found: no receipt {ID} was ever taken here; ")


def test_a_document_that_is_in_nobodys_way_is_not_passed(shop):
    done = shop.run("settle", "pass", "--fn=9999078900000001", "--fd=3", "--reason=x")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("kkt-bridge: not_in_the_way: no register here holds fiscal storage 9999078900000001;")


def test_a_receipt_that_is_not_in_doubt_says_what_it_is(shop):
    request = receipt()
    assert shop.run("send", "-", stdin=encoded(request)).returncode == 0

    done = shop.run("settle", "print-again", request["receipt_id"], "--doubt=1", "--reason=x", "--json")

    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "not_in_doubt"
    assert "is printed:" in error["message"] or "is synced:" in error["message"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["adopt", ID, "--reason=x"], "required: --fd"),
        (["adopt", ID, "--fd=3"], "required: --reason"),
        (["adopt", ID, "--fd=0", "--reason=x"], "argument --fd: '0'"),
        (["adopt", ID, "--fd=3", "--reason="], "argument --reason: ''"),
        (["adopt", "x", "--fd=3", "--reason=x"], "argument ID: 'x': expected a lower-case UUID"),
        (["adopt", ID, "--fd=3", "--reason=x", *WHOLE[:-1]], "told whole: --number missing"),
        (["adopt", ID, "--fd=3", "--reason=x", "--fn=12"], "argument --fn: '12'"),
        (["adopt", ID, "--fd=3", "--reason=x", "--at=2026-11-22"], "argument --at: '2026-11-22': expected a time"),
        (["print-again", ID, "--doubt=1"], "required: --reason"),
        (["print-again", ID, "--reason=x"], "required: --doubt"),
        (["pass", "--fd=3", "--reason=x"], "required: --fn"),
        (["pass", "--fn=9999078900000001", "--fd=3"], "required: --reason"),
        (["pass", "--fn=9999078900000001", "--fd=0", "--reason=x"], "argument --fd: '0'"),
    ],
)
def test_wrong_arguments_are_named(shop, words, complaint):
    done = shop.run("settle", *words)

    assert done.returncode == 2
    assert complaint in done.stderr


def test_alerts_and_doubts_are_told_in_words():
    (told,) = message_lines("event/alert", json.dumps(dict(EXAMPLES["event-alert"])).encode())
    assert "unsettled_doubt raised: kkt-1 prints nothing" in str(told)

    state = dict(EXAMPLES["state-kkt"]) | {"doubts_total": 2, "ready": False, "problem": "unsettled_doubt"}
    assert "2 in doubt: settle by hand" in str(state_line("kkt/kkt-1", state))
    assert "in doubt" not in str(state_line("kkt/kkt-1", dict(EXAMPLES["state-kkt"])))

    command = dict(EXAMPLES["event-command"]) | {"name": "settle", "reason": "seen on the roll"}
    (told,) = message_lines("event/command", json.dumps(command).encode())
    assert str(told).endswith("settle by ops (seen on the roll): done")
