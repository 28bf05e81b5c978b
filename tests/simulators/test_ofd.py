"""The simulated OFD over real HTTP: what it accepts, what it remembers, how it fails when told to."""

import concurrent.futures
import json
import resource
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from datetime import datetime

import httpx
import pytest
from support.hostile_ofd import make_authority

from kkt_bridge.simulators.ofd import OfdSimulator, StateFileError
from kkt_bridge.simulators.ofd.faults import FIELDS

KEY = "pos-1:0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11"
COMMAND = """
import argparse, sys
from kkt_bridge.cli import sim_ofd
parser = argparse.ArgumentParser()
sim_ofd.add_arguments(parser)
sys.exit(sim_ofd.run(parser.parse_args()))
"""


def document(key=KEY, fd_number=..., **fiscal):
    pos_id, _, receipt_id = key.partition(":")
    if fd_number is ...:  # another receipt is another document
        fd_number = 412 if key == KEY else 1000 + int(receipt_id[:7], 16)
    return {
        "receipt": {"pos_id": pos_id, "receipt_id": receipt_id, "items": [{"name": "Оправа", "price": "1.00"}]},
        "fiscal": {"kkt": "kkt-1", "fn_number": "9999078900000001", "fd_number": fd_number, **fiscal},
        "hlc": {"wall_ms": 1795345380123, "counter": 0, "server_time": None},
        "ffd": {"1040": fd_number},
    }


def new_key(pos="pos-1"):
    return f"{pos}:{uuid.uuid4()}"


def post(client, key=KEY, body=None, **headers):
    body = document(key) if body is None else body
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/ofd/v1/receipt", content=content, headers={"Idempotency-Key": key, **headers})


def put_faults(client, **faults):
    answer = client.put("/_faults", json=faults)
    assert answer.status_code == 200, answer.text
    return answer.json()


def received(client, query=""):
    return client.get(f"/_received{query}").json()


@contextmanager
def client_of(url):
    with httpx.Client(base_url=url, timeout=10, trust_env=False, verify=False) as client:
        yield client


@pytest.fixture
def ofd():
    with OfdSimulator() as simulator:
        yield simulator


@pytest.fixture
def client(ofd):
    with client_of(ofd.url) as client:
        yield client


@contextmanager
def process(*arguments):
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.communicate(timeout=20)
        finally:
            child.kill()


def url_of(child):
    return json.loads(child.stdout.readline())["url"]


