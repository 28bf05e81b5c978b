"""The demo as a whole: starts the shop, plays the story, counts, and ends everything again."""

import math
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from kkt_bridge.demo.dashboard import Dashboard
from kkt_bridge.demo.screens import PICTURE_COLUMNS, PICTURE_ROWS, DemoScreen, save_svg
from kkt_bridge.demo.site import (
    BRIDGE_ID,
    READY_TIMEOUT_S,
    TOPICS,
    Child,
    ChildEnded,
    DemoSpeed,
    OfdControl,
    Site,
    Stopped,
)
from kkt_bridge.demo.story import DURING, Story
from kkt_bridge.demo.summary import Summary, summarize
from kkt_bridge.demo.window import Window
from kkt_bridge.errors import BrokerAway, KktBridgeError
from kkt_bridge.mqtt.client import BridgeAddress, BrokerClient
from kkt_bridge.simulators.pos import Tally, Terminals, TerminalSettings, Trade
from kkt_bridge.wire.messages import Command

HOST: Final = "127.0.0.1"
CLOSING_S: Final = 15.0
"""After Ctrl-C: for receipts under way to be printed and delivered, so that there is something to count."""

LOOK_AROUND_S: Final = 1.0
"""For a retained state of a bridge of our name on another's broker."""

CHECK_S: Final = 0.25
ENDLESS_CAPACITY_S: Final = 22.0
"""An endless story's buffer holds the sales of so many seconds."""

MESSAGES_PER_TURN: Final = 500


@dataclass(frozen=True, slots=True)
class ShowSettings:
    """Options of a demo."""

    receipts: int | None
    """None: an endless story."""
    pos: int
    registers: int
    speed: DemoSpeed
    watched: bool
    broker_port: int
    """Of the demo's own broker; 0: any free one."""
    broker: BridgeAddress | None
    """A broker that is there already; None: the demo brings its own."""
    directory: Path
    seed: str
    screenshot: Path | None = None

    @property
    def capacity(self) -> int:
        """Of the buffer: ample where only counts matter, nearly filled by the outage for who watches."""
        if self.receipts is None:
            return math.ceil(self.speed.rate * ENDLESS_CAPACITY_S) + self.pos
        if not self.watched:
            return 2 * self.receipts + 50
        return math.ceil(self.receipts * DURING) + self.pos

    @property
    def receipt_s(self) -> float:
        """A generous time for one receipt, for deadlines."""
        return 2 * self.speed.print_time_s + 0.1 + (1 / self.speed.rate if self.speed.rate else 0.0)


