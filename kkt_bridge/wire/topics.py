"""Every topic of the bridge, built and parsed here only."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

RequestKind = Literal["receipt", "query", "command"]

_WILDCARDS = re.compile(r"[+#]")

NAME_CHARS_MAX = 64
"""Characters of a name that is answered: an identifier has no more."""

STATES = ("online", "health", "buffer", "breaker", "sync", "alerts", "config")
"""Names of the retained state that every bridge publishes."""

ANSWER_TOPIC_BYTES_MAX = 1024
ANSWER_TOPIC_LEVELS_MAX = 32
"""Of a response topic: far more than anybody needs, far less than any broker takes."""


@dataclass(frozen=True, slots=True)
class Route:
    """The kind of request that belongs on a topic. `name` is the POS of a receipt or query, or the command's name."""

    kind: RequestKind
    name: str


@dataclass(frozen=True)
class Topics:
    """The topics under one bridge's branch, for example `kkt/v1/store-017`."""

    root: str
    bridge: str

    @cached_property
    def branch(self) -> str:
        """The bridge's branch, without a trailing slash."""
        return f"{self.root}/{self.bridge}"

    def subscriptions(self) -> list[str]:
        """The filters for everything that is addressed to the bridge."""
        return [f"{self.branch}/pos/+/receipt", f"{self.branch}/pos/+/query", f"{self.branch}/command/+"]

    def route(self, topic: str) -> Route | None:
        """Return the request for which this topic is; None if it is not addressed to the bridge."""
        inside = topic.removeprefix(self.branch + "/")
        if inside == topic:
            return None
        match inside.split("/"):
            case ["pos", pos, "receipt"]:
                return Route("receipt", pos)
            case ["pos", pos, "query"]:
                return Route("query", pos)
            case ["command", name]:
                return Route("command", name)
            case _:
                return None

    def receipt(self, pos: str) -> str:
        """Return the topic on which a POS publishes receipts."""
        return f"{self.branch}/pos/{pos}/receipt"

    def query(self, pos: str) -> str:
        """Return the topic on which a POS asks what became of a receipt."""
        return f"{self.branch}/pos/{pos}/query"

    def reply(self, pos: str) -> str:
        """The fixed reply topic of a POS."""
        return f"{self.branch}/pos/{pos}/reply"

    def command(self, name: str) -> str:
        """Return the topic on which an operator publishes a command."""
        return f"{self.branch}/command/{name}"

    def command_result(self, name: str) -> str:
        """The fixed result topic of a command."""
        return f"{self.branch}/command/{name}/result"

    def state(self, name: str) -> str:
        """A retained state topic: `online`, `buffer`, `kkt/kkt-1`, ..."""
        return f"{self.branch}/state/{name}"

    def states(self) -> list[str]:
        """The retained topics that every bridge has; those of its registers stand beside them.

        Some brokers (RabbitMQ) hand over what is retained only to a subscription that names the very topic.
        """
        return [self.state(name) for name in STATES]

    def event(self, kind: str) -> str:
        """An event topic: `receipt`, `breaker`, ..."""
        return f"{self.branch}/event/{kind}"

    def answer_topic(self, route: Route, response_topic: str | None) -> str | None:
        """Return the topic for the answer: the response topic if inside the asker's own branch, else the fixed one.

        None where the asker's name makes a topic that no broker need take.

        The fence keeps a client from making the bridge publish where the client itself may not, and the
        bridge from publishing to itself.
        """
        if route.kind == "command":
            fixed, fence = self.command_result(route.name), f"{self.branch}/command/"
        else:
            fixed, fence = self.reply(route.name), f"{self.branch}/pos/{route.name}/"
        if len(route.name) > NAME_CHARS_MAX or not _is_publishable(fixed):
            return None
        if (
            not response_topic
            or not response_topic.startswith(fence)
            or len(response_topic) == len(fence)
            or not _is_publishable(response_topic)
            or self.route(response_topic) is not None
        ):
            return fixed
        return response_topic


def _is_publishable(topic: str) -> bool:
    """Return whether every broker would take a message on this topic.

    One that it does not take cuts the connection, and the answer waits in the outbox to do so again.
    """
    return (
        topic.isprintable()
        and not _WILDCARDS.search(topic)
        and len(topic.encode()) <= ANSWER_TOPIC_BYTES_MAX
        and topic.count("/") < ANSWER_TOPIC_LEVELS_MAX
    )
