"""Many packets in one system call, and not a byte more, less, or in another order."""

import socket

import pytest

from kkt_bridge.mqtt.paho_client import READ_BYTES, BufferedSocket


class Counting(socket.socket):
    calls = 0

    def recv(self, *args):
        self.calls += 1
        return super().recv(*args)

    def send(self, *args):
        self.calls += 1
        return super().send(*args)


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    line = Counting(fileno=ours.detach())
    line.setblocking(False)
    theirs.settimeout(5)
    yield BufferedSocket(line), line, theirs
    line.close()
    theirs.close()


def test_what_arrived_together_is_read_in_one_call(ends):
    sock, line, peer = ends
    peer.sendall(b"abcdef")
    assert [sock.recv(1), sock.recv(2), sock.recv(9)] == [b"a", b"bc", b"def"]
    assert line.calls == 1
    assert not sock.has_input


def test_what_was_read_ahead_is_told_of_as_select_cannot(ends):
    sock, _, peer = ends
    peer.sendall(b"ab")
    assert not sock.has_input
    assert sock.recv(1) == b"a"
    assert sock.has_input


def test_more_than_fits_is_read_in_order(ends):
    sock, line, peer = ends
    line.setblocking(True)
    data = bytes(range(256)) * (READ_BYTES // 256)
    half = len(data) // 2 + 100
    got = b""
    for part in (data[:half], data[half:], b"the rest"):
        peer.sendall(part)
        got += sock.recv(10)
    while len(got) < len(data) + 8:
        got += sock.recv(1000)
    assert got == data + b"the rest"


def test_nothing_there_and_the_end_are_as_without_a_buffer(ends):
    sock, _, peer = ends
    with pytest.raises(BlockingIOError):
        sock.recv(1)
    peer.close()
    assert sock.recv(1) == b""


def test_what_is_sent_waits_for_the_flush_and_goes_in_one_call(ends):
    sock, line, peer = ends
    assert [sock.send(b"ab"), sock.send(b"c")] == [2, 1]
    assert sock.unsent
    assert line.calls == 0
    sock.flush()
    assert peer.recv(9) == b"abc"
    assert (line.calls, bytes(sock.unsent)) == (1, b"")


def test_what_the_system_does_not_take_now_goes_next_time(ends):
    sock, _, peer = ends
    data = bytes(range(256)) * 8192
    sock.send(data)
    got = b""
    while len(got) < len(data):
        sock.flush()
        got += peer.recv(1 << 16)
    assert got == data
    assert not sock.unsent


def test_a_broken_line_is_told_of_by_reading(ends):
    sock, _, peer = ends
    peer.sendall(b"last words")
    peer.close()
    sock.send(b"to nobody")
    sock.flush()
    assert not sock.unsent
    assert sock.recv(99) == b"last words"


def test_closing_sends_nothing_more(ends):
    """Nor does a flush that comes later: paho's destructor makes one."""
    sock, line, peer = ends
    sock.send(b"never said")
    sock.close()
    sock.flush()
    assert not sock.unsent
    assert line.calls == 0
    assert peer.recv(9) == b""


def test_after_an_error_nothing_more_is_sent_and_reading_tells_why(ends, monkeypatch):
    """A stream with a gap would be read as other packets."""
    sock, line, peer = ends
    errors = [OSError(105, "No buffer space available")]
    sending = line.send
    monkeypatch.setattr(Counting, "send", lambda self, data: sending(data) if not errors else _raise(errors.pop()))
    peer.sendall(b"last words")
    sock.send(b"lost")
    sock.flush()
    sock.send(b"with a gap before it")
    sock.flush()
    assert sock.has_input
    assert sock.recv(99) == b"last words"
    assert sock.has_input
    with pytest.raises(OSError, match="No buffer space"):
        sock.recv(1)
    line.close()
    assert peer.recv(99) == b""


def _raise(error):
    raise error
