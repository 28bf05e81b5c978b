"""The OFD over HTTP: what its answers mean, and what no answer can do."""

import json
import socket
import ssl
import threading
import time
import uuid
from contextlib import closing, contextmanager

import httpx
import pytest
from support.clocks import NOON_MS, CreepingClock, ManualClock

from kkt_bridge.errors import DocumentRefused, OfdUnavailable, OfdUnreachable
from kkt_bridge.ofd.client import ANSWER_BYTES_MAX, RETRY_AFTER_MAX_S, OfdClient
from kkt_bridge.settings import OfdSettings
from kkt_bridge.simulators.ofd import OfdSimulator


@pytest.fixture(scope="module")
def simulator():
    with OfdSimulator() as running:
        yield running


@pytest.fixture
def faults(simulator):
    def put(**content):
        answer = httpx.put(f"{simulator.url}/_faults", json=content, trust_env=False)
        assert answer.status_code == 200, answer.text

    yield put
    put()


@contextmanager
def client_for(url, clock=None, **settings):
    client = OfdClient(OfdSettings(url=url, **settings), clock or ManualClock())
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def client(simulator, faults):
    with client_for(simulator.url, timeout_s=2) as opened:
        yield opened


def a_document():
    receipt_id = str(uuid.uuid4())
    body = {
        "receipt": {"pos_id": "pos-1", "receipt_id": receipt_id},
        "fiscal": {"kkt": "kkt-1", "fn_number": "9999078900000001", "fd_number": 2 + int(receipt_id[:6], 16)},
        "hlc": {},
        "ffd": {},
    }
    return f"pos-1:{receipt_id}", json.dumps(body).encode()


