"""The talk on the broker: receipts and commands to a bridge, and all that comes from it, held to the contract."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from support.bridge import BridgeProcess
from support.brokers import BrokerProcess
from support.mqtt_client import SOON_S, Message, MqttClient
from support.receipts import POS, encoded, receipt
from support.validator import ContractValidator


class Conversation:
    """A POS and an operator who talk to a bridge, and an observer who hears everything."""

    def __init__(self, broker: BrokerProcess, bridge: BridgeProcess) -> None:
        self.bridge = bridge
        self.branch = bridge.branch
        self.observer = MqttClient(broker.host, broker.port, ["kkt/#"])
        self.pos = MqttClient(broker.host, broker.port)
        self.contract = ContractValidator()
        self._checked = 0
        self._strange: set[str] = set()

    def connect(self) -> None:
        """Be there before the bridge is."""
        self.observer.connect()
        self.pos.connect()

    def hang_up(self) -> None:
        """Leave the broker."""
        self.observer.close()
        self.pos.close()

    # -- a POS -------------------------------------------------------------------------------------------

    def publish_receipt(self, request: Mapping[str, Any] | None = None, **how: Any) -> str:
        """Publish a receipt on its POS's topic and return its id; `how` is for `MqttClient.publish`."""
        request = receipt() if request is None else request
        self.pos.publish(f"{self.branch}/pos/{request['pos_id']}/receipt", encoded(request), **how)
        return str(request["receipt_id"])

    def publish_receipts(self, requests: Iterable[Mapping[str, Any]]) -> list[str]:
        """Publish receipts without waiting in between; return their ids."""
        requests = list(requests)
        self.pos.publish_all(
            (f"{self.branch}/pos/{request['pos_id']}/receipt", encoded(request)) for request in requests
        )
        return [str(request["receipt_id"]) for request in requests]

    def publish_strange(self, topic: str, payload: bytes, **how: Any) -> None:
        """Publish, inside the bridge's branch, where nobody has anything to say: not the bridge's word."""
        self._strange.add(f"{self.branch}/{topic}")
        self.pos.publish(f"{self.branch}/{topic}", payload, **how)

    def publish_receipt_after(self, prepare: Callable[[str], object]) -> str:
        """Publish a receipt after `prepare` was told the key by which the OFD will know it."""
        request = receipt()
        prepare(f"{request['pos_id']}:{request['receipt_id']}")
        return self.publish_receipt(request)

    def sell(self, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Have a receipt printed; its final reply, which must say so."""
        since = len(self.observer.messages)
        reply = self.wait_reply(self.publish_receipt(request), since=since)
        assert reply["status"] == "printed", reply
        return reply

    def refusal(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Have a receipt refused; the error of its final reply."""
        since = len(self.observer.messages)
        reply = self.wait_reply(self.publish_receipt(request), since=since)
        assert reply["status"] == "rejected", reply
        return dict(reply["error"])

    def query(self, receipt_id: str, pos: str = POS) -> dict[str, Any]:
        """Ask as its POS what became of a receipt."""
        since = len(self.observer.messages)
        self.pos.publish(f"{self.branch}/pos/{pos}/query", encoded({"receipt_id": receipt_id}))
        return self.wait_reply(receipt_id, final=False, since=since, pos=pos)

    def wait_reply(
        self,
        receipt_id: str | None,
        *,
        final: bool = True,
        since: int = 0,
        pos: str | None = None,
        topic: str | None = None,
        duplicate: bool = False,
        timeout_s: float = SOON_S,
    ) -> dict[str, Any]:
        """The first reply to this receipt from message `since` on; only a final one, only to a repeat."""

        def is_it(message: Message) -> bool:
            if not (message.topic == topic if topic else self._is_reply_topic(message.topic, pos)):
                return False
            reply = message.content
            return bool(
                reply["receipt_id"] == receipt_id and reply["final"] >= final and reply["duplicate"] >= duplicate
            )

        kind = "final reply" if final else "reply"
        return dict(self.wait(is_it, f"a {kind} to {receipt_id}", since=since, timeout_s=timeout_s).content)

    def replies(self, receipt_id: str | None) -> list[dict[str, Any]]:
        """Every reply to this receipt on the fixed topics, so far."""
        return [
            message.content
            for message in self.observer.messages
            if self._is_reply_topic(message.topic, None) and message.content["receipt_id"] == receipt_id
        ]

    def _is_reply_topic(self, topic: str, pos: str | None) -> bool:
        if pos is not None:
            return topic == f"{self.branch}/pos/{pos}/reply"
        return topic.startswith(f"{self.branch}/pos/") and topic.endswith("/reply")

    # -- an operator ---------------------------------------------------------------------------------------

    def command(self, name: str, *, timeout_s: float = SOON_S, **args: Any) -> dict[str, Any]:
        """Give a command and return its result message."""
        command_id, since = str(uuid.uuid4()), len(self.observer.messages)
        content = {"command_id": command_id, "issued_by": "tests", "args": args}
        self.pos.publish(f"{self.branch}/command/{name}", encoded(content))
        return self.wait_result(name, command_id, since=since, timeout_s=timeout_s)

    def done(self, name: str, **args: Any) -> dict[str, Any]:
        """Give a command that must succeed; its `result`."""
        message = self.command(name, **args)
        assert message["ok"], message
        return dict(message["result"])

    def failed(self, name: str, **args: Any) -> dict[str, Any]:
        """Give a command that must fail; its `error`."""
        message = self.command(name, **args)
        assert not message["ok"], message
        return dict(message["error"])

    def wait_result(
        self, name: str, command_id: str | None, *, since: int = 0, timeout_s: float = SOON_S
    ) -> dict[str, Any]:
        """The first result of this command."""
        topic = f"{self.branch}/command/{name}/result"
        found = self.wait(
            lambda message: message.topic == topic and message.content["command_id"] == command_id,
            f"the result of {name}",
            since=since,
            timeout_s=timeout_s,
        )
        return dict(found.content)

    # -- what the bridge shows -------------------------------------------------------------------------------

    def wait_state(
        self,
        name: str,
        wanted: Callable[[dict[str, Any]], bool],
        *,
        since: int | None = None,
        timeout_s: float = SOON_S,
    ) -> dict[str, Any]:
        """The state message `name`, once what stands there is as wanted: now, or as soon as it comes."""
        topic = f"{self.branch}/state/{name}"
        if since is None:
            here = [number for number, message in enumerate(self.observer.messages) if message.topic == topic]
            since = here[-1] if here else 0
        found = self.wait(
            lambda message: message.topic == topic and bool(message.payload) and wanted(message.content),
            f"state/{name} as wanted",
            since=since,
            timeout_s=timeout_s,
        )
        return dict(found.content)

    def wait_status(self, receipt_id: str, status: str, *, timeout_s: float = SOON_S) -> None:
        """Return when `event/receipt` has told that the receipt came to this status."""
        self.wait_statuses([receipt_id], status, timeout_s=timeout_s)

    def wait_statuses(self, receipt_ids: Iterable[str], status: str, *, timeout_s: float = SOON_S) -> None:
        """The same for many receipts."""
        missing = set(receipt_ids)

        def is_last(message: Message) -> bool:
            if message.topic == f"{self.branch}/event/receipt":
                missing.difference_update(
                    step["receipt_id"] for step in message.content["steps"] if step["to"] == status
                )
            return not missing

        if missing:
            self.wait(is_last, f"{len(missing)} receipts to become {status}", timeout_s=timeout_s)

    def wait_event(self, kind: str, wanted: Callable[[dict[str, Any]], bool] = bool) -> dict[str, Any]:
        """The first event of this kind that is as wanted."""
        topic = f"{self.branch}/event/{kind}"
        found = self.wait(lambda message: message.topic == topic and wanted(message.content), f"event/{kind} as wanted")
        return dict(found.content)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Every event of this kind, so far."""
        topic = f"{self.branch}/event/{kind}"
        return [message.content for message in self.observer.messages if message.topic == topic]

    def steps(self, receipt_id: str | None) -> list[dict[str, Any]]:
        """Every step of this receipt that `event/receipt` told, so far, each once."""
        told: list[dict[str, Any]] = []
        for event in self.events("receipt"):
            for step in event["steps"]:
                if step["receipt_id"] == receipt_id and step not in told:
                    told.append(step)
        return told

    def way(self, receipt_id: str) -> list[str]:
        """The statuses that this receipt came to, in order."""
        return [step["to"] for step in self.steps(receipt_id)]

    def wait(
        self, wanted: Callable[[Message], bool], what: str, *, since: int = 0, timeout_s: float = SOON_S
    ) -> Message:
        """A message that the observer saw, as in `MqttClient.wait`; the contract is checked on the way."""
        return self.observer.wait(
            wanted, what, timeout_s=timeout_s, since=since, watch=self.check_contract, explain=self.bridge.tail
        )

    # -- the contract --------------------------------------------------------------------------------

    def check_contract(self) -> None:
        """AssertionError at the first message of this bridge that breaks the contract; also where the bridge died."""
        self.bridge.check_runs()
        fresh = self.observer.messages[self._checked :]
        self._checked += len(fresh)
        for message in fresh:
            if self._is_from_bridge(message.topic):
                self.contract.check(message.topic, message.payload)

    def _is_from_bridge(self, topic: str) -> bool:
        ours = topic in self._strange or self.contract.addressed_to_bridge(topic)
        return topic.startswith(f"{self.branch}/") and not ours
