import json
import subprocess
import uuid

import pytest
from cli.running_bridge import BRIDGE, ENVIRONMENT, command, run
from support.receipts import encoded, item, receipt, small_receipt


@pytest.fixture
def file(tmp_path):
    """Writes receipts into a file, one a line, and says where."""

    def write(*receipts):
        path = tmp_path / "receipts.json"
        path.write_bytes(b"\n".join(part if isinstance(part, bytes) else encoded(part) for part in receipts))
        return path

    return write


def test_a_printed_receipt_is_one_clear_line(shop, file):
    request = receipt()

    done = shop.run("send", file(request))

    assert done.returncode == 0
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"printed {request['receipt_id']} of pos-1: FD ")
    assert " on kkt-1, total 200.50, change 10.00, QR t=" in line


def test_with_json_each_reply_is_a_line_of_the_contract(shop, file):
    requests = [receipt() for _ in range(5)]

    done = shop.run("send", file(*requests), "--json")

    assert done.returncode == 0
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert [request["receipt_id"] for request in requests] == [reply["receipt_id"] for reply in replies]
    assert [(reply["status"], reply["final"]) for reply in replies] == [("printed", True)] * 5
    numbers = [reply["fiscal"]["fd_number"] for reply in replies]
    assert list(range(numbers[0], numbers[0] + 5)) == numbers


def test_standard_input_is_a_file_too(shop):
    request = receipt()

    done = shop.run("send", "-", stdin=encoded([request]))

    assert done.returncode == 0
    assert f"printed {request['receipt_id']}" in done.stdout


def test_missing_ids_are_put_in_and_said(shop, file):
    request = receipt()
    del request["receipt_id"], request["pos_id"]

    done = shop.run("send", file(request), "--pos", "till.2", "--json")

    reply = json.loads(done.stdout)
    assert done.returncode == 0
    assert reply["pos_id"] == "till.2"
    assert f"receipt 1 has no receipt_id: it is sent as {reply['receipt_id']}" in done.stderr
    assert reply["receipt_id"] == str(uuid.UUID(reply["receipt_id"]))


def test_a_rejection_names_each_wrong_field(shop, file):
    request = receipt(items=[item(price="10,00", vat="18")], colour="red")

    done = shop.run("send", file(request))

    assert done.returncode == 3
    head, *fields = done.stdout.splitlines()
    assert head.startswith(f"rejected {request['receipt_id']} of pos-1: invalid_receipt: ")
    assert {"items.0.price", "items.0.vat", "colour"} == {field.split(":")[0].strip() for field in fields}
    assert all(field.startswith("    ") for field in fields)


def test_one_rejection_among_printed_ones_is_told_by_the_exit_status(shop, file):
    good, bad, good_too = receipt(), receipt(type="gift"), receipt()

    done = shop.run("send", file(good, bad, good_too), "--json")

    assert done.returncode == 3
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert {good["receipt_id"]: "printed", bad["receipt_id"]: "rejected", good_too["receipt_id"]: "printed"} == {
        reply["receipt_id"]: reply["status"] for reply in replies
    }


def test_receipts_arrive_in_the_bytes_that_stand_in_the_file(shop, file):
    odd = b'{ "receipt_id":"NO", "pos_id" : "pos-4",  "x": 1.50e0, "x": 1e400 }'

    with shop.client("pos/pos-4/receipt") as listener:
        done = shop.run("send", file(odd))
        payloads = listener.payloads(1)

    assert [odd] == payloads
    assert done.returncode == 3
    assert done.stdout.startswith("rejected NO of pos-4: invalid_json: ")


def test_raw_sends_any_bytes(shop, file):
    broken = b'\xef\xbb\xbf{"receipt_id": "\xff"\n'

    with shop.client("pos/pos-6/receipt") as listener:
        done = shop.run("send", file(broken), "--raw", "--pos", "pos-6")
        payloads = listener.payloads(1)

    assert [broken] == payloads
    assert done.returncode == 3
    assert "invalid_json: starts with a byte-order mark" in done.stdout


def test_raw_shows_what_a_foreign_topic_leads_to(shop, file):
    done = shop.run("send", file(receipt(pos_id="pos-1")), "--raw", "--pos", "pos-2")

    assert done.returncode == 3
    assert "pos_mismatch" in done.stdout


