"""The first five minutes, as the README has a newcomer type them, against the demo that it has him start."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.brokers import HOST, MosquittoProcess, free_port, left_out, mosquitto_program
from support.processes import wait_until

from kkt_bridge.errors import BrokerAway
from kkt_bridge.mqtt.client import BrokerClient

ROOT = Path(__file__).parents[2]
TYPED_TIMEOUT_S = 60.0

OWN_PORT, GUEST_PORT = "18830", "18831"
"""The ports that the README names: of the demo's own broker, and of a Mosquitto."""

BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def block(start: str, language: str = "sh") -> str:
    """The one block of the README that begins like this."""
    (found,) = (text for kind, text in BLOCKS if kind == language and text.startswith(start))
    return str(found)


def typed(text: str, port: int) -> list[str]:
    """The words of a shell that is given this text, with another port and this interpreter."""
    for name in (OWN_PORT, GUEST_PORT):
        text = text.replace(name, str(port))
    return ["/bin/sh", "-ec", text.replace(".venv/bin/kkt-bridge", f"{sys.executable} -m kkt_bridge")]


def run(text: str, port: int) -> str:
    done = subprocess.run(
        typed(text, port), cwd=ROOT, capture_output=True, text=True, timeout=TYPED_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def demo(line: str, port: int, log: Path) -> Iterator[int]:
    """A demo that plays until it is no longer needed; its broker's port."""
    with log.open("wb") as file:
        process = subprocess.Popen(typed(f"exec {line}", port), cwd=ROOT, stdout=file, stderr=file)
    try:
        wait_until(lambda: is_open(port), TYPED_TIMEOUT_S, "a shop that sells")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TYPED_TIMEOUT_S)


def is_open(port: int) -> bool:
    try:
        with BrokerClient(HOST, port) as client:
            client.subscribe(["kkt/v1/demo-shop/event/receipt"])
            return client.get(1.0) is not None
    except BrokerAway:
        return False


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    if shutil.which("mosquitto_pub") is None:
        left_out("mosquitto-clients")
    line = block("make setup\n").splitlines()[1].partition("#")[0]
    with demo(line, free_port(), tmp_path_factory.mktemp("demo") / "log") as port:
        yield port


def test_a_sale_is_typed_twice_and_its_replies_are_seen(shop: int) -> None:
    words = typed(f"exec {block('mosquitto_sub -p')}", shop)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            replies = map(json.loads, watching.stdout)
            # Nothing tells when it has subscribed: the same once more is the way to see it.
            identity = run(block("ID=") + "echo $ID", shop)
            for _ in range(3):
                run(f"ID={identity}{block('mosquitto_pub')}", shop)
            printed = next(reply for reply in replies if reply["status"] == "printed")
            run(f"ID={identity}{block('mosquitto_pub')}", shop)
            again = next(reply for reply in replies if reply["status"] == "printed" and reply["duplicate"])
        finally:
            watching.terminate()
    assert printed["fiscal"]["change"] == "200.00"
    assert again["fiscal"] == printed["fiscal"]


def test_the_program_in_python_sells(shop: int) -> None:
    program = block("import json, uuid", "python").replace(OWN_PORT, str(shop))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=TYPED_TIMEOUT_S, check=True
    )
    assert json.loads(done.stdout)["status"] == "printed"


def test_a_file_is_sent(shop: int) -> None:
    assert "printed " in run(block(".venv/bin/kkt-bridge send docs/receipt.json"), shop)


def test_a_request_of_mqtt_5_is_answered_where_it_says(tmp_path: Path) -> None:
    mosquitto_program()
    with MosquittoProcess(tmp_path) as broker:
        with demo(block(".venv/bin/kkt-bridge demo --broker"), broker.port, tmp_path / "log") as port:
            answer = json.loads(run(block("mosquitto_rr"), port))
        assert answer["status"] == "printed"