@contextmanager
def raw_server(*answers, pause_s=0.0):
    """A server that reads a request, sends these bytes piece by piece, and closes; one connection an answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve():
        for answer in answers:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with closing(connection):
                connection.recv(65536)
                try:
                    for piece in answer:
                        connection.sendall(piece)
                        if stop.wait(pause_s):
                            return
                except OSError:
                    pass  # the client has had enough

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        listener.close()
        thread.join(5)


def answer_of(status, body=b"{}", **headers):
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return [f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{head}Connection: close\r\n\r\n".encode() + body]


# -- accepted ---------------------------------------------------------------------------------------------


def test_an_accepted_document_brings_the_ofds_time(client):
    before = int(time.time())
    assert before <= client.deliver(*a_document()) <= time.time()


def test_a_repeat_is_accepted_as_the_same(client, simulator):
    key, body = a_document()
    client.deliver(key, body)
    client.deliver(key, body)
    (entry,) = [
        entry
        for entry in httpx.get(f"{simulator.url}/_received", trust_env=False).json()["documents"]
        if entry["key"] == key
    ]
    assert entry["times"] == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"[" * 60_000, b"not JSON", b"[]", b"null", b"{}", b'{"server_time": null}', b'{"server_time": true}',
     b'{"server_time": "1795345381"}', b'{"server_time": -1}', b'{"server_time": 1e300}', b'{"server_time": NaN}',
     b'{"server_time": Infinity}', b'{"server_time": 99999999999999999999}', b"\xff\xfe"],
)  # fmt: skip
def test_an_acceptance_that_does_not_tell_the_time_is_one(body):
    with raw_server(answer_of(200, body)) as url, client_for(url) as client:
        assert client.deliver(*a_document()) is None


@pytest.mark.parametrize(
    ("told", "understood"), [(b"1795345381", 1795345381), (b"1795345381.9", 1795345381), (b"0", 0)]
)
def test_the_ofds_time_is_in_seconds(told, understood):
    with raw_server(answer_of(202, b'{"server_time": %b}' % told)) as url, client_for(url) as client:
        assert client.deliver(*a_document()) == understood


# -- refused, or not now --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 413, 415, 418, 422, 451, 499])
def test_other_client_errors_refuse_this_document(client, faults, status):
    faults(outage=True, status=status)
    with pytest.raises(DocumentRefused, match=str(status)):
        client.deliver(*a_document())


@pytest.mark.parametrize("status", [301, 302, 307, 308, 408, 425, 429, 500, 501, 502, 503, 504, 599])
def test_what_passes_is_tried_again(client, faults, status):
    faults(outage=True, status=status)
    with pytest.raises(OfdUnavailable, match=str(status)) as raised:
        client.deliver(*a_document())
    assert raised.value.retry_after_s is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("999999999", RETRY_AFTER_MAX_S),
        ("Sun, 22 Nov 2026 09:04:00 GMT", 60.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2099 09:00:00 GMT", RETRY_AFTER_MAX_S),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("Sun, 99 Nov 2026 09:00:00 GMT", None),
        ("Sunday, 22-Nov-26 09:04:00 GMT", 60.0),
        ("Sun Nov 22 09:04:00 2026", 60.0),
        ("Sun, 22 Nov 2026 09:04:00 -0000", 60.0),
    ],
)
def test_the_ofds_own_wish_is_heard(header, expected):
    with (
        raw_server(answer_of(503, Retry_After=header)) as url,
        client_for(url, ManualClock(NOON_MS)) as client,
    ):
        with pytest.raises(OfdUnavailable) as raised:
            client.deliver(*a_document())
        assert raised.value.retry_after_s == expected


@pytest.mark.parametrize(
    "wall_ms", [0, NOON_MS, NOON_MS + 10 * 365 * 86_400_000], ids=["1970", "right", "in ten years"]
)
@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Sun, 22 Nov 2026 09:04:00 GMT", 60.0),
        ("Sunday, 22-Nov-26 09:04:00 GMT", 60.0),
        ("Sun, 22 Nov 2026 08:00:00 GMT", 0.0),
        ("Tue, 24 Nov 2026 09:03:00 GMT", RETRY_AFTER_MAX_S),
        ("7", 7.0),
    ],
)
def test_a_date_is_judged_by_the_clock_that_wrote_it(header, expected, wall_ms):
    answer = answer_of(503, Retry_After=header, Date="Sun, 22 Nov 2026 09:03:00 GMT")
    with raw_server(answer) as url, client_for(url, ManualClock(wall_ms)) as client:
        with pytest.raises(OfdUnavailable) as raised:
            client.deliver(*a_document())
        assert raised.value.retry_after_s == expected


@pytest.mark.parametrize("date", ["", "today", "Sun, 99 Nov 2026 09:03:00 GMT"])
def test_a_date_that_is_none_leaves_our_own_clock(date):
    answer = answer_of(503, Retry_After="Sun, 22 Nov 2026 09:04:00 GMT", Date=date)
    with raw_server(answer) as url, client_for(url, ManualClock(NOON_MS)) as client:
        with pytest.raises(OfdUnavailable) as raised:
            client.deliver(*a_document())
        assert raised.value.retry_after_s == 60.0


def test_an_error_is_told_in_a_few_words():
    with raw_server(answer_of(422, b"x" * 10_000)) as url, client_for(url) as client:
        with pytest.raises(DocumentRefused) as raised:
            client.deliver(*a_document())
        assert len(str(raised.value)) < 300


# -- no usable answer -----------------------------------------------------------------------------------------


def test_nobody_there():
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        with client_for(f"http://127.0.0.1:{reserved.getsockname()[1]}") as client:
            with pytest.raises(OfdUnreachable, match="ConnectError"):
                client.deliver(*a_document())
            with pytest.raises(OfdUnreachable):
                client.ask_health()


def test_an_answer_lost_on_the_way(client, faults):
    faults(drop_answers_next=1)
    key, body = a_document()
    with pytest.raises(OfdUnreachable):
        client.deliver(key, body)
    assert client.deliver(key, body) is not None


def test_an_answer_that_takes_too_long(simulator, faults):
    faults(latency_s=5)
    with client_for(simulator.url, timeout_s=0.2) as client, pytest.raises(OfdUnreachable, match="no answer in time"):
        client.deliver(*a_document())


@pytest.mark.parametrize(
    "answer",
    [
        [b""],
        [b"\x00" * 100],
        [b"SSH-2.0-OpenSSH_9.2\r\n"],
        [b"HTTP/1.1 200 OK\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnot!"],
        [b"HTTP/1.1 2000 OK\r\n\r\n"],
    ],
)
def test_an_answer_that_is_none(answer):
    with raw_server(answer) as url, client_for(url, timeout_s=2) as client, pytest.raises(OfdUnreachable):
        client.deliver(*a_document())


def test_an_answer_that_does_not_end():
    endless = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", *([b"x" * 8192] * 100)]
    assert sum(map(len, endless)) > ANSWER_BYTES_MAX
    with (
        raw_server(endless) as url,
        client_for(url, timeout_s=5) as client,
        pytest.raises(OfdUnreachable, match="does not end"),
    ):
        client.deliver(*a_document())


def test_an_answer_that_drips_holds_nothing_up_beyond_the_time_out():
    """Each byte comes in time; all of them would take for ever."""
    drip = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *([b"x"] * 1000)]
    with (
        raw_server(drip, pause_s=0.01) as url,
        client_for(url, CreepingClock(0.5), timeout_s=3) as client,
        pytest.raises(OfdUnreachable, match="does not end"),
    ):
        client.deliver(*a_document())


def test_the_environment_does_not_say_where_documents_go(simulator, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with client_for(simulator.url) as client:
        assert client.deliver(*a_document()) is not None


# -- health -----------------------------------------------------------------------------------------------------


def test_the_health_check_tells_whether_the_ofd_is_alive(client, faults):
    assert client.ask_health()
    faults(outage=True)
    with pytest.raises(OfdUnavailable, match="503"):
        client.ask_health()


@pytest.mark.parametrize("status", [404, 405])
def test_an_ofd_without_a_health_check_is_neither(status):
    with raw_server(answer_of(status)) as url, client_for(url) as client:
        assert not client.ask_health()


def test_no_path_is_no_health_check(simulator):
    with client_for(simulator.url, health_path="") as client:
        assert not client.ask_health()


@pytest.mark.parametrize("status", [301, 401, 429, 500, 503])
def test_any_other_answer_is_not_a_live_one(status):
    with raw_server(answer_of(status)) as url, client_for(url) as client, pytest.raises(OfdUnavailable):
        client.ask_health()


def test_an_address_with_a_path_and_a_slash_is_kept(simulator):
    with client_for(f"{simulator.url}/") as client:
        assert client.ask_health()
    with raw_server(answer_of(204, b"")) as url, client_for(f"{url}/gateway/") as client:
        assert client.deliver(*a_document()) is None


# -- the request ------------------------------------------------------------------------------------------------


@contextmanager
def listening():
    """An OFD that takes everything, and what it heard."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(answer_of(200)[0])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", heard
        thread.join(5)