class TestAccepting:
    def test_a_document_is_accepted_with_the_time_of_the_server(self, client):
        before = int(time.time())
        answer = post(client)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        content = answer.json()
        assert before <= content.pop("server_time") <= time.time()
        assert content == {"accepted": True, "duplicate": False}

    def test_the_books_show_each_key_with_its_document_times_and_order(self, client):
        second = new_key("pos-2")
        for key, fd_number in ((KEY, 412), (second, 413), (KEY, 412)):
            assert post(client, key, document(key, fd_number)).status_code == 200
        books = received(client)
        assert [
            (entry["key"], entry["kkt"], entry["fn_number"], entry["fd_number"], entry["times"], entry["order"])
            for entry in books["documents"]
        ] == [
            (KEY, "kkt-1", "9999078900000001", 412, 2, 1),
            (second, "kkt-1", "9999078900000001", 413, 1, 2),
        ]
        assert (books["total"], books["duplicates"], books["conflicts"], books["requests"]) == (2, 1, [], 3)
        first = books["documents"][0]
        times = [datetime.fromisoformat(first[name]) for name in ("first_at", "last_at")]
        assert times == sorted(times)
        assert all(at.utcoffset() is not None for at in times)

    def test_a_repeat_is_accepted_as_a_duplicate(self, client):
        assert [post(client).json()["duplicate"] for _ in range(3)] == [False, True, True]

    def test_the_full_books_hold_the_last_body_of_each(self, client):
        post(client)
        again = document() | {"hlc": {"wall_ms": 2, "counter": 1, "server_time": None}}
        post(client, body=json.dumps(again, ensure_ascii=False, indent=2).encode())
        assert "body" not in received(client)["documents"][0]
        assert "body" not in received(client, "?full=0")["documents"][0]
        assert received(client, "?full=1")["documents"][0]["body"] == again

    @pytest.mark.parametrize("change", [{"fd_number": 413}, {"fn_number": "9999078900000002"}])
    def test_another_fiscal_document_under_a_known_key_is_a_conflict(self, client, change):
        post(client)
        answer = post(client, body=document(**change))
        assert answer.status_code == 409
        assert KEY in answer.json()["error"]
        books = received(client)
        (conflict,) = books["conflicts"]
        first = {"key": KEY, "fn_number": "9999078900000001", "fd_number": 412}
        assert datetime.fromisoformat(conflict.pop("at"))
        assert conflict == {"key": KEY, "accepted": first, "refused": first | change}
        assert (books["total"], books["duplicates"], books["requests"]) == (1, 0, 2)
        assert post(client).json()["duplicate"], "the first document is untouched"

    def test_a_document_under_another_key_is_a_conflict(self, client):
        """Two shops whose registers have the same fiscal storage."""
        post(client)
        other = new_key("pos-9")
        answer = post(client, other, document(other, 412))
        assert answer.status_code == 409
        assert "no two registers have the same storage" in answer.json()["error"]
        books = received(client)
        (conflict,) = books["conflicts"]
        assert (conflict["accepted"]["key"], conflict["refused"]["key"]) == (KEY, other)
        assert books["total"] == 1
        assert post(client, other, document(other, 413)).status_code == 200

    def test_concurrent_documents_and_repeats_are_each_counted_once(self, ofd):
        keys = [new_key(f"pos-{number}") for number in range(40)]

        def send_all(_):
            with client_of(ofd.url) as client:
                return [post(client, key).json()["duplicate"] for key in keys]

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            duplicates = [flag for flags in pool.map(send_all, range(8)) for flag in flags]
        assert duplicates.count(False) == 40
        with client_of(ofd.url) as client:
            books = received(client)
        assert {entry["key"] for entry in books["documents"]} == set(keys)
        assert [entry["order"] for entry in books["documents"]] == list(range(1, 41))
        assert {entry["times"] for entry in books["documents"]} == {8}
        assert (books["duplicates"], books["requests"]) == (280, 320)


class TestRefusing:
    @pytest.mark.parametrize(
        "key", ["", "pos-1", "pos-1:", f"-pos:{KEY[6:]}", KEY.upper(), f"{KEY}0", "pos 1:" + KEY[6:]]
    )
    def test_a_key_of_another_form_is_a_bad_request(self, client, key):
        answer = post(client, body=document(), **{"Idempotency-Key": key})
        assert answer.status_code == 400
        assert "Idempotency-Key" in answer.json()["error"]

    def test_a_missing_key_is_a_bad_request(self, client):
        answer = client.post("/ofd/v1/receipt", json=document())
        assert answer.status_code == 400
        assert "Idempotency-Key is missing" in answer.json()["error"]

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b"\xff{}", b'"text"', b'{"receipt": NaN}', b"[" * 100_000, b"\xef\xbb\xbf{}"]
    )
    def test_a_body_that_is_no_json_object_is_a_bad_request(self, client, body):
        answer = post(client, body=body)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("the body is not")

    @pytest.mark.parametrize("block", ["receipt", "fiscal", "hlc", "ffd"])
    def test_each_block_must_be_an_object(self, client, block):
        for body in ({**document(), block: None}, {**document(), block: []}):
            answer = post(client, body=body)
            assert (answer.status_code, answer.json()) == (400, {"error": f"{block}: expected a JSON object"})

    @pytest.mark.parametrize("number", [None, "412", 412.0, True])
    def test_an_fd_number_that_is_no_integer_is_refused(self, client, number):
        answer = post(client, body=document(fd_number=number))
        assert (answer.status_code, answer.json()) == (422, {"error": "fiscal.fd_number: expected an integer"})

    @pytest.mark.parametrize("number", [None, "", 9999])
    def test_an_fn_number_that_is_no_text_is_refused(self, client, number):
        answer = post(client, body=document(fn_number=number))
        assert answer.status_code == 422
        assert "fiscal.fn_number" in answer.json()["error"]

    def test_a_key_of_another_receipt_is_refused(self, client):
        other = new_key()
        answer = post(client, other, document(KEY))
        assert answer.status_code == 422
        assert other in answer.json()["error"]
        assert KEY in answer.json()["error"]

    def test_what_is_refused_is_counted_but_not_booked(self, client):
        post(client, body=b"{")
        post(client, body=document(fd_number="412"))
        assert [received(client)[name] for name in ("documents", "total", "requests")] == [[], 0, 2]

    def test_a_body_over_four_mebibytes_is_too_large(self, client):
        limit = 4 * 1024 * 1024
        padding = limit - len(json.dumps(document() | {"pad": ""}))
        largest = json.dumps(document() | {"pad": "x" * padding}).encode()
        assert len(largest) == limit
        assert post(client, body=largest).status_code == 200
        answer = post(client, body=largest + b" ")
        assert answer.status_code == 413
        assert "4194304" in answer.json()["error"]

    def test_unknown_paths_and_methods_are_answered_as_such(self, client):
        assert client.get("/elsewhere").status_code == 404
        answer = client.delete("/ofd/v1/receipt")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        head = client.head("/ofd/v1/health")
        assert (head.status_code, head.content) == (405, b"")
        assert client.get("/ofd/v1/health").json() == {"status": "ok"}, "the connection goes on"


