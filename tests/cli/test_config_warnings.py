"""Configurations that are odd, and with which the bridge runs all the same."""

from pathlib import Path

import pytest

from kkt_bridge.cli.config_warnings import config_warnings
from kkt_bridge.settings import load_settings

CONFIG = """
bridge_id = "store-017"

[journal]
url = "sqlite:////var/lib/kkt-bridge/journal.db"

[ofd]
url = "https://ofd.example.com"
"""
REGISTER = """
[[kkt]]
id = "kkt-{0}"
driver = "virtual"
state = "/var/lib/kkt-bridge/kkt-{0}.fn"
sender_email = "shop@example.com"
"""


def keys(tmp_path: Path, text: str, **environment: str) -> list[str]:
    file = tmp_path / "bridge.toml"
    file.write_text(text)
    variables = {f"KKT_BRIDGE__{name}": value for name, value in environment.items()}
    return [remark.key for remark in config_warnings(load_settings(file, variables))]


@pytest.mark.parametrize(
    ("registers", "pos", "expected"),
    [(1, "", []), (2, "", ["pos"]), (2, '[pos]\n"pos-1" = "kkt-2"\n', [])],
)
def test_registers_without_a_word_on_which_pos_prints_where(tmp_path, registers, pos, expected):
    text = CONFIG + "".join(REGISTER.format(number + 1) for number in range(registers)) + pos
    assert keys(tmp_path, text) == expected


def test_registers_that_do_not_say_from_whom_buyers_get_their_receipts(tmp_path):
    without = REGISTER.replace('sender_email = "shop@example.com"\n', "")
    file = tmp_path / "bridge.toml"
    file.write_text(CONFIG + '[pos]\n"pos-1" = "kkt-1"\n' + REGISTER.format(1) + without.format(2))

    (remark,) = config_warnings(load_settings(file, {}))

    assert remark.key == "kkt.sender_email"
    assert remark.message.startswith("none for kkt-2: ")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(0o600, []), (0o640, []), (0o644, ["mqtt.password_file"]), (0o602, ["mqtt.password_file"])],
)
def test_a_password_that_everybody_may_read(tmp_path, mode, expected):
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(mode)
    assert keys(tmp_path, CONFIG + REGISTER.format(1), MQTT__PASSWORD_FILE=str(secret)) == expected
