"""One exchange with an OFD over HTTP, against servers written by hand: each has an answer, and an end."""

import asyncio
import itertools
import socket
import ssl
import threading
from contextlib import closing, suppress

import pytest
from support.hostile_ofd import ACCEPTED, a_document, answer_of, answering, hostile_ofd

from kkt_bridge.ofd.classify import ANSWER_BYTES_MAX
from kkt_bridge.ofd.exchange import AnswerKind, OfdOptions, OfdRequest
from kkt_bridge.ofd.http_client import OfdHttp
from kkt_bridge.simulators.ofd import OfdSimulator

HEALTH = OfdRequest("health")
PATIENT_S = 20.0
"""More than a loaded machine takes for anything on loopback."""

SHORT_S = 0.3
"""Of an exchange that is to come to its end."""


def exchange(url, *requests, timeout_s=PATIENT_S, health_path="/ofd/v1/health", **options):
    """What becomes of these requests, one after the other."""

    async def carry():
        http = OfdHttp(OfdOptions(url, timeout_s, health_path, **options))
        try:
            return [await http.exchange(request) for request in requests]
        finally:
            http.close()

    return asyncio.run(carry())


def kinds(answers):
    return [answer.kind for answer in answers]


# -- what goes well ------------------------------------------------------------------------------------------


def test_documents_and_health_checks_go_over_one_connection():
    with answering(answer_of(200)) as ofd:
        answers = exchange(ofd.url, a_document(), HEALTH, a_document(), a_document())
        assert kinds(answers) == [AnswerKind.ACCEPTED] * 4
        assert answers[0].server_time == 1795345381
        assert len(ofd.connections) == 1


def test_a_document_is_one_post_with_its_key_and_nothing_that_tells_of_the_machine():
    document = a_document()
    with answering(answer_of(200)) as ofd:
        exchange(f"{ofd.url}/gateway/", document)
        head, _, body = ofd.heard[0].partition(b"\r\n\r\n")
        line, *headers = head.decode().split("\r\n")
        assert line == "POST /gateway/ofd/v1/receipt HTTP/1.1"
        assert dict(header.split(": ", 1) for header in headers) == {
            "Host": f"127.0.0.1:{ofd.port}",
            "User-Agent": "kkt-bridge",
            "Accept-Encoding": "identity",
            "Idempotency-Key": document.key,
            "Content-Type": "application/json",
            "Content-Length": str(len(document.body)),
        }
        assert body == document.body


def test_the_simulated_ofd_takes_documents():
    with OfdSimulator() as ofd:
        document = a_document()
        answers = exchange(ofd.url, document, document, HEALTH)
    assert kinds(answers) == [AnswerKind.ACCEPTED] * 3


def test_a_large_document_is_refused_by_an_ofd_that_does_not_read_it():
    """It answers at the head and closes: the answer counts, not the broken connection."""

    def serve(_ofd, connection, _number):
        connection.recv(1000)
        connection.sendall(answer_of(413, b"too large", close=True))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    with hostile_ofd(serve) as ofd:
        (answer,) = exchange(ofd.url, OfdRequest("receipt", "k", b"x" * 5_000_000))
    assert (answer.kind, answer.status) == (AnswerKind.DOCUMENT_REFUSED, 413)


def test_interim_answers_are_passed_over():
    with answering(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + answer_of(200)) as ofd:
        assert kinds(exchange(ofd.url, a_document(), a_document())) == [AnswerKind.ACCEPTED] * 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\n" + ACCEPTED,
        b"HTTP/1.1 200\r\nConnection: close\r\n\r\n" + ACCEPTED,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\nTrailer: 1\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
    ],
)
def test_an_answer_may_end_in_every_way_of_http(answer):
    def serve(ofd, connection, _number):
        ofd.hear(connection)
        connection.sendall(answer)

    with hostile_ofd(serve) as ofd:
        assert kinds(exchange(ofd.url, a_document(), a_document())) == [AnswerKind.ACCEPTED] * 2


# -- a connection that was kept alive ------------------------------------------------------------------------


