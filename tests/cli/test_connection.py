import re

import pytest
from cli.running_bridge import BRIDGE, run

ID = "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11"
COMMANDS = [
    ["status"],
    ["watch"],
    ["sync"],
    ["dlq", "list"],
    ["dlq", "requeue", "--all"],
    ["dlq", "discard", ID, "--reason", "x"],
    ["shift", "open"],
    ["receipt", ID],
    ["pause"],
    ["resume"],
    ["send", "/dev/null", "--raw"],
]


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_broker_that_is_away_is_one_line(args, closed_port):
    done = run(*args, "--bridge", BRIDGE, "--port", closed_port)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"kkt-bridge: 127.0.0.1:{closed_port}: no MQTT broker there: Connection refused\n"


@pytest.mark.parametrize("args", COMMANDS[::4], ids=" ".join)
def test_it_must_be_said_which_bridge(args):
    done = run(*args)

    assert done.returncode == 2
    assert done.stderr.startswith("kkt-bridge: say which bridge: --bridge ID, or --config FILE")


@pytest.mark.parametrize("args", COMMANDS[::5], ids=" ".join)
def test_an_unusable_configuration_is_told(args, tmp_path):
    config = tmp_path / "bridge.toml"
    config.write_text('bridge_id = "a b"\n', encoding="utf-8")

    done = run(*args, "--config", config)

    assert done.returncode == 2
    assert f"{config}: bridge_id: " in done.stderr


@pytest.mark.parametrize(
    "args", [*COMMANDS, ["dlq"], ["doctor"]], ids=" ".join
)  # fmt: skip
def test_help_has_exit_statuses_and_an_example(args):
    text = run(*args[:2] if args[0] == "dlq" else args[:1], "--help").stdout

    assert "exit status:\n" in text
    assert re.search(r"^example:\n  .*kkt-bridge ", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["status", "--bridge", "a/b"], "argument --bridge: 'a/b': expected 1 to 64 of"),
        (["status", "--port", "0"], "argument --port: '0': expected greater than or equal to 1"),
        (["status", "--port", "x"], "argument --port: 'x': expected a valid integer"),
        (["status", "--root", "kkt/#"], "argument --root: 'kkt/#': expected a topic without wildcards"),
        (["status", "--timeout", "0"], "argument --timeout: '0': expected greater than 0"),
        (["status", "--as", " "], "argument --as: "),
        (["status", "--as", "a\x1b"], "argument --as: "),
        (["status", "extra"], "unrecognized arguments: extra"),
        (["watch", "--count", "0"], "argument --count: '0': expected greater than or equal to 1"),
        (["dlq"], "the following arguments are required: WORK"),
        (["dlq", "requeue"], "one of the arguments ID --all is required"),
        (["dlq", "requeue", ID, "--all"], "not allowed with argument"),
        (["dlq", "discard", ID], "the following arguments are required: --reason"),
        (["dlq", "discard", "1", "--reason", "x"], "argument ID: '1': expected a lower-case UUID"),
        (["dlq", "list", "--limit", "0"], "argument --limit: "),
        (["shift", "pause"], "invalid choice: 'pause'"),
        (["shift", "open", "--kkt", "ü"], "argument --kkt: '\\xfc': expected 1 to 64 of"),
        (["receipt", ID.upper()], "argument ID: "),
        (["send"], "the following arguments are required: FILE"),
        (["send", "-", "--pos", "+"], "argument --pos: '+': expected 1 to 64 of"),
        (["doctor"], "the following arguments are required: --config"),
    ],
)
def test_wrong_arguments_say_what_was_expected(args, complaint):
    done = run(*args)

    assert done.returncode == 2
    assert done.stdout == ""
    assert complaint in done.stderr.splitlines()[-1]


def test_arguments_go_before_the_configuration(shop):
    elsewhere = shop.run("status", "--root", "kkt/v2", "--host", "localhost")

    assert elsewhere.returncode == 1
    assert f"localhost:{shop.broker.port} under kkt/v2" in elsewhere.stderr


def test_without_a_configuration_the_arguments_will_do(shop):
    assert run("status", "--bridge", BRIDGE, "--port", shop.broker.port).returncode == 0


def test_a_password_file_is_read(shop, tmp_path):
    password = tmp_path / "password"
    password.write_text("secret\n", encoding="utf-8")

    done = shop.run("status", "--username", "operator", "--password-file", password)

    assert done.returncode == 0


def test_a_password_file_that_is_missing_is_told(shop, tmp_path):
    done = shop.run("status", "--username", "operator", "--password-file", tmp_path / "none")

    assert done.returncode == 2
    assert done.stderr == f"kkt-bridge: --password-file: {tmp_path}/none cannot be read: No such file or directory\n"
