"""The exchange with the OFD without its process: the same HTTP over real sockets, done when it is asked for."""

import asyncio
import threading
from collections.abc import Sequence

from kkt_bridge.ofd.exchange import AnswerKind, OfdAnswer, OfdRequest
from kkt_bridge.ofd.http_client import OfdHttp
from kkt_bridge.ofd.process_exchange import options_of
from kkt_bridge.settings import OfdSettings


class InlineExchange:
    """See `Exchange`. A batch is over when `submit` returns; what became of it is taken as usual."""

    def __init__(self, settings: OfdSettings) -> None:
        self.wakeup = threading.Event()
        self._http = OfdHttp(options_of(settings))
        self._loop = asyncio.new_event_loop()
        self._done: list[tuple[int, list[OfdAnswer]]] = []

    def submit(self, batch: int, requests: Sequence[OfdRequest]) -> None:
        """See `Exchange`."""
        answers: list[OfdAnswer] = []
        for request in requests:
            answers.append(self.answer(request))
            if answers[-1].kind is not AnswerKind.ACCEPTED:
                break
        self._done.append((batch, answers))
        self.wakeup.set()

    def answer(self, request: OfdRequest) -> OfdAnswer:
        """One exchange."""
        return self._loop.run_until_complete(self._http.exchange(request))

    def take(self) -> list[tuple[int, list[OfdAnswer]]]:
        """See `Exchange`."""
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """See `Exchange`."""
        self._http.close()
        for _ in range(3):  # the loop lets go of a connection in a turn of its own
            self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()
