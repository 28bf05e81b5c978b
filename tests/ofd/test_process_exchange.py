"""The exchange as a process of its own: fed, read, watched, killed, and gone when the bridge is."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.hostile_ofd import a_document, answer_of, answering, hostile_ofd
from support.processes import wait_until
from support.simulated_ofd import OfdClient

from kkt_bridge.clock import SystemClock
from kkt_bridge.ofd import process_exchange
from kkt_bridge.ofd.child import ExchangeServer
from kkt_bridge.ofd.exchange import AnswerKind, OfdRequest
from kkt_bridge.ofd.frames import FrameKind, FrameReader, answers_in
from kkt_bridge.ofd.process_exchange import CONNECTIONS_MAX, ProcessExchange
from kkt_bridge.settings import OfdSettings
from kkt_bridge.simulators.ofd import OfdSimulator

HEALTH = OfdRequest("health")
PATIENT_S = 30.0
"""More than anything here takes."""

SOON_S = 15.0
"""Long before a child would give up what it has under way by itself."""

CHILD_RSS_MAX_MB = 45.0
"""It takes about 26."""


@contextmanager
def exchange_with(url, timeout_s=PATIENT_S, **settings):
    exchange = ProcessExchange(OfdSettings(url=url, timeout_s=timeout_s, **settings), SystemClock())
    try:
        yield exchange
    finally:
        exchange.close()


def answers_from(exchange, count):
    """So many batches' answers, by number."""
    got = {}
    deadline = time.monotonic() + PATIENT_S
    while len(got) < count:
        assert exchange.wakeup.wait(deadline - time.monotonic()), f"only {got}"
        exchange.wakeup.clear()
        got |= dict(exchange.take())
    return got


def one(exchange, request=HEALTH, number=1):
    """The one answer to this request."""
    exchange.submit(number, [request])
    (answer,) = answers_from(exchange, 1)[number]
    return answer