def test_a_kept_connection_that_closes_as_the_next_request_comes_costs_nothing():
    def serve(ofd, connection, _number):
        ofd.hear(connection)
        connection.sendall(answer_of(200))
        ofd.hear(connection)  # and closes, without a word

    with hostile_ofd(serve) as ofd:
        documents = [a_document() for _ in range(5)]
        assert kinds(exchange(ofd.url, *documents)) == [AnswerKind.ACCEPTED] * 5
        assert len(ofd.connections) == 5


def test_a_new_connection_that_closes_without_an_answer_is_a_failure():
    def serve(ofd, connection, _number):
        ofd.hear(connection)

    with hostile_ofd(serve) as ofd:
        (answer,) = exchange(ofd.url, a_document())
        assert answer.kind is AnswerKind.LINE_FAILED
        assert "closed without an answer" in answer.text
        assert len(ofd.connections) == 1


def test_a_request_is_repeated_once_and_no_more():
    def serve(ofd, connection, number):
        ofd.hear(connection)
        if number == 0:
            connection.sendall(answer_of(200))
            ofd.hear(connection)

    with hostile_ofd(serve) as ofd:
        assert kinds(exchange(ofd.url, a_document(), a_document())) == [AnswerKind.ACCEPTED, AnswerKind.LINE_FAILED]
        assert len(ofd.connections) == 2


def test_what_a_kept_connection_says_unasked_is_no_answer_to_the_next_request():
    """A 408 before closing, as some servers send it, or a second answer smuggled behind the first."""
    with answering(answer_of(200) + answer_of(422), answer_of(200)) as ofd:
        assert kinds(exchange(ofd.url, a_document(), a_document())) == [AnswerKind.ACCEPTED] * 2
        assert len(ofd.connections) == 2


# -- no usable answer ----------------------------------------------------------------------------------------


def test_nobody_there():
    with closing(socket.socket()) as reserved:
        reserved.bind(("127.0.0.1", 0))
        (answer,) = exchange(f"http://127.0.0.1:{reserved.getsockname()[1]}", a_document())
    assert answer.kind is AnswerKind.LINE_FAILED
    assert "refused" in answer.text.lower()


def test_a_name_that_does_not_exist():
    (answer,) = exchange("http://ofd.invalid", a_document())
    assert answer.kind is AnswerKind.LINE_FAILED
    assert answer.text.startswith("ofd.invalid:80: ")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"<html>HTTP/0.9</html>",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n{}",
    ],
)
def test_an_answer_that_is_none(answer):
    def serve(ofd, connection, _number):
        ofd.hear(connection)
        connection.sendall(answer)

    with hostile_ofd(serve) as ofd:
        assert kinds(exchange(ofd.url, a_document(), a_document())) == [AnswerKind.LINE_FAILED] * 2


def test_an_answer_longer_than_needed_is_not_read_to_its_end():
    sent = []

    def serve(ofd, connection, _number):
        ofd.hear(connection)
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{"log": "')
        with suppress(OSError):
            while True:
                connection.sendall(b"x" * 65536)
                sent.append(65536)

    with hostile_ofd(serve) as ofd:
        (answer,) = exchange(ofd.url, a_document())
        ofd.threads[0].join(PATIENT_S)
        assert not ofd.threads[0].is_alive()
    assert answer.kind is AnswerKind.ACCEPTED
    assert sum(sent) < 100 * ANSWER_BYTES_MAX


# -- an end for everything -----------------------------------------------------------------------------------


HANGS = {
    "silence": (lambda: iter(()), SHORT_S * 10),
    "a head that drips": (lambda: itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"X")), 0.02),
    "100 Continue that drips": (lambda: itertools.cycle([bytes([byte]) for byte in b"HTTP/1.1 100 C\r\n\r\n"]), 0.02),
    "a body that drips": (
        lambda: itertools.chain([b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"], itertools.repeat(b" ")),
        0.02,
    ),
    "chunks that drip": (
        lambda: itertools.chain(
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"], itertools.repeat(b"1\r\n \r\n")
        ),
        0.02,
    ),
}


@pytest.mark.parametrize("hang", HANGS)
def test_an_exchange_ends_at_its_deadline(hang):
    pieces, pause_s = HANGS[hang]

    def serve(ofd, connection, _number):
        ofd.hear(connection)
        ofd.drip(connection, pieces(), pause_s)
        ofd.stopping.wait()

    with hostile_ofd(serve) as ofd:
        (answer,) = exchange(ofd.url, a_document(), timeout_s=SHORT_S)
    assert answer.kind is AnswerKind.LINE_FAILED
    assert answer.text.startswith("no answer in time")


def test_interim_answers_without_end_are_given_up():
    def serve(ofd, connection, _number):
        ofd.hear(connection)
        ofd.drip(connection, itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), 0)

    with hostile_ofd(serve) as ofd:
        (answer,) = exchange(ofd.url, a_document())
    assert answer.kind is AnswerKind.LINE_FAILED
    assert "interim" in answer.text


