"""The bridge's end of the exchange with the OFD: starts the child process, sends it batches, watches and replaces it.

The child is `kkt_bridge.ofd.child`. One thread here does nothing but unpack its frames and watch the time.
"""

import logging
import os
import selectors
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from kkt_bridge.clock import Clock
from kkt_bridge.ofd.classify import line_failed, one_line
from kkt_bridge.ofd.exchange import OfdAnswer, OfdOptions, OfdRequest
from kkt_bridge.ofd.frames import (
    ANSWER_FRAME_MAX,
    CARRY_S,
    READ_BYTES,
    FrameKind,
    FrameReader,
    WrongFrameError,
    answers_in,
    batch_frame,
    frame,
)
from kkt_bridge.settings import OfdSettings, environment_for_children

CONNECTIONS_MAX: Final = 8
"""Batches that are under way at the same time, each over a connection of its own; an OFD may not like more."""

GRACE_S: Final = 5.0
"""Seconds beyond its deadlines after which the child is taken to hang. It also has to start in them."""

REPEATS_MAX: Final = 1
"""Times that a batch is given to another child because one ended: a batch that ends each must not go on doing so."""

SHORT_LIFE_S: Final = 10.0
"""Seconds of life below which an end counts as one of a row."""

RESTART_FIRST_S: Final = 0.5
RESTART_MAX_S: Final = 30.0
"""Seconds before the third child of a row of short-lived ones, doubling for each further, up to the most."""

STDERR_LINES_MAX: Final = 100
"""Lines on the child's standard error that are logged; a child that complains without end fills no disk."""

STDERR_LINE_BYTES_MAX: Final = 8 * 1024
"""Bytes of such a line; and of what is read of them at a time."""

REAP_S: Final = 2.0
"""Seconds within which a killed process is gone, unless the kernel holds it."""

CLOSE_S: Final = 5.0
"""Seconds within which the thread ends; it may be starting a child."""

