"""The process that carries out exchanges with the OFD: `python -m kkt_bridge.ofd.child`, a child of the bridge.

Batches of requests come in over a socket from the bridge, answers go back. What may hang, hangs here, where it can be
ended; what takes processor time takes it from another interpreter than the receipts'.

It is kept small: the standard library, h11 and certifi, and nothing of this program but its neighbours `exchange`,
`frames`, `classify` and `http_client` (a contract in pyproject.toml holds it to that).
"""

import argparse
import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import traceback
from typing import Final

from kkt_bridge.ofd.classify import line_failed
from kkt_bridge.ofd.exchange import AnswerKind, OfdAnswer, OfdOptions, OfdRequest
from kkt_bridge.ofd.frames import CARRY_S, READ_BYTES, FrameKind, FrameReader, answers_frame, requests_in
from kkt_bridge.ofd.http_client import OfdHttp

NICENESS: Final = 5
"""Of this process, see nice(1): a third of the processor time of one that is as busy and has none."""

_BATCH_FRAME_MAX: Final = 2**31
"""Bytes of a frame from the bridge, which is trusted."""

_PR_SET_PDEATHSIG: Final = 1
"""prctl(2): the signal that the kernel sends to this process when its parent has ended."""


class ExchangeServer:
    """Batches in, answers out, on one event loop."""

    def __init__(self, bridge: socket.socket, http: OfdHttp) -> None:
        self._bridge = bridge
        self._http = http
        self._tasks: set[asyncio.Task[None]] = set()
        self._may_write = asyncio.Lock()

    def start(self, batch: int, requests: list[OfdRequest]) -> None:
        """Begin a batch beside those under way."""
        task = asyncio.get_running_loop().create_task(self._carry(batch, requests))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, batch: int, requests: list[OfdRequest]) -> None:
        """Carry out one after the other, until one is not accepted or it is time to return the answers so far."""
        loop = asyncio.get_running_loop()
        until = loop.time() + CARRY_S
        answers: list[OfdAnswer] = []
        for request in requests:
            answers.append(await self._exchange(request))
            if answers[-1].kind is not AnswerKind.ACCEPTED or loop.time() > until:
                break
        async with self._may_write:  # a frame that does not fit into the socket at once must stay in one piece
            await loop.sock_sendall(self._bridge, answers_frame(batch, answers))

    async def _exchange(self, request: OfdRequest) -> OfdAnswer:
        try:
            return await self._http.exchange(request)
        except Exception as error:  # noqa: BLE001 (an exception here is one more answer)
            traceback.print_exc()
            return line_failed(f"a bug of ours: {type(error).__name__}: {error}")


async def serve(bridge: socket.socket) -> None:
    """Carry out the bridge's batches until it is gone."""
    loop = asyncio.get_running_loop()
    reader = FrameReader(_BATCH_FRAME_MAX)
    carrier: ExchangeServer | None = None
    while data := await loop.sock_recv(bridge, READ_BYTES):
        for kind, batch, content in reader.feed(data):
            if kind == FrameKind.OPTIONS:
                carrier = ExchangeServer(bridge, OfdHttp(OfdOptions.from_bytes(content)))
            elif carrier is not None:
                carrier.start(batch, requests_in(content))


def main() -> None:
    """Serve the bridge at the other end of the socket; end when it ends."""
    arguments = argparse.ArgumentParser(prog="kkt-bridge: exchange with the OFD")
    arguments.add_argument("--fd", type=int, required=True)
    arguments.add_argument("--bridge-pid", type=int, required=True)
    args = arguments.parse_args()
    # The terminal and the service manager signal the whole group; this process ends when the bridge has finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_with(args.bridge_pid)
    _give_way()
    bridge = socket.socket(fileno=args.fd)
    bridge.setblocking(False)
    try:
        asyncio.run(_until_the_end(bridge))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"the exchange with the OFD cannot start: {error}\n")
        _leave(1)


async def _until_the_end(bridge: socket.socket) -> None:
    await serve(bridge)
    _leave(0)


def _leave(status: int) -> None:
    """End at once: neither exchanges under way nor a resolver that hangs in a thread are waited for."""
    sys.stderr.flush()
    os._exit(status)


def _end_with(bridge_pid: int) -> None:
    """A second net, beside the end of the socket: the kernel kills this process when the bridge's is gone."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return  # not Linux
    if os.getppid() != bridge_pid:
        _leave(0)  # it ended before we asked


def _give_way() -> None:
    """Keep off the core that the bridge stays on, and be nice on the others: receipts come before their documents."""
    os.nice(NICENESS)
    # Where the kernel shares processor time by session, only the niceness of the session counts beyond it.
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as autogroup:  # noqa: PTH123
        autogroup.write(str(NICENESS))
    try:
        inherited = os.sched_getaffinity(0)
        others = set(range(os.cpu_count() or 1)) - (inherited if len(inherited) == 1 else set())
        os.sched_setaffinity(0, others)
    except (AttributeError, OSError, ValueError):
        return  # not Linux, or there is no other: then it computes where it may


if __name__ == "__main__":
    main()
