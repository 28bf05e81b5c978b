"""The bridge as a shop runs it: a process of its own, started from a TOML file, ended by signals."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.mqtt_client import MqttClient

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
"""What the contract allows for a clean stop."""
TAIL_LINES = 30


def as_toml(config: Mapping[str, Any]) -> str:
    """Settings as a TOML file: plain values first, then tables, then arrays of tables."""
    plain = {key: value for key, value in config.items() if not isinstance(value, dict) and not is_tables(value)}
    lines = [f"{json.dumps(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    for name, value in config.items():
        if isinstance(value, dict):
            lines += ["", f"[{name}]", as_toml(value)]
        elif is_tables(value):
            for table in value:
                lines += ["", f"[[{name}]]", as_toml(table)]
    return "\n".join(lines)


def is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, dict) for item in value)


class BridgeProcess:
    """`kkt-bridge run` on this configuration; its log and its file stay in `directory`."""

    def __init__(
        self, config: Mapping[str, Any] | str, directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        """`environment` is added to ours, of which nothing that configures a bridge is passed on."""
        text = config if isinstance(config, str) else as_toml(config)
        self.settings = tomllib.loads(text)
        self.file = directory / "bridge.toml"
        self.file.write_text(text, encoding="utf-8")
        self.log = directory / "bridge.log"
        self.id = self.settings["bridge_id"]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KKT_BRIDGE__")}
        self._environment = inherited | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._known_boots: set[str] = set()

    @property
    def branch(self) -> str:
        """The topics of this bridge, without a trailing slash."""
        return f"{self.settings['mqtt'].get('topic_root', 'kkt/v1')}/{self.id}"

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The running process."""
        assert self._process is not None, "the bridge is not running"
        return self._process

    def launch(self) -> None:
        """Run it, and do not wait for anything."""
        assert self._process is None, "the bridge is running already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kkt_bridge", "run", "--config", str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )

    def start(self) -> None:
        """Run it, and return when its retained state/online says that it is there."""
        self.launch()
        try:
            self.wait_online()
        except BaseException:
            self.kill()
            raise

    def wait_online(self) -> dict[str, Any]:
        """The retained `state/online` of this start, once it is there; other starts had other boot ids."""
        mqtt = self.settings["mqtt"]
        with MqttClient(mqtt["host"], mqtt["port"], [f"{self.branch}/state/online"]) as client:
            seen = client.wait(
                lambda message: message.content["online"] and message.content["boot_id"] not in self._known_boots,
                "state/online of a new start",
                timeout_s=START_TIMEOUT_S,
                watch=self.check_runs,
                explain=self.tail,
            )
        self._known_boots.add(seen.content["boot_id"])
        return dict(seen.content)

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL); does nothing when it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self) -> float:
        """End it in good order (SIGTERM): exit status 0 within 10 s, or AssertionError. Returns the seconds it took."""
        process, started = self.process, time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"SIGTERM: still running after {STOP_TIMEOUT_S} s\n{self.tail()}") from None
        self._process = None
        assert status == 0, f"SIGTERM: exit status {status}\n{self.tail()}"
        return time.monotonic() - started

    def wait_end(self, timeout_s: float = START_TIMEOUT_S) -> int:
        """Its exit status, where it is to end by itself."""
        status = self.process.wait(timeout_s)
        self._process = None
        return status

    def restart(self) -> None:
        """End it in good order, and start it again."""
        self.terminate()
        self.start()

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(["-- the bridge's log:", *lines[-TAIL_LINES:]])

    def check_runs(self) -> None:
        """AssertionError, with the log, if it ended by itself."""
        if self._process is not None and (status := self._process.poll()) is not None:
            raise AssertionError(f"the bridge ended by itself, status {status}\n{self.tail()}")