def test_a_document_is_one_post_with_its_key_and_nothing_that_tells_of_the_machine():
    key, body = a_document()
    with listening() as (address, heard), client_for(f"http://{address}/gateway") as client:
        client.deliver(key, body)
    head, _, rest = heard[0].partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    assert line == "POST /gateway/ofd/v1/receipt HTTP/1.1"
    assert dict(header.split(": ", 1) for header in headers) == {
        "Host": address,
        "User-Agent": "kkt-bridge",
        "Idempotency-Key": key,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    }
    assert body.startswith(rest)


def test_a_name_and_a_password_in_the_address_are_shown_to_the_ofd():
    with listening() as (address, heard), client_for(f"http://shop:p%40ss@{address}") as client:
        client.deliver(*a_document())
    assert b"Authorization: Basic c2hvcDpwQHNz\r\n" in heard[0]
    assert b"p%40ss@" not in heard[0]


def test_a_name_alone_has_an_empty_password():
    """RFC 7617: the colon stands there all the same."""
    with listening() as (address, heard), client_for(f"http://token@{address}") as client:
        client.deliver(*a_document())
    assert b"Authorization: Basic dG9rZW46\r\n" in heard[0]


def test_a_certificate_that_nobody_vouches_for_is_not_trusted():
    with client_for("https://127.0.0.1:9") as client:
        context = client._http._pool._ssl_context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