class Show:
    """One demo; a context manager around `play`."""

    def __init__(self, settings: ShowSettings, stops: Callable[[], int], *, colours: bool = True) -> None:
        """`stops`: how often somebody asked for the end so far."""
        self._settings = settings
        self._stops = stops
        self._stops_heeded = 0
        self._retained_topics: set[str] = set()
        self.cut_short = False
        self._site = Site(settings.directory, settings.registers)
        self._children: list[Child] = []
        self._stack = ExitStack()
        self._next_check = 0.0
        self._has_picture = False
        self.dashboard = Dashboard(TOPICS)
        self.window = Window(self.dashboard, _title(settings), time.monotonic(), colours=colours)

    @property
    def began(self) -> bool:
        """True if the bridge ever published a state, so that its files may be worth keeping."""
        return bool(self.dashboard.states)

    def __enter__(self) -> Self:
        self._site.prepare()
        if self._settings.broker is not None:
            _refuse_same_name(self._settings.broker)
            self._stack.callback(self._clear_broker, self._settings.broker)
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def play(self, screen: DemoScreen) -> Summary:
        """Play the story to its end and return the counts.

        Where it is watched, the first request to stop closes the shop and lets what is under way come to its end; then
        there are counts too, and `cut_short` is true.

        Raises:
            Stopped: Before there was anything to count, for the second time, or where nobody watches.
            ChildEnded: A process that is needed ended early.
        """
        settings = self._settings
        broker = settings.broker or self._start_broker()
        self.dashboard.add_caption(f"Listen in: mosquitto_sub {_address_options(broker)} -t '{TOPICS.root}/#' -v")
        ofd_control = self._start_ofd_and_bridge(broker)
        client = self._stack.enter_context(broker.client())
        client.subscribe(self.dashboard.subscriptions())
        self._await_bridge(client, screen)
        trade = Trade(settings.speed.rate)
        terminals = self._stack.enter_context(Terminals(TerminalSettings(broker, settings.pos, settings.seed), trade))
        story = Story(self.dashboard, ofd_control, trade, terminals.tally)
        story.choose(settings.receipts, receipt_s=settings.receipt_s, watched=settings.watched)
        try:
            while not story.over:
                if story.scene == "outage":
                    self._take_screenshot()
                story.step(time.monotonic())
                self._watch(client, screen)
        except Stopped:
            if not settings.watched:
                raise
            self._close_shop(client, screen, ofd_control, trade, terminals.tally)
        asked = terminals.tally.published if self.cut_short or settings.receipts is None else settings.receipts
        # Whoever attaches to the demo's broker may sell too; where nobody watches, nobody is expected to.
        guests = self.dashboard.on_paper.difference(terminals.tally.printed) if settings.watched else ()
        synced = self.dashboard.buffer("synced")
        return summarize(asked, terminals.tally, synced, self._site.receipts(), ofd_control.received(), guests)

    # -- building ---------------------------------------------------------------------------------------------

    def _start(self, name: str, *arguments: str) -> Child:
        """Start `kkt-bridge` with these arguments; ended before those that were started earlier, which it needs."""
        child = Child(name, arguments, self._site.directory)
        self._children.append(child)
        self._stack.callback(child.stop)
        return child

    def _start_broker(self) -> BridgeAddress:
        wanted = str(self._settings.broker_port)
        broker = self._start("broker", "broker", "--port", wanted, "--no-ws", "--json")
        return BridgeAddress(HOST, int(broker.ready(self._is_stopping)["port"]), TOPICS)

    def _start_ofd_and_bridge(self, broker: BridgeAddress) -> OfdControl:
        state = str(self._site.ofd_state)
        ofd = self._start("OFD", "sim", "ofd", "--port", "0", "--state", state, "--json")
        url = str(ofd.ready(self._is_stopping)["url"])
        settings = self._settings
        self._site.configure(broker, url, pos=settings.pos, capacity=settings.capacity, speed=settings.speed)
        self._start("bridge", "run", "--config", str(self._site.config))
        return OfdControl(url)

    def _await_bridge(self, client: BrokerClient, screen: DemoScreen) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self.dashboard.online:
            if time.monotonic() > deadline:
                raise ChildEnded(
                    f"the bridge was not online within {READY_TIMEOUT_S:g} s; see its log in {self._site.directory}"
                )
            self._watch(client, screen)

    # -- ending -----------------------------------------------------------------------------------------------

    def _close_shop(
        self, client: BrokerClient, screen: DemoScreen, ofd_control: OfdControl, trade: Trade, tally: Tally
    ) -> None:
        """Nobody comes any more, the OFD is back, and what is under way gets its time."""
        self.cut_short = True
        self._stops_heeded = self._stops()
        self.dashboard.add_caption("Ctrl-C: the shop closes, what is under way comes to its end (again: at once)")
        trade.dismiss()
        ofd_control.end_outage()
        sync = Command(command_id=str(uuid.uuid4()), issued_by="demo", args={"force": True})
        deadline, next_sync = time.monotonic() + CLOSING_S, 0.0
        while time.monotonic() < deadline and not self._is_all_delivered(tally):
            if time.monotonic() >= next_sync:
                # An open breaker would wait for its time first.
                sync = sync.model_copy(update={"command_id": str(uuid.uuid4())})
                client.publish(TOPICS.command("sync"), sync.model_dump_json().encode())
                next_sync = time.monotonic() + 1.0
            self._watch(client, screen)

    def _is_all_delivered(self, tally: Tally) -> bool:
        answered = tally.answered == tally.published
        return (
            answered and self.dashboard.buffer("synced") >= len(tally.printed) and not self.dashboard.buffer("pending")
        )

    def _clear_broker(self, broker: BridgeAddress) -> None:
        """Leave no state of a bridge behind that is no more."""
        with suppress(BrokerAway), broker.client() as client:
            for topic in sorted(self._retained_topics):
                client.publish(topic, b"", retain=True)

    # -- watching ---------------------------------------------------------------------------------------------

    def _watch(self, client: BrokerClient, screen: DemoScreen) -> None:
        """One frame: show the picture, then take in what comes until it is time for the next."""
        began = time.monotonic()
        if self._is_stopping():
            raise Stopped
        if began >= self._next_check:
            self._next_check = began + CHECK_S
            for child in self._children:
                child.check()
        screen.show(self.dashboard, began)
        next_frame = began + screen.interval_s
        for _ in range(MESSAGES_PER_TURN):
            message = client.get(next_frame - time.monotonic())
            if message is None:
                break
            if message.topic.startswith(TOPICS.state("")):
                self._retained_topics.add(message.topic)
            self.dashboard.take(message.topic, message.payload, time.monotonic())

    def _is_stopping(self) -> bool:
        return self._stops() > self._stops_heeded

    def _take_screenshot(self) -> None:
        """Again and again in the outage, each over the last: the fullest buffer while sales still go on remains."""
        now = time.monotonic()
        countdown = self.dashboard.seconds_to_probe(now)
        busy = self.dashboard.printed.per_second(now) >= 0.8 * self._settings.speed.rate
        if self._settings.screenshot is None or countdown is None or countdown < 1 or (self._has_picture and not busy):
            return
        self._has_picture = True
        self.window.catch_up()
        frame = self.window.frame(PICTURE_COLUMNS, PICTURE_ROWS, now)
        save_svg(frame, self._settings.screenshot, "kkt-bridge demo")


def _refuse_same_name(broker: BridgeAddress) -> None:
    """BrokerAway if there is no broker; KktBridgeError if a demo's bridge is online there: they would fight."""
    with broker.client() as client:
        client.subscribe([TOPICS.state("online")])
        message = client.get(LOOK_AROUND_S)
    if message is not None and b'"online":true' in message.payload.replace(b" ", b""):
        raise KktBridgeError(
            f"--broker: a bridge {BRIDGE_ID} is online at {broker.host}:{broker.port}: end the other demo first"
        )


def _address_options(broker: BridgeAddress) -> str:
    """The broker as the options of mosquitto_sub and mosquitto_pub."""
    return f"-p {broker.port}" if broker.host in {HOST, "localhost"} else f"-h {broker.host} -p {broker.port}"


def _title(settings: ShowSettings) -> str:
    registers = "1 register" if settings.registers == 1 else f"{settings.registers} registers"
    return f"{settings.pos} POS → {registers} → OFD"