def test_a_handshake_that_stalls_comes_to_an_end():
    def serve(ofd, _connection, _number):
        ofd.stopping.wait()

    with hostile_ofd(serve) as ofd:
        (answer,) = exchange(ofd.url.replace("http", "https"), a_document(), timeout_s=SHORT_S)
    assert answer.kind is AnswerKind.LINE_FAILED
    assert answer.text.startswith("no connection")


def test_a_resolver_that_hangs_comes_to_an_end(monkeypatch):
    released = threading.Event()

    def hang(*_where, **_how):
        released.wait(PATIENT_S)
        raise socket.gaierror(socket.EAI_AGAIN, "too late")

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    async def carry():
        http = OfdHttp(OfdOptions("http://ofd.example", SHORT_S))
        try:
            return await http.exchange(a_document())
        finally:
            released.set()

    answer = asyncio.run(carry())
    assert answer.kind is AnswerKind.LINE_FAILED
    assert answer.text.startswith("no connection")


# -- credentials ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("userinfo", "shown"),
    [("shop:p%40ss", b"Basic c2hvcDpwQHNz"), ("token", b"Basic dG9rZW46")],
    ids=["name and password", "a name alone has an empty password (RFC 7617)"],
)
def test_a_name_and_a_password_in_the_address_are_shown_to_the_ofd(userinfo, shown):
    with answering(answer_of(200)) as ofd:
        exchange(ofd.url.replace("//", f"//{userinfo}@"), a_document())
        assert b"Authorization: " + shown + b"\r\n" in ofd.heard[0]
        assert userinfo.encode() + b"@" not in ofd.heard[0]


def test_a_token_is_shown_and_read_again_when_it_is_refused(tmp_path):
    token = tmp_path / "token"
    token.write_text("old\n")

    def serve(ofd, connection, _number):
        while request := ofd.hear(connection):
            if b"Authorization: Bearer new\r\n" in request:
                connection.sendall(answer_of(200))
            else:
                token.write_text("new\n")
                connection.sendall(answer_of(401, b""))

    with hostile_ofd(serve) as ofd:
        assert kinds(exchange(ofd.url, a_document(), HEALTH, token_file=str(token))) == [AnswerKind.ACCEPTED] * 2
        assert len(ofd.heard) == 3
        assert b"Authorization: Bearer old\r\n" in ofd.heard[0]


def test_a_token_that_stays_refused_is_not_shown_twice(tmp_path):
    token = tmp_path / "token"
    token.write_text("old")
    with answering(answer_of(401)) as ofd:
        (answer,) = exchange(ofd.url, a_document(), token_file=str(token))
        assert (answer.kind, answer.status) == (AnswerKind.BRIDGE_REFUSED, 401)
        assert len(ofd.heard) == 1


# -- TLS -----------------------------------------------------------------------------------------------------


def serving_tls(context):
    def serve(ofd, connection, _number):
        with context.wrap_socket(connection, server_side=True) as secured:
            while ofd.hear(secured):
                secured.sendall(answer_of(200))

    return serve


def test_an_authority_of_ones_own_is_trusted_when_it_is_named(authority):
    with hostile_ofd(serving_tls(authority.context())) as ofd:
        url = ofd.url.replace("http", "https")
        assert kinds(exchange(url, a_document(), HEALTH, ca=str(authority.ca))) == [AnswerKind.ACCEPTED] * 2
        (answer,) = exchange(url, a_document())
        assert answer.kind is AnswerKind.LINE_FAILED
        assert answer.text.startswith("TLS: the OFD's certificate is not trusted: ")
        (answer,) = exchange(url.replace("127.0.0.1", "ofd.localhost"), a_document(), ca=str(authority.ca))
        assert answer.kind is AnswerKind.LINE_FAILED


