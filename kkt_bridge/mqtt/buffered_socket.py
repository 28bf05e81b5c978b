"""A socket between paho and the system: many packets in one call, in both directions.

paho reads a packet in three pieces and writes each with a call of its own. A call gives the interpreter to
another thread, which costs more than the packet: so what has arrived is read at once, and what is to go is
gathered until `flush`.
"""

import ssl
from typing import Final, Protocol

READ_BYTES: Final = 64 * 1024


class ByteStream(Protocol):
    """What is needed of the socket below."""

    def recv(self, size: int, /) -> bytes:
        """Read what has arrived."""
        ...

    def send(self, data: bytes | bytearray, /) -> int:
        """Write as much as the system takes."""
        ...

    def fileno(self) -> int:
        """For `select`."""
        ...

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 (the socket's own)
        """Whether calls wait."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class BufferedSocket:
    """The end of a connection that paho reads and writes, in one thread."""

    def __init__(self, line: ByteStream) -> None:
        self._line = line
        self._arrived = b""
        self._read = 0
        self._leaving = bytearray()
        self._broken: OSError | None = None
        """Why nothing more can be sent."""

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; the errors are the socket's own, also those of an earlier `flush`."""
        if self._read == len(self._arrived):
            self._arrived, self._read = self._receive(), 0
        start = self._read
        self._read = min(start + size, len(self._arrived))
        return self._arrived[start : self._read]

    def _receive(self) -> bytes:
        try:
            return self._line.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if self._broken is not None:
                raise self._broken from None
            raise

    def send(self, data: bytes | bytearray) -> int:
        """Take all of it, for the next flush."""
        self._leaving += data
        return len(data)

    def flush(self) -> None:
        """Hand over as much of what was sent as the system takes now."""
        if self._broken is not None:
            self._leaving.clear()
        if not self._leaving:
            return
        try:
            del self._leaving[: self._line.send(self._leaving)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            # Told by reading, behind what the broker may have said last: a stream with a gap is no stream.
            self._broken = error
            self._leaving.clear()

    @property
    def has_input(self) -> bool:
        """Whether something has arrived that `select` does not tell of."""
        if self._read < len(self._arrived) or self._broken is not None:
            return True
        return isinstance(self._line, ssl.SSLSocket) and self._line.pending() > 0

    @property
    def has_output(self) -> bool:
        """Whether something waits for the system to take it."""
        return bool(self._leaving)

    def fileno(self) -> int:
        """For `select`; -1 once it is closed."""
        return self._line.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 (the socket's own)
        """Whether calls wait."""
        self._line.setblocking(flag)

    def close(self) -> None:
        """Let go of the socket, without what was not flushed: a flush that comes later finds nothing to send."""
        self._leaving.clear()
        self._line.close()
