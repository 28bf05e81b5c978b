"""The demo as a whole: builds the shop, plays the story, counts, and takes everything down again."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from kkt_bridge.broker.client import BrokerClient
from kkt_bridge.demo.captions import story
from kkt_bridge.demo.children import READY_TIMEOUT_S, ChildEnded, Children, Stopped
from kkt_bridge.demo.ofd_desk import OfdDesk
from kkt_bridge.demo.picture import Picture
from kkt_bridge.demo.screens import Screen
from kkt_bridge.demo.site import BRIDGE_ID, TOPICS, Pace, Site
from kkt_bridge.demo.snapshot import COLUMNS, ROWS, save_svg
from kkt_bridge.demo.story import DURING, Story
from kkt_bridge.demo.summary import Summary, reckon
from kkt_bridge.demo.view import Window
from kkt_bridge.simulators.pos import Terminals, TerminalSettings, Trade

HOST: Final = "127.0.0.1"
CHECK_S: Final = 0.25
ENDLESS_CAPACITY_S: Final = 22.0
"""An endless story's buffer holds the sales of so many seconds."""

MESSAGES_PER_TURN: Final = 500


@dataclass(frozen=True, slots=True)
class ShowSettings:
    """What is to be shown."""

    receipts: int | None
    """None: an endless story."""
    pos: int
    registers: int
    pace: Pace
    watched: bool
    broker_port: int
    """0: any free one."""
    directory: Path
    seed: str
    screenshot: Path | None = None

    @property
    def capacity(self) -> int:
        """Of the buffer: ample where only counts matter, nearly filled by the outage for who watches."""
        if self.receipts is None:
            return math.ceil(self.pace.rate * ENDLESS_CAPACITY_S) + self.pos
        if not self.watched:
            return 2 * self.receipts + 50
        return math.ceil(self.receipts * DURING) + self.pos

    @property
    def receipt_s(self) -> float:
        """A generous time for one receipt, for deadlines."""
        return 2 * self.pace.print_time_s + 0.1 + (1 / self.pace.rate if self.pace.rate else 0.0)


class Show:
    """One performance; a context manager around `play`."""

    def __init__(self, settings: ShowSettings, stopping: Callable[[], bool]) -> None:
        self._settings = settings
        self._stopping = stopping
        self._site = Site(settings.directory, settings.registers)
        self._children = Children(self._site.directory)
        self._stack = ExitStack()
        self._next_check = 0.0
        self._has_picture = False
        self.picture = Picture(TOPICS)
        self.window = Window(self.picture, _title(settings), time.monotonic())

    @property
    def began(self) -> bool:
        """Whether the bridge was heard of, so that its files may tell something."""
        return bool(self.picture.states)

    def __enter__(self) -> Self:
        self._site.prepare()
        self._stack.callback(self._children.stop)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def play(self, screen: Screen) -> Summary | None:
        """Play the story to its end and return the reckoning; None for an endless one.

        Raises:
            Stopped: `stopping` said so.
            ChildEnded: A process that is needed ended early.
        """
        settings = self._settings
        broker_port = self._start_broker()
        desk = self._start_ofd_and_bridge(broker_port)
        eye = self._stack.enter_context(BrokerClient(HOST, broker_port))
        eye.subscribe(self.picture.subscriptions())
        self._await_bridge(eye, screen)
        trade = Trade(settings.pace.rate)
        terminals = self._stack.enter_context(
            Terminals(TerminalSettings(HOST, broker_port, BRIDGE_ID, settings.pos, settings.seed), trade)
        )
        told = Story(self.picture, desk, trade, terminals.tally)
        told.tell(settings.receipts, receipt_s=settings.receipt_s, watched=settings.watched)
        while not told.over:
            if told.scene == "outage":
                self._take_screenshot()
            told.step(time.monotonic())
            self._watch(eye, screen)
        if settings.receipts is None:
            return None
        return reckon(
            settings.receipts, terminals.tally, self.picture.buffer("synced"), self._site.receipts(), desk.received()
        )

    # -- building ---------------------------------------------------------------------------------------------

    def _start_broker(self) -> int:
        wanted = str(self._settings.broker_port)
        broker = self._children.start("broker", "broker", "--port", wanted, "--no-ws", "--json")
        port = int(broker.ready(self._stopping)["port"])
        self.picture.tell(story(f"Listen in: mosquitto_sub -p {port} -t '{TOPICS.root}/#' -v"))
        return port

    def _start_ofd_and_bridge(self, broker_port: int) -> OfdDesk:
        state = str(self._site.ofd_state)
        ofd = self._children.start("OFD", "sim", "ofd", "--port", "0", "--state", state, "--json")
        url = str(ofd.ready(self._stopping)["url"])
        self._site.configure(
            broker_port=broker_port,
            ofd_url=url,
            pos=self._settings.pos,
            capacity=self._settings.capacity,
            pace=self._settings.pace,
        )
        self._children.start("bridge", "run", "--config", str(self._site.config))
        return OfdDesk(url)

    def _await_bridge(self, eye: BrokerClient, screen: Screen) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self.picture.online:
            if time.monotonic() > deadline:
                raise ChildEnded(
                    f"the bridge was not online within {READY_TIMEOUT_S:g} s; see its log in {self._site.directory}"
                )
            self._watch(eye, screen)

    # -- watching ---------------------------------------------------------------------------------------------

    def _watch(self, eye: BrokerClient, screen: Screen) -> None:
        """One frame: show the picture, then take in what comes until it is time for the next."""
        began = time.monotonic()
        if self._stopping():
            raise Stopped
        if began >= self._next_check:
            self._next_check = began + CHECK_S
            self._children.check()
        screen.show(self.picture, began)
        next_frame = began + screen.interval_s
        for _ in range(MESSAGES_PER_TURN):
            message = eye.get(next_frame - time.monotonic())
            if message is None:
                break
            self.picture.take(message.topic, message.payload, time.monotonic())

    def _take_screenshot(self) -> None:
        """Again and again in the outage, each over the last: the fullest buffer while sales still go on remains."""
        now = time.monotonic()
        countdown = self.picture.seconds_to_probe(now)
        busy = self.picture.printed.per_second(now) >= 0.8 * self._settings.pace.rate
        if self._settings.screenshot is None or countdown is None or countdown < 1 or (self._has_picture and not busy):
            return
        self._has_picture = True
        self.window.catch_up()
        frame = self.window.frame(COLUMNS, ROWS, now)
        save_svg(frame, self._settings.screenshot, "kkt-bridge demo")


def _title(settings: ShowSettings) -> str:
    registers = "1 register" if settings.registers == 1 else f"{settings.registers} registers"
    return f"{settings.pos} POS → {registers} → OFD"