def test_a_certificate_of_ones_own_is_shown_where_it_is_wanted(authority):
    cert, key = map(str, authority.pair("client"))
    with hostile_ofd(serving_tls(authority.context(wants_client=True))) as ofd:
        url, ca = ofd.url.replace("http", "https"), str(authority.ca)
        assert kinds(exchange(url, a_document(), ca=ca, cert=cert, key=key)) == [AnswerKind.ACCEPTED]
        (answer,) = exchange(url, a_document(), ca=ca)
        assert answer.kind is AnswerKind.LINE_FAILED


def test_plain_http_where_tls_is_spoken_says_so(authority):
    def serve(_ofd, connection, _number):
        connection.recv(65536)
        connection.sendall(answer_of(400, b"what?"))

    with hostile_ofd(serve) as ofd:
        (answer,) = exchange(ofd.url.replace("http", "https"), a_document(), ca=str(authority.ca))
    assert answer.kind is AnswerKind.LINE_FAILED
    assert answer.text.startswith("TLS: ")


# -- a proxy -------------------------------------------------------------------------------------------------


def test_a_proxy_is_told_the_whole_address_and_its_own_credentials():
    with answering(answer_of(200)) as proxy:
        url = proxy.url.replace("//", "//shop:secret@")
        answers = exchange("http://ofd.example/gateway", a_document(), HEALTH, proxy=url)
        assert kinds(answers) == [AnswerKind.ACCEPTED] * 2
        assert proxy.heard[0].startswith(
            b"POST http://ofd.example/gateway/ofd/v1/receipt HTTP/1.1\r\nHost: ofd.example\r\n"
        )
        assert b"Proxy-Authorization: Basic c2hvcDpzZWNyZXQ=\r\n" in proxy.heard[0]


def test_tls_goes_through_a_tunnel_that_sees_no_document(authority):
    def tunnel(proxy, connection, _number):
        proxy.hear(connection)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with authority.context().wrap_socket(connection, server_side=True) as secured:
            while proxy.hear(secured):
                secured.sendall(answer_of(200))

    with hostile_ofd(tunnel) as proxy:
        url = proxy.url.replace("//", "//shop:secret@")
        answers = exchange("https://127.0.0.1:4443", a_document(), HEALTH, proxy=url, ca=str(authority.ca))
        assert kinds(answers) == [AnswerKind.ACCEPTED] * 2
        assert proxy.heard[0] == (
            b"CONNECT 127.0.0.1:4443 HTTP/1.1\r\nHost: 127.0.0.1:4443\r\nUser-Agent: kkt-bridge\r\n"
            b"Proxy-Authorization: Basic c2hvcDpzZWNyZXQ=\r\n\r\n"
        )
        assert proxy.heard[1].startswith(b"POST /ofd/v1/receipt HTTP/1.1\r\n")
        assert b"Proxy-Authorization" not in proxy.heard[1]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(407, AnswerKind.BRIDGE_REFUSED), (403, AnswerKind.BRIDGE_REFUSED), (502, AnswerKind.LINE_FAILED)],
)
def test_a_proxy_that_lets_nobody_through_is_named(status, kind):
    with answering(answer_of(status, b"", close=True)) as proxy:
        url = proxy.url.replace("//", "//shop:secret@")
        (answer,) = exchange("https://ofd.example", a_document(), proxy=url)
        assert answer.kind is kind
        assert answer.text.startswith(f"the proxy 127.0.0.1:{proxy.port} answers {status}")
        assert "secret" not in answer.text


def test_the_environment_does_not_say_where_documents_go(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with answering(answer_of(200)) as ofd:
        assert kinds(exchange(ofd.url, a_document())) == [AnswerKind.ACCEPTED]


def test_nobody_is_trusted_without_a_certificate(authority):
    context = OfdHttp(OfdOptions("https://ofd.example", 1))._tls
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_token_that_an_answer_repeats_is_not_shown_to_people(tmp_path):
    token = tmp_path / "token"
    token.write_text("in-confidence")
    with answering(answer_of(401, b'{"error": "invalid token in-confidence"}')) as ofd:
        (answer,) = exchange(ofd.url, a_document(), token_file=str(token))
    assert answer.text == '401 {"error": "invalid token ***"}'
