"""The bridge as a shop runs it: a process of its own, started from a TOML file, ended by signals."""

import json
import signal
import subprocess
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.mqtt_client import MqttClient
from support.processes import START_TIMEOUT_S, ChildProcess, clean_environment, python

STOP_TIMEOUT_S = 10.0
"""The contract's limit for a clean stop."""
UP_WITHIN_BYTES = 64 * 1024
"""Of the log of a start, in which it says that it is up."""


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


class BridgeProcess(ChildProcess):
    """`kkt-bridge run` on this configuration; its log and its file stay in `directory`."""

    def __init__(
        self,
        config: Mapping[str, Any] | str,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        *,
        measured: bool = True,
    ) -> None:
        """`environment` is added to a clean one; see `clean_environment` for `measured`."""
        text = config if isinstance(config, str) else as_toml(config)
        self.settings = tomllib.loads(text)
        self.file = directory / "bridge.toml"
        self.file.write_text(text, encoding="utf-8")
        self.id = self.settings["bridge_id"]
        self._known_boots: set[str] = set()
        super().__init__(
            "the bridge", directory / "bridge.log", clean_environment(measured=measured) | dict(environment or {})
        )

    @property
    def branch(self) -> str:
        """The topics of this bridge, without a trailing slash."""
        return f"{self.settings['mqtt'].get('topic_root', 'kkt/v1')}/{self.id}"

    def command(self) -> list[str]:
        """See `ChildProcess`."""
        return python("kkt_bridge", "run", "--config", self.file)

    def is_ready(self) -> bool:
        """Return whether this start has got as far as working, by its log."""
        return self.is_started and f"bridge {self.id} is up".encode() in self.output(UP_WITHIN_BYTES)

    def wait_ready(self) -> None:
        """Return when its retained `state/online` says that it is there."""
        self.wait_online()

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

    def restart(self) -> None:
        """End it in good order, and start it again."""
        self.terminate()
        self.start()