class TestFaults:
    def test_an_outage_fails_everything_but_the_operator_paths(self, client):
        assert put_faults(client, outage=True) == {"outage": True}
        answers = [post(client), client.get("/ofd/v1/health"), client.get("/elsewhere")]
        assert [answer.status_code for answer in answers] == [503, 503, 503]
        assert [answer.json() for answer in answers] == [{"error": "outage"}] * 3
        assert received(client)["requests"] == 1
        assert put_faults(client) == {}
        assert post(client).status_code == 200
        assert client.get("/ofd/v1/health").status_code == 200

    @pytest.mark.parametrize("status", [302, 304, 408, 429, 502, 599])
    def test_an_outage_answers_the_status_asked_for(self, client, status):
        put_faults(client, outage=True, status=status)
        assert post(client).status_code == status
        assert client.get("/ofd/v1/health").status_code == status

    def test_the_next_documents_fail_and_the_one_after_is_accepted(self, client):
        put_faults(client, fail_next=2)
        assert client.get("/ofd/v1/health").status_code == 200
        assert [post(client).status_code for _ in range(3)] == [500, 500, 200]
        assert client.get("/_faults").json() == {}
        books = received(client)
        assert (books["total"], books["duplicates"], books["requests"]) == (1, 0, 3)

    def test_failing_documents_get_the_status_and_retry_after_asked_for(self, client):
        put_faults(client, fail_next=2, status=429, retry_after_s=7)
        answer = post(client)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert client.get("/_faults").json() == {"fail_next": 1, "status": 429, "retry_after_s": 7}
        post(client)
        healthy = post(client)
        assert healthy.status_code == 200
        assert "retry-after" not in healthy.headers

    def test_concurrent_senders_share_one_countdown(self, ofd, client):
        put_faults(client, fail_next=10)

        def send(_):
            with client_of(ofd.url) as own:
                return [post(own, new_key()).status_code for _ in range(10)]

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            statuses = [status for part in pool.map(send, range(4)) for status in part]
        assert (statuses.count(500), statuses.count(200)) == (10, 30)

    def test_a_dropped_answer_leaves_the_document_booked(self, client):
        put_faults(client, drop_answers_next=2)
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError):
                post(client)
        assert post(client).json()["duplicate"] is True
        assert received(client)["documents"][0]["times"] == 3

    def test_named_keys_are_refused_or_fail_for_ever_and_others_pass(self, client):
        refused, failing = new_key(), new_key()
        faults = {"refuse_keys": [refused], "error_keys": [failing]}
        assert put_faults(client, **faults) == faults
        for _ in range(3):
            assert post(client, refused).status_code == 422
            assert post(client, failing).status_code == 500
            assert post(client).status_code == 200
        assert [entry["key"] for entry in received(client)["documents"]] == [KEY]
        put_faults(client)
        assert post(client, refused).status_code == 200
        assert post(client, failing).status_code == 200

    def test_latency_delays_every_answer_but_the_operator_paths(self, client):
        put_faults(client, latency_s=0.3)
        started = time.monotonic()
        assert received(client)["total"] == 0
        assert time.monotonic() - started < 0.3
        for ask in (lambda: post(client), lambda: client.get("/ofd/v1/health")):
            started = time.monotonic()
            assert ask().status_code == 200
            assert time.monotonic() - started >= 0.3

    def test_a_sender_that_gives_up_waiting_has_its_document_booked_all_the_same(self, ofd, client):
        put_faults(client, latency_s=60)
        with client_of(ofd.url) as impatient, pytest.raises(httpx.ReadTimeout):
            impatient.post("/ofd/v1/receipt", json=document(), headers={"Idempotency-Key": KEY}, timeout=0.2)
        assert received(client)["total"] == 1

    def test_new_faults_replace_all_old_ones(self, client):
        put_faults(client, outage=True, fail_next=3)
        assert put_faults(client, latency_s=0.01) == {"latency_s": 0.01}
        assert client.get("/_faults").json() == {"latency_s": 0.01}
        assert post(client).status_code == 200

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("outage", 1),
            ("status", 200),
            ("status", 600),
            ("status", "503"),
            ("fail_next", -1),
            ("fail_next", True),
            ("fail_next", 1.5),
            ("latency_s", -1),
            ("latency_s", "2"),
            ("latency_s", 1e308),
            ("drop_answers_next", None),
            ("refuse_keys", "pos-1"),
            ("error_keys", [1]),
            ("retry_after_s", 0.5),
            ("outtage", True),
            ("post_status", 200),
            ("health_status", None),
            ("login_page", 1),
            ("rate_limit_per_s", 0),
            ("rate_limit_per_s", True),
            ("drip", "tail"),
            ("drip", []),
            ("body_bytes", -1),
            ("deep_json", 1.5),
            ("location", "http://x\r\n"),
        ],
    )
    def test_a_fault_not_understood_is_named_and_changes_nothing(self, client, name, value):
        put_faults(client, fail_next=5)
        answer = client.put("/_faults", json={"outage": True, name: value})
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(f"{name}: ")
        assert client.get("/_faults").json() == {"fail_next": 5}

    def test_documents_can_be_refused_while_the_health_check_is_well(self, client):
        put_faults(client, post_status=401)
        assert (post(client).status_code, client.get("/ofd/v1/health").status_code) == (401, 200)
        assert received(client)["total"] == 0

    def test_the_health_check_can_fail_or_be_absent_while_documents_go_in(self, client):
        put_faults(client, health_status=404)
        assert (post(client).status_code, client.get("/ofd/v1/health").status_code) == (200, 404)

    def test_a_redirection_leads_somewhere(self, client):
        put_faults(client, outage=True, status=302, location="http://127.0.0.1:1/x")
        assert post(client).headers["location"] == "http://127.0.0.1:1/x"

    def test_a_captive_portal_answers_everything_with_a_page_and_takes_nothing(self, client):
        put_faults(client, login_page=True)
        for answer in (post(client), client.get("/ofd/v1/health")):
            assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert "<form>" in answer.text
        assert received(client)["total"] == 0

    @pytest.mark.parametrize("wait", [{}, {"retry_after_s": 3}])
    def test_more_documents_than_allowed_are_told_to_come_later(self, client, wait):
        put_faults(client, rate_limit_per_s=0.001, **wait)
        first, second = post(client), post(client)
        assert (first.status_code, second.status_code) == (200, 429)
        assert second.headers.get("retry-after") == ("3" if wait else None)
        assert client.get("/ofd/v1/health").status_code == 200

    @pytest.mark.parametrize("part", ["head", "body"])
    def test_an_answer_can_drip(self, client, part):
        put_faults(client, drip=part, drip_s=0.001)
        assert post(client).json()["accepted"]

    def test_interim_answers_can_come_without_end(self, ofd, client):
        put_faults(client, drip="continue", drip_s=0)
        with socket.create_connection(("127.0.0.1", ofd.port), timeout=20) as raw:
            raw.sendall(b"GET /ofd/v1/health HTTP/1.1\r\n\r\n")
            heard = b"".join(raw.recv(65536) for _ in range(5))
        assert heard.startswith(b"HTTP/1.1 100 Continue\r\n\r\n" * 3)
        assert b"200 OK" not in heard

    def test_an_answer_can_be_long_or_deep(self, client):
        put_faults(client, body_bytes=100_000)
        assert len(post(client).content) > 100_000
        put_faults(client, deep_json=60_000)
        assert post(client).content == b"[" * 60_000

    def test_an_answer_can_be_garbage(self, client):
        put_faults(client, garbage=True)
        with pytest.raises(httpx.RemoteProtocolError):
            post(client)

    def test_a_kept_connection_can_close_as_the_next_request_comes_in(self, client):
        assert post(client).status_code == 200
        put_faults(client, close_kept_next=1)
        second = new_key()
        with pytest.raises(httpx.RemoteProtocolError):
            post(client, second)
        assert received(client)["total"] == 1
        assert post(client, second).status_code == 200

    def test_only_who_shows_the_token_is_served(self):
        with OfdSimulator(token="let me in") as ofd, client_of(ofd.url) as client:
            assert [post(client).status_code, client.get("/ofd/v1/health").status_code] == [401, 401]
            assert post(client, Authorization="Bearer let me out").status_code == 401
            assert post(client, Authorization="Bearer let me in").status_code == 200
            assert received(client)["total"] == 1

    @pytest.mark.parametrize("body", [b"", b"[]", b"{"])
    def test_faults_that_are_no_object_are_a_bad_request(self, client, body):
        assert client.put("/_faults", content=body).status_code == 400