def is_gone(pid):
    """Ended, whether or not anybody has asked for its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].startswith(("Z", "X"))
    except OSError:
        return True


def end(pid):
    """Kill the child, and let nobody else do so."""
    os.kill(pid, signal.SIGKILL)


# -- batches -------------------------------------------------------------------------------------------------


def test_a_batch_arrives_in_its_order():
    documents = [a_document() for _ in range(10)]
    with OfdSimulator() as ofd, exchange_with(ofd.url) as exchange:
        exchange.submit(7, documents)
        answers = answers_from(exchange, 1)[7]
        assert {answer.kind for answer in answers} == {AnswerKind.ACCEPTED}
        assert 1 <= len(answers) <= 10
        books = OfdClient(ofd.url).received()["documents"]
        assert [entry["key"] for entry in books] == [document.key for document in documents[: len(answers)]]


def test_a_batch_ends_with_the_first_document_that_is_not_accepted():
    with answering(answer_of(200), answer_of(503), answer_of(200)) as ofd, exchange_with(ofd.url) as exchange:
        exchange.submit(1, [a_document() for _ in range(5)])
        answers = answers_from(exchange, 1)[1]
        assert [answer.kind for answer in answers] == [AnswerKind.ACCEPTED, AnswerKind.SERVICE_FAILED]
        assert len(ofd.heard) == 2


def test_a_slow_batch_comes_back_with_what_was_done_so_far():
    def serve(ofd, connection, _number):
        while ofd.hear(connection):
            ofd.stopping.wait(0.15)
            connection.sendall(answer_of(200))

    with hostile_ofd(serve) as ofd, exchange_with(ofd.url) as exchange:
        exchange.submit(1, [a_document() for _ in range(30)])
        assert 1 <= len(answers_from(exchange, 1)[1]) < 30


def test_batches_go_out_beside_each_other_over_a_few_connections():
    may_answer = threading.Event()

    def serve(ofd, connection, _number):
        while ofd.hear(connection):
            may_answer.wait(PATIENT_S)
            connection.sendall(answer_of(200))

    with hostile_ofd(serve) as ofd, exchange_with(ofd.url) as exchange:
        for number in range(CONNECTIONS_MAX + 3):
            exchange.submit(number, [a_document()])
        wait_until(lambda: len(ofd.heard) == CONNECTIONS_MAX, PATIENT_S, "as many batches under way as may be")
        may_answer.set()
        assert len(answers_from(exchange, CONNECTIONS_MAX + 3)) == CONNECTIONS_MAX + 3
        assert len(ofd.connections) == CONNECTIONS_MAX


def test_large_documents_come_through_whole():
    """More than the socket between the processes holds."""
    bodies = [bytes([65 + number]) * 600_000 for number in range(8)]
    with answering(answer_of(200)) as ofd, exchange_with(ofd.url) as exchange:
        for number, body in enumerate(bodies):
            exchange.submit(number, [OfdRequest("receipt", f"pos-{number}:x", body)])
        answers_from(exchange, len(bodies))
        assert sorted(request.partition(b"\r\n\r\n")[2] for request in ofd.heard) == bodies


# -- the child ends, or hangs --------------------------------------------------------------------------------


def test_what_a_killed_child_had_under_way_is_repeated_under_its_key():
    def serve(ofd, connection, number):
        while ofd.hear(connection):
            if number == 0:
                ofd.stopping.wait()
            connection.sendall(answer_of(200))

    document = a_document()
    with hostile_ofd(serve) as ofd, exchange_with(ofd.url) as exchange:
        exchange.submit(1, [document])
        wait_until(lambda: bool(ofd.heard), PATIENT_S, "the request")
        end(exchange.pid)
        assert [answer.kind for answer in answers_from(exchange, 1)[1]] == [AnswerKind.ACCEPTED]
        assert [document.key.encode() in request for request in ofd.heard] == [True, True]


def test_a_batch_that_ends_every_child_is_given_up():
    def serve(ofd, connection, _number):
        ofd.hear(connection)
        ofd.stopping.wait()

    with hostile_ofd(serve) as ofd, exchange_with(ofd.url) as exchange:
        exchange.submit(1, [a_document()])
        for times in (1, 2):
            wait_until(lambda times=times: len(ofd.heard) == times, PATIENT_S, f"request {times}")
            end(exchange.pid)
        (answer,) = answers_from(exchange, 1)[1]
        assert answer.kind is AnswerKind.LINE_FAILED
        assert "signal 9" in answer.text


def test_a_child_that_cannot_be_started_is_told_and_tried_again(monkeypatch):
    with answering(answer_of(200)) as ofd, exchange_with(ofd.url) as exchange:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", "/nowhere/python")
            answer = one(exchange)
            assert answer.kind is AnswerKind.LINE_FAILED
            assert "it cannot be started: No such file or directory" in answer.text
        wait_until(lambda: one(exchange).kind is AnswerKind.ACCEPTED, PATIENT_S, "another attempt")


def test_a_child_that_hangs_is_replaced_and_what_was_not_overdue_repeated(monkeypatch):
    monkeypatch.setattr(process_exchange, "GRACE_S", 1.5)
    first = a_document()

    def serve(ofd, connection, _number):
        while ofd.hear(connection):
            if not may_answer.is_set():
                ofd.stopping.wait()
            connection.sendall(answer_of(200))

    may_answer = threading.Event()
    with hostile_ofd(serve) as ofd, exchange_with(ofd.url, timeout_s=0.5) as exchange:
        exchange.submit(1, [first])
        wait_until(lambda: len(ofd.heard) == 1, PATIENT_S, "the request")
        child = exchange.pid
        os.kill(child, signal.SIGSTOP)
        may_answer.set()
        time.sleep(0.5)  # sets the second deadline so much behind the first; a slower machine only widens it
        exchange.submit(2, [a_document()])
        answers = answers_from(exchange, 2)
        assert answers[1][0].kind is AnswerKind.LINE_FAILED
        assert answers[2][0].kind is AnswerKind.ACCEPTED
        assert exchange.pid != child
        assert is_gone(child)


def test_a_child_that_cannot_start_says_why_and_is_not_tried_without_end(tmp_path, caplog):
    authorities = tmp_path / "ca.pem"
    authorities.write_text("not PEM")
    with exchange_with("https://127.0.0.1:9", tls={"ca": authorities}) as exchange:
        texts = {one(exchange, number=number).text for number in range(200)}
    assert any("cannot start" in text for text in texts)
    assert 2 <= sum("has ended" in record.message for record in caplog.records) <= 6


HOSTILE_CHILDREN = {
    "garbage": b"\xff" * 100,
    "a frame that was never asked for": b"\x00\x00\x00\x02\x03" + b"\x00" * 7 + b"\x63" + b"\x00\x00",
    "no answers": b"\x00\x00\x00\x02\x03" + b"\x00" * 7 + b"\x01" + b"\x00\x00",
    "more than it announced": b"\x00\x00\x00\x04\x03" + b"\x00" * 7 + b"\x01" + b"\x00\x01\x00\x00",
}


@pytest.mark.parametrize("said", HOSTILE_CHILDREN)
def test_a_child_that_says_what_it_may_not_is_ended(said, tmp_path, monkeypatch, caplog):
    program = tmp_path / "child.py"
    program.write_text(
        f"#!{sys.executable}\n"
        "import socket, sys, time\n"
        "line = socket.socket(fileno=int(sys.argv[sys.argv.index('--fd') + 1]))\n"
        "line.recv(1)\n"
        f"line.sendall({HOSTILE_CHILDREN[said]!r})\n"
        "time.sleep(60)\n"  # it does not end by itself: it must be ended
    )
    program.chmod(0o755)
    monkeypatch.setattr(process_exchange.sys, "executable", str(program))
    with exchange_with("http://127.0.0.1:9") as exchange:
        answer = one(exchange)
        assert answer.kind is AnswerKind.LINE_FAILED
        assert "it says what it may not" in answer.text


def test_an_exception_is_one_more_answer(capsys):
    class Broken:
        async def exchange(self, _request):
            raise RuntimeError("never thought of")

    ours, its = socket.socketpair()
    its.setblocking(False)

    async def carry():
        await ExchangeServer(its, Broken())._carry(5, [a_document(), a_document()])

    with ours, its:
        asyncio.run(carry())
        ((kind, batch, content),) = FrameReader(2**20).feed(ours.recv(65536))
    assert (kind, batch) == (FrameKind.ANSWERS, 5)
    (answer,) = answers_in(content)
    assert answer.kind is AnswerKind.LINE_FAILED
    assert "never thought of" in answer.text
    assert "RuntimeError" in capsys.readouterr().err


def test_nothing_is_left_open_after_many_children(monkeypatch):
    monkeypatch.setattr(process_exchange, "SHORT_LIFE_S", 0)
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    threads = threading.active_count()
    with answering(answer_of(200)) as ofd:
        with exchange_with(ofd.url) as exchange:
            assert one(exchange).kind is AnswerKind.ACCEPTED
            after_one = len(list(Path("/proc/self/fd").iterdir()))
            for number in range(2, 52):
                end(exchange.pid)
                assert one(exchange, number=number).kind is AnswerKind.ACCEPTED
                for connection in ofd.connections[:-1]:
                    connection.close()
            assert len(list(Path("/proc/self/fd").iterdir())) <= after_one + 1
        assert exchange.pid is None
    wait_until(lambda: threading.active_count() <= threads, PATIENT_S, "the end of its threads")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


# -- what kind of process it is ------------------------------------------------------------------------------


def test_signals_of_a_terminal_and_of_a_service_manager_do_not_end_it():
    with answering(answer_of(200)) as ofd, exchange_with(ofd.url) as exchange:
        one(exchange)
        child = exchange.pid
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(child, number)
        assert one(exchange, number=2).kind is AnswerKind.ACCEPTED
        assert exchange.pid == child
        assert os.getpgid(child) != os.getpgid(0)


def test_no_secret_stands_in_its_arguments_or_its_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("KKT_BRIDGE__MQTT__PASSWORD", "a-secret")
    token = tmp_path / "token"
    token.write_text("a-secret")
    with answering(answer_of(200)) as ofd:
        url = ofd.url.replace("//", "//shop:a-secret@")
        proxy = ofd.url.replace("//", "//proxy:a-secret@")
        with exchange_with(url, token_file=token, proxy=proxy) as exchange:
            one(exchange)
            for name in ("cmdline", "environ"):
                assert b"a-secret" not in Path(f"/proc/{exchange.pid}/{name}").read_bytes()
            assert b"kkt_bridge.ofd.child" in Path(f"/proc/{exchange.pid}/cmdline").read_bytes()
        assert b"Bearer a-secret" in ofd.heard[0]


def test_it_leaves_the_bridge_the_core_that_it_stays_on_and_the_first_turn_elsewhere():
    cores = os.sched_getaffinity(0)
    with answering(answer_of(200)) as ofd, exchange_with(ofd.url) as exchange:
        os.sched_setaffinity(0, {min(cores)})
        try:
            one(exchange)
        finally:
            os.sched_setaffinity(0, cores)
        assert os.sched_getaffinity(exchange.pid) == (cores - {min(cores)} or cores)
        assert os.getpriority(os.PRIO_PROCESS, exchange.pid) > os.getpriority(os.PRIO_PROCESS, 0)
        by_session = Path(f"/proc/{exchange.pid}/autogroup")
        assert not by_session.exists() or by_session.read_text(encoding="ascii").split()[1:] == ["nice", "5"]


def test_it_computes_on_every_core_where_the_bridge_does():
    with answering(answer_of(200)) as ofd, exchange_with(ofd.url) as exchange:
        one(exchange)
        assert os.sched_getaffinity(exchange.pid) == os.sched_getaffinity(0)


def test_it_is_small(authority):
    with OfdSimulator() as ofd, exchange_with(ofd.url) as exchange:
        for number in range(20):
            exchange.submit(number, [a_document() for _ in range(32)])
        answers_from(exchange, 20)
        status = Path(f"/proc/{exchange.pid}/status").read_text(encoding="ascii")
        assert int(status.partition("VmRSS:")[2].split()[0]) / 1024 < CHILD_RSS_MAX_MB


BRIDGE = textwrap.dedent(
    """
    import sys, time
    from kkt_bridge.clock import SystemClock
    from kkt_bridge.ofd.exchange import OfdRequest
    from kkt_bridge.ofd.process_exchange import ProcessExchange
    from kkt_bridge.settings import OfdSettings

    exchange = ProcessExchange(OfdSettings(url=sys.argv[1]), SystemClock())
    exchange.submit(1, [OfdRequest("health")])
    exchange.wakeup.wait(30)
    print(exchange.pid, flush=True)
    time.sleep(60)  # until the test ends it
    """
)


@pytest.mark.parametrize("ends_by", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV], ids=lambda sent: sent.name)
@pytest.mark.parametrize("is_stopped", [False, True], ids=["alive", "stopped"])
def test_it_ends_with_the_bridge_however_that_ends(ends_by, is_stopped):
    with answering(answer_of(200)) as ofd:
        with subprocess.Popen([sys.executable, "-c", BRIDGE, ofd.url], stdout=subprocess.PIPE, text=True) as bridge:
            child = int(bridge.stdout.readline())
            if is_stopped:
                os.kill(child, signal.SIGSTOP)
            bridge.send_signal(ends_by)
            bridge.wait(PATIENT_S)
        try:
            wait_until(lambda: is_gone(child), SOON_S, "the child's end")
        finally:
            if not is_gone(child):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)


def test_the_folder_in_which_the_bridge_was_started_is_none_of_the_childs_program(tmp_path, monkeypatch):
    (tmp_path / "kkt_bridge" / "ofd").mkdir(parents=True)
    for name in (
        "h11.py",
        "json.py",
        "kkt_bridge/__init__.py",
        "kkt_bridge/ofd/__init__.py",
        "kkt_bridge/ofd/child.py",
    ):
        (tmp_path / name).write_text("raise SystemExit('somebody else's program')")
    monkeypatch.chdir(tmp_path)
    with OfdSimulator() as simulator, exchange_with(simulator.url) as exchange:
        assert one(exchange).kind is AnswerKind.ACCEPTED