_PROGRAM: Final = Path(__file__).resolve().parents[2]
"""The folder in which this program's package lies."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Batch:
    """Requests that were submitted and have no answers yet."""

    number: int
    requests: Sequence[OfdRequest]
    overdue_at: float = 0.0
    """When the child, which has it, is taken to hang: seconds on the clock."""
    repeats: int = 0


@dataclass(slots=True)
class _Child:
    """A child process: its socket, its standard error, and what was not sent yet."""

    process: subprocess.Popen[bytes]
    sock: socket.socket
    stderr: IO[bytes]
    started_at: float
    reader: FrameReader = field(default_factory=lambda: FrameReader(ANSWER_FRAME_MAX))
    unsent: deque[memoryview] = field(default_factory=deque)
    """Bytes that the socket did not take yet."""
    stderr_lines: int = 0
    last_stderr_line: str = ""

    def send(self, data: bytes) -> None:
        """Send it, or what of it goes now; the rest when there is room. OSError: the child is gone."""
        self.unsent.append(memoryview(data))
        self.flush()

    def flush(self) -> None:
        """Send on what is unsent, as far as it goes."""
        while self.unsent:
            try:
                sent = self.sock.send(self.unsent[0], socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            if sent < len(self.unsent[0]):
                self.unsent[0] = self.unsent[0][sent:]
            else:
                self.unsent.popleft()


class ProcessExchange:
    """The `Exchange` in a child process, started with the first batch, ended by `close` or with this process."""

    def __init__(self, settings: OfdSettings, clock: Clock) -> None:
        self.wakeup = threading.Event()
        self._options = options_of(settings)
        self._clock = clock
        self._lock = threading.Lock()  # over everything below
        self._waiting: deque[_Batch] = deque()
        self._under_way: dict[int, _Batch] = {}
        self._done: list[tuple[int, list[OfdAnswer]]] = []
        self._child: _Child | None = None
        self._short_lives = 0
        self._restart_at = 0.0
        self._last_end = ""
        """The end of the last child in words, or the reason why none could be started."""
        self._is_closed = False
        self._thread: threading.Thread | None = None
        self._wakeup: tuple[socket.socket, socket.socket] | None = None
        self._must_wake = False
        """True while the thread waits for longer than anything new may wait."""

    @property
    def pid(self) -> int | None:
        """The child's process id, for whoever measures or kills it."""
        with self._lock:
            return self._child.process.pid if self._child else None

    def submit(self, batch: int, requests: Sequence[OfdRequest]) -> None:
        """See `Exchange`."""
        with self._lock:
            if self._is_closed:
                self._finish(batch, [line_failed("the exchange is closed")])
                return
            self._waiting.append(_Batch(batch, requests))
            if self._thread is None:
                self._wakeup = socket.socketpair()
                for end in self._wakeup:
                    end.setblocking(False)
                self._thread = threading.Thread(target=self._run, name="ofd-exchange", daemon=True)
                self._thread.start()
            self._send_waiting()
            if self._must_wake or self._child is None or self._child.unsent:
                self._wake()

    def take(self) -> list[tuple[int, list[OfdAnswer]]]:
        """See `Exchange`."""
        with self._lock:
            done, self._done = self._done, []
        return done

    def close(self) -> None:
        """See `Exchange`."""
        with self._lock:
            self._is_closed = True
            thread = self._thread
            if thread is not None:
                self._wake()
        if thread is not None:
            thread.join(CLOSE_S)

    # -- with the lock held ---------------------------------------------------------------------------------

    def _wake(self) -> None:
        self._must_wake = False
        if self._wakeup is not None:
            with suppress(BlockingIOError):  # it has been rung often enough
                self._wakeup[1].send(b"!")

    def _send_waiting(self) -> None:
        """Send the child what waits, as many batches as may be under way."""
        child = self._child
        while child is not None and self._waiting and len(self._under_way) < CONNECTIONS_MAX:
            batch = self._waiting.popleft()
            batch.overdue_at = self._clock.monotonic() + CARRY_S + self._options.deadline_s + GRACE_S
            self._under_way[batch.number] = batch
            with suppress(OSError):  # the thread sees its end, and repeats the batch
                child.send(batch_frame(batch.number, batch.requests))

    def _finish(self, number: int, answers: list[OfdAnswer]) -> None:
        self._done.append((number, answers))
        self.wakeup.set()

    def _accept_answers(self, kind: int, number: int, answers: list[OfdAnswer]) -> None:
        """A frame of the child. WrongFrameError: it is none that may come now."""
        batch = self._under_way.get(number)
        if kind != FrameKind.ANSWERS or batch is None or not 1 <= len(answers) <= len(batch.requests):
            raise WrongFrameError(f"{len(answers)} answers of kind {kind} to batch {number}")
        del self._under_way[number]
        self._finish(number, answers)

    def _refuse_waiting(self) -> bool:
        """Return whether no child may be started for a while yet; then what waits for one is answered."""
        if self._clock.monotonic() >= self._restart_at:
            return False
        while self._waiting:
            self._fail(self._waiting.popleft(), self._last_end)
        return True

    def _fail(self, batch: _Batch, text: str) -> None:
        self._finish(batch.number, [line_failed(text)])

    def _until_deadline_s(self) -> float | None:
        """Return the seconds until time alone changes something; None where only an event does."""
        if self._child is None:
            return max(0.0, self._restart_at - self._clock.monotonic()) if self._waiting else None
        if not self._under_way:
            return None
        first = min(batch.overdue_at for batch in self._under_way.values())
        return max(0.0, first - self._clock.monotonic())

    # -- the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        assert self._wakeup is not None
        selector = selectors.DefaultSelector()
        selector.register(self._wakeup[0], selectors.EVENT_READ)
        while not self._is_closed:
            try:
                self._poll(selector)
            except Exception as error:
                log.exception("the exchange with the OFD failed; it begins anew")
                self._end_child(selector, f"a bug of ours: {type(error).__name__}: {error}", by_itself=True)
        self._end_child(selector, "the exchange is closed", by_itself=False)
        selector.close()
        with self._lock:
            for end in self._wakeup:
                end.close()
            self._wakeup = None

    def _poll(self, selector: selectors.BaseSelector) -> None:
        """Wait for one round of events, and handle them."""
        if self._child is None:
            self._start_or_refuse(selector)
        with self._lock:
            child = self._child
            if child is not None:
                writing = selectors.EVENT_WRITE if child.unsent else 0
                selector.modify(child.sock, selectors.EVENT_READ | writing)
            wait_s = self._until_deadline_s()
            self._must_wake = wait_s is None
        ready = {key.fileobj for key, _ in selector.select(wait_s)}
        assert self._wakeup is not None
        if self._wakeup[0] in ready:
            with suppress(BlockingIOError):
                self._wakeup[0].recv(4096)
        if child is None:
            return
        if child.stderr in ready:
            self._log_stderr(selector, child)
        if child.sock in ready:
            self._exchange_frames(selector, child)
        with self._lock:
            now = self._clock.monotonic()
            overdue = [batch for batch in self._under_way.values() if batch.overdue_at <= now]
            for batch in overdue:
                del self._under_way[batch.number]
                self._fail(batch, "no answer in time, and the exchange did not end it: its process was ended")
        if overdue:
            log.warning("the process that speaks to the OFD hangs; it is ended, and another one started")
            self._end_child(selector, "it hung", by_itself=False)

    def _exchange_frames(self, selector: selectors.BaseSelector, child: _Child) -> None:
        """Read the child's frames, and send it what waits."""
        try:
            data = child.sock.recv(READ_BYTES, socket.MSG_DONTWAIT)
            frames = [(kind, batch, answers_in(content)) for kind, batch, content in child.reader.feed(data)]
            with self._lock:
                for kind, number, answers in frames:
                    self._accept_answers(kind, number, answers)
                child.flush()
                self._send_waiting()
        except BlockingIOError:
            with self._lock, suppress(OSError):
                child.flush()
            return
        except WrongFrameError as error:
            self._end_child(selector, f"it says what it may not: {error}", by_itself=True)
            return
        except OSError:
            data = b""  # reset: it ended with something unread
        if not data:
            self._end_child(selector, "", by_itself=True)

    def _log_stderr(self, selector: selectors.BaseSelector, child: _Child) -> None:
        data = os.read(child.stderr.fileno(), STDERR_LINE_BYTES_MAX)
        if not data:
            selector.unregister(child.stderr)
        for line in data.decode(errors="replace").splitlines():
            child.stderr_lines += 1
            child.last_stderr_line = one_line(line)
            if child.stderr_lines <= STDERR_LINES_MAX and child.last_stderr_line:
                log.warning("exchange with the OFD: %s", child.last_stderr_line)

    def _start_or_refuse(self, selector: selectors.BaseSelector) -> None:
        """Start a child if something waits for one; while that may not be, what waits is answered."""
        with self._lock:
            if self._is_closed or not self._waiting or self._refuse_waiting():
                return
        try:
            child = _start_child(self._options, self._clock)
        except OSError as error:
            why = f"it cannot be started: {error.strerror}"
            if why not in self._last_end:
                log.warning("the process that speaks to the OFD: %s", why)
            with self._lock:
                self._note_end(0.0, why)
                self._refuse_waiting()
            return
        selector.register(child.sock, selectors.EVENT_READ)
        selector.register(child.stderr, selectors.EVENT_READ)
        with self._lock:
            self._child, self._last_end = child, ""
            self._send_waiting()

    def _end_child(self, selector: selectors.BaseSelector, why: str, *, by_itself: bool) -> None:
        """Kill the child if it lives, and have its batches repeated by the next one."""
        with self._lock:
            child, self._child = self._child, None
        if child is None:
            return
        child.process.kill()
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(REAP_S)
        if child.stderr in selector.get_map():
            os.set_blocking(child.stderr.fileno(), False)
            with suppress(OSError):
                self._log_stderr(selector, child)  # why it ended, perhaps
        for end in (child.sock, child.stderr):
            with suppress(KeyError):
                selector.unregister(end)
            end.close()
        if by_itself:
            why = why or _ending(child)
            log.warning("the process that speaks to the OFD has ended: %s", why)
        with self._lock:
            self._note_end(self._clock.monotonic() - child.started_at if by_itself else SHORT_LIFE_S, why)
            for batch in sorted(self._under_way.values(), key=lambda batch: batch.overdue_at, reverse=True):
                if batch.repeats < REPEATS_MAX and not self._is_closed:
                    batch.repeats += 1
                    self._waiting.appendleft(batch)
                else:
                    self._fail(batch, self._last_end)
            self._under_way.clear()

    def _note_end(self, life_s: float, why: str) -> None:
        """Remember how long a child lived: the next of those that end at once has to wait."""
        self._last_end = f"the process that speaks to the OFD has ended: {why}"
        self._short_lives = self._short_lives + 1 if life_s < SHORT_LIFE_S else 0
        doublings = self._short_lives - 2
        wait_s = 0.0 if doublings < 0 else min(RESTART_FIRST_S * 2.0 ** min(doublings, 16), RESTART_MAX_S)
        self._restart_at = self._clock.monotonic() + wait_s