class TestConnections:
    def exchange(self, ofd, request):
        """Send raw bytes and return all that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", ofd.port), timeout=10) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def test_one_connection_carries_many_requests(self, ofd):
        with socket.create_connection(("127.0.0.1", ofd.port), timeout=10) as connection:
            for _ in range(3):
                connection.sendall(b"GET /ofd/v1/health HTTP/1.1\r\nHost: ofd\r\n\r\n")
                answer = connection.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                assert answer.endswith(b'{"status": "ok"}'), "head and body come in one piece"

    def test_requests_sent_ahead_are_answered_in_order(self, ofd):
        health = b"GET /ofd/v1/health HTTP/1.1\r\nHost: ofd\r\nContent-Length: 2\r\n\r\n{}\r\n"
        answers = self.exchange(ofd, health + health + b"GET /_faults HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert answers.count(b"HTTP/1.1 200 OK") == 3
        assert answers.endswith(b"Connection: close\r\n\r\n{}")

    def test_an_old_client_is_answered_once_and_let_go(self, ofd):
        with socket.create_connection(("127.0.0.1", ofd.port), timeout=10) as connection:
            connection.sendall(b"GET /ofd/v1/health HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b"Connection: close" in answer

    def test_a_client_that_waits_for_continue_gets_it(self, ofd):
        head = b"PUT /_faults HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        with socket.create_connection(("127.0.0.1", ofd.port), timeout=10) as connection:
            connection.sendall(head)
            assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(b"{}")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")

    @pytest.mark.parametrize(
        ("request_bytes", "status"),
        [
            (b"nonsense\r\n\r\n", b"400"),
            (b"GET / HTTP/2.0\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nA: b\r\n folded: c\r\n\r\n", b"400"),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
            (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
            (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n", b"431"),
            (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", b"431"),
        ],
    )
    def test_what_cannot_be_read_is_answered_and_closed(self, ofd, request_bytes, status):
        answer = self.exchange(ofd, request_bytes)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"Connection: close" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]

    @pytest.mark.parametrize("part", [b"", b"POST /ofd/v1/re", b"PUT /_faults HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"])
    def test_half_a_request_has_no_effect(self, ofd, client, part):
        put_faults(client, fail_next=1)
        assert self.exchange(ofd, part) == b""
        assert client.get("/_faults").json() == {"fail_next": 1}


class TestStopping:
    def test_a_stopped_ofd_is_really_away_and_comes_back_on_its_port(self):
        simulator = OfdSimulator()
        with simulator, client_of(simulator.url) as client:
            post(client)
            put_faults(client, fail_next=1)
            url = simulator.url
            simulator.stop()
            with pytest.raises(httpx.TransportError):
                post(client)
            with pytest.raises(httpx.ConnectError):
                post(client)
            simulator.start()
            assert simulator.url == url
            assert post(client).json()["duplicate"] is True, "healed, and with its memory"

    def test_stopping_ends_idle_connections_and_answers_that_wait(self):
        simulator = OfdSimulator()
        simulator.start()
        with (
            client_of(simulator.url) as client,
            socket.create_connection(("127.0.0.1", simulator.port), timeout=10) as idle,
            concurrent.futures.ThreadPoolExecutor(1) as pool,
        ):
            put_faults(client, latency_s=600)
            waiting = pool.submit(client.post, "/ofd/v1/receipt", json=document(), headers={"Idempotency-Key": KEY})
            with client_of(simulator.url) as other:
                deadline = time.monotonic() + 10
                while received(other)["total"] == 0 and time.monotonic() < deadline:
                    pass
            started = time.monotonic()
            simulator.stop()
            assert time.monotonic() - started < 5
            assert idle.recv(1) == b""
            with pytest.raises(httpx.RemoteProtocolError):
                waiting.result(timeout=10)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("ofd-")]

    def test_stopping_twice_is_harmless_and_starting_twice_is_an_error(self, ofd):
        with pytest.raises(RuntimeError, match="running already"):
            ofd.start()
        ofd.stop()
        ofd.stop()

    def test_a_port_in_use_is_an_error_that_leaves_the_state_file_free(self, ofd, tmp_path):
        with pytest.raises(OSError, match="in use"):
            OfdSimulator(port=ofd.port, state=tmp_path / "state").start()
        with OfdSimulator(state=tmp_path / "state") as other, client_of(other.url) as client:
            assert post(client).status_code == 200


class TestState:
    def test_the_books_outlive_a_restart_and_the_faults_do_not(self, tmp_path):
        state = tmp_path / "ofd.jsonl"
        with OfdSimulator(state=state) as ofd, client_of(ofd.url) as client:
            post(client, body=json.dumps(document(), ensure_ascii=False, indent=1).encode())
            post(client)
            post(client, body=document(fd_number=413))
            post(client, other := new_key("pos-2"))
            put_faults(client, outage=True)
            before = received(client, "?full=1")
        with OfdSimulator(state=state) as ofd, client_of(ofd.url) as client:
            assert received(client, "?full=1") == before
            assert client.get("/_faults").json() == {}
            assert post(client, other).json()["duplicate"] is True
            assert received(client)["requests"] == 5

    def test_one_simulator_restarted_reads_its_file_once_each_time(self, tmp_path):
        simulator = OfdSimulator(state=tmp_path / "ofd.jsonl")
        for times in (1, 2, 3):
            with simulator, client_of(simulator.url) as client:
                post(client)
                assert received(client)["documents"][0]["times"] == times

    @pytest.mark.parametrize("cut", [1, 2, 40])
    def test_a_torn_last_line_is_ignored_and_cut_off(self, tmp_path, cut):
        state = tmp_path / "ofd.jsonl"
        second = new_key()
        with OfdSimulator(state=state) as ofd, client_of(ofd.url) as client:
            post(client)
            whole = state.read_bytes()
            post(client, second)
        state.write_bytes(state.read_bytes()[:-cut])
        with OfdSimulator(state=state) as ofd, client_of(ofd.url) as client:
            assert [entry["key"] for entry in received(client)["documents"]] == [KEY]
            assert state.read_bytes() == whole
            assert post(client, second).json()["duplicate"] is False
        with OfdSimulator(state=state) as ofd, client_of(ofd.url) as client:
            assert [entry["key"] for entry in received(client)["documents"]] == [KEY, second]

    @pytest.mark.parametrize("line", [b"not json\n", b"[]\n", b"{}\n", b'{"at":1,"body":{}}\n', b"\xff\n"])
    def test_a_file_of_something_else_is_refused_and_left_alone(self, tmp_path, line):
        state = tmp_path / "ofd.jsonl"
        with OfdSimulator(state=state) as ofd, client_of(ofd.url) as client:
            post(client)
        content = state.read_bytes() + line
        state.write_bytes(content)
        with pytest.raises(StateFileError, match=r"ofd\.jsonl: line 2 "):
            OfdSimulator(state=state).start()
        assert state.read_bytes() == content


class TestCommand:
    def test_the_help_says_how_to_make_it_fail(self):
        command = [sys.executable, "-c", COMMAND, "--help"]
        text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert 'curl -X PUT http://127.0.0.1:9000/_faults -d \'{"outage": true, "status": 503}\'' in text
        assert [name for name in FIELDS if name not in text] == []

    def test_it_speaks_tls_and_wants_a_token(self, tmp_path):
        make_authority(tmp_path)
        (tmp_path / "token").write_text("let-me-in\n")
        pair = (tmp_path / "server.pem", tmp_path / "server.key")
        with process("--port", 0, "--json", "--token-file", tmp_path / "token", "--tls", *pair) as child:
            url = url_of(child)
            assert url.startswith("https://")
            trusted = ssl.create_default_context(cafile=tmp_path / "ca.pem")
            with httpx.Client(base_url=url, trust_env=False, verify=trusted) as client:
                assert post(client).status_code == 401
                assert post(client, Authorization="Bearer let-me-in").status_code == 200

    def test_files_that_cannot_be_used_are_named(self, tmp_path):
        with process("--tls", tmp_path / "none.pem", tmp_path / "none.key") as child:
            _, complaint = child.communicate(timeout=60)
        assert child.returncode == 1
        assert complaint.startswith("kkt-bridge sim ofd: --token-file or --tls: ")

    def test_it_serves_until_terminated_and_exits_with_zero(self):
        for stop_signal in (signal.SIGTERM, signal.SIGINT):
            with process("--port", 0, "--json") as child:
                url = url_of(child)
                with client_of(url) as client:
                    assert post(client).status_code == 200
                    child.send_signal(stop_signal)
                    assert child.wait(timeout=10) == 0
                assert child.stderr.read() == ""

    def test_it_says_where_it_listens(self):
        with process("--port", 0) as child:
            assert child.stdout.readline().startswith("simulated OFD at http://127.0.0.1:")

    def test_a_killed_ofd_has_every_document_it_answered_for(self, tmp_path):
        arguments = ("--port", 0, "--json", "--state", tmp_path / "ofd.jsonl")
        keys = [new_key() for _ in range(50)]
        with process(*arguments) as child, client_of(url_of(child)) as client:
            assert {post(client, key).status_code for key in keys} == {200}
            child.kill()
            child.wait(timeout=10)
        with process(*arguments) as child, client_of(url_of(child)) as client:
            assert [entry["key"] for entry in received(client)["documents"]] == keys

    def test_a_full_disk_takes_no_document_and_tears_no_line(self, tmp_path):
        state = tmp_path / "ofd.jsonl"
        arguments = ("--port", 0, "--json", "--state", state)
        kept, lost = new_key(), new_key()
        with process(*arguments) as child, client_of(url_of(child)) as client:
            assert post(client, kept).status_code == 200
            whole = state.read_bytes()
            limits = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
            for room in (100, 0):
                resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (len(whole) + room, limits[1]))
                answer = post(client, lost)
                assert answer.status_code == 503
                assert "could not be stored" in answer.json()["error"]
                assert state.read_bytes() == whole
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, limits)
            assert [entry["key"] for entry in received(client)["documents"]] == [kept]
            assert post(client, lost).json()["duplicate"] is False

    def test_a_port_in_use_is_one_line_and_status_one(self, ofd):
        with process("--port", ofd.port) as child:
            out, err = child.communicate(timeout=30)
        assert (child.returncode, out) == (1, "")
        assert err.count("\n") == 1
        assert f"cannot listen on 127.0.0.1:{ofd.port}: Address already in use" in err

    def test_an_unusable_state_file_is_one_line_and_status_one(self, tmp_path):
        with process("--port", 0, "--state", tmp_path / "missing" / "ofd.jsonl") as child:
            out, err = child.communicate(timeout=30)
        assert (child.returncode, out, err.count("\n")) == (1, "", 1)
        assert "ofd.jsonl: No such file or directory" in err

    @pytest.mark.parametrize("port", ["70000", "-1", "http"])
    def test_a_port_that_is_none_is_a_usage_error(self, port):
        with process(f"--port={port}") as child:
            _, err = child.communicate(timeout=30)
        assert child.returncode == 2
        assert "is not a port from 0 to 65535" in err