def test_sending_again_prints_nothing_twice_and_says_so(shop, file):
    receipts = file(receipt())
    first = shop.run("send", receipts)

    again = shop.run("send", receipts)

    assert (first.returncode, again.returncode) == (0, 0)
    assert again.stdout == first.stdout.rstrip("\n") + " (told again: it had been taken before)\n"


def test_the_same_receipt_twice_in_a_file_has_two_replies(shop, file):
    request = receipt()

    done = shop.run("send", file(request, request, small_receipt(receipt_id=request["receipt_id"])), "--json")

    assert done.returncode == 3
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(reply["status"], reply["duplicate"]) for reply in replies] == [
        ("printed", False),
        ("printed", True),
        ("rejected", False),
    ]
    assert replies[2]["error"]["code"] == "idempotency_conflict"


def test_replies_without_an_id_find_their_receipt_on_an_old_broker_too(old_shop, file):
    good, good_too = receipt(), receipt()

    done = old_shop.run("send", file(b"1", good, {"receipt_id": "NO"}, {**good_too, "pos_id": "pos-2"}, b'"x"'))

    assert done.returncode == 3
    lines = [line for line in done.stdout.splitlines() if not line.startswith("    ")]
    assert [sum(line.startswith(word) for line in lines) for word in ("rejected no receipt_id", "printed")] == [2, 2]


def test_more_receipts_than_wait_at_once_all_get_through(shop, file):
    done = shop.run("send", file(*(receipt(pos_id=f"pos-{n % 3}") for n in range(150))), "--json")

    assert done.returncode == 0
    assert len({json.loads(line)["receipt_id"] for line in done.stdout.splitlines()}) == 150


def test_a_register_that_is_away_leaves_the_receipt_buffered(own_shop, file):
    request = receipt()
    own_shop.break_register(offline=True)

    done = own_shop.run("send", file(request), "--timeout", "2")

    assert done.returncode == 4
    assert f"buffered {request['receipt_id']} of pos-1: safe in the bridge" in done.stdout
    (line,) = done.stderr.splitlines()
    assert f"receipt 1 ({request['receipt_id']} of pos-1): no final reply within 2 s: it is safe in the bridge" in line


def test_a_reply_that_comes_late_is_waited_for(own_shop, file):
    own_shop.break_register(offline=True)
    with subprocess.Popen(
        [*command("send", file(receipt()), "--json", "--config", own_shop.config)],
        stdout=subprocess.PIPE, text=True, env=ENVIRONMENT,
    ) as sending:  # fmt: skip
        first = json.loads(sending.stdout.readline())
        own_shop.break_register()
        last = json.loads(sending.stdout.readline())

    assert (first["status"], last["status"]) == ("buffered", "printed")
    assert sending.returncode == 0


def test_a_bridge_that_is_down_is_said(own_shop, file):
    own_shop.kill_bridge()

    done = own_shop.run("send", file(receipt()), "--timeout", "1")

    assert done.returncode == 4
    assert done.stdout == ""
    assert f"bridge {BRIDGE} is offline; the broker may keep it for its return" in done.stderr


def test_a_bridge_that_never_was_is_said(shop, file):
    done = shop.run("send", file(receipt()), "--timeout", "1", "--bridge", "nobody")

    assert done.returncode == 4
    assert "bridge nobody said nothing; is it the right one, and running?" in done.stderr


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b'{"a": 1', "line 1 column 8: not JSON"), (b"", "there is no receipt in it"), (b"\xff", "not UTF-8")],
)
def test_a_file_without_receipts_ends_before_anything_is_sent(closed_port, file, content, complaint):
    path = file(content)

    done = run("send", path, "--bridge", BRIDGE, "--port", closed_port)

    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"kkt-bridge send: {path}: {complaint}")


def test_a_missing_file_is_told(closed_port, tmp_path):
    done = run("send", tmp_path / "none.json", "--bridge", BRIDGE, "--port", closed_port)

    assert done.returncode == 2
    assert done.stderr == f"kkt-bridge send: {tmp_path}/none.json: No such file or directory\n"