def options_of(settings: OfdSettings) -> OfdOptions:
    """Return how the child reaches the OFD; it may have another working directory, so paths are absolute."""

    def absolute(path: os.PathLike[str] | None) -> str | None:
        return None if path is None else os.path.abspath(path)  # noqa: PTH100 (no link of it is to be resolved)

    return OfdOptions(
        url=settings.url,
        timeout_s=settings.timeout_s,
        health_path=settings.health_path,
        token_file=absolute(settings.token_file),
        proxy=settings.proxy.get_secret_value() if settings.proxy else None,
        ca=absolute(settings.tls.ca),
        cert=absolute(settings.tls.cert),
        key=absolute(settings.tls.key),
    )


def _start_child(options: OfdOptions, clock: Clock) -> _Child:
    """Start the process, and tell it how the OFD is reached. OSError: that is not possible."""
    ours, its = socket.socketpair()
    try:
        process = subprocess.Popen(  # noqa: S603 (this program itself)
            [
                sys.executable,
                *("-m", "kkt_bridge.ofd.child"),
                *("--fd", str(its.fileno())),
                *("--bridge-pid", str(os.getpid())),
            ],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=_PROGRAM,  # `-m` imports from there first: it must not be whatever folder the bridge was started in
            start_new_session=True,  # what the terminal sends to the bridge's group is the bridge's affair
            env=environment_for_children(),
        )
    except BaseException:
        ours.close()
        raise
    finally:
        its.close()
    assert process.stderr is not None
    child = _Child(process, ours, process.stderr, clock.monotonic())
    with suppress(OSError):  # ended already: reading tells
        child.send(frame(FrameKind.OPTIONS, 0, options.to_bytes()))
    return child


def _ending(child: _Child) -> str:
    status = child.process.returncode
    how = "it does not end" if status is None else f"signal {-status}" if status < 0 else f"exit status {status}"
    return f"{how}: {child.last_stderr_line}" if child.last_stderr_line else how
