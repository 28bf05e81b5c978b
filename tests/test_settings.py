"""The configuration: what a file and the environment may say, and what is said of a mistake."""

import json

import pytest

from kkt_bridge.errors import SettingsError
from kkt_bridge.ofd.http_client import OfdHttp
from kkt_bridge.ofd.process_exchange import options_of
from kkt_bridge.settings import Section, Settings, load_settings

LEAST = """
bridge_id = "store-017"

[journal]
url = "sqlite:////var/lib/kkt-bridge/journal.db"

[[kkt]]
id = "kkt-1"
driver = "virtual"
state = "/var/lib/kkt-bridge/kkt-1.fn"

[ofd]
url = "https://ofd.example.com"
"""


def with_another(name, state):
    """The least, and a second register."""
    return LEAST.replace("[ofd]", f'[[kkt]]\nid = "{name}"\ndriver = "virtual"\nstate = "{state}"\n\n[ofd]')


@pytest.fixture
def file(tmp_path):
    return tmp_path / "kkt-bridge.toml"


@pytest.fixture
def load(file):
    def load_text(text=LEAST, **environment):
        file.write_text(text, encoding="utf-8")
        return load_settings(file, {f"KKT_BRIDGE__{name}": value for name, value in environment.items()})

    return load_text


def refusal(load, text=LEAST, **environment):
    with pytest.raises(SettingsError) as raised:
        load(text, **environment)
    return str(raised.value)


# -- what is taken ---------------------------------------------------------------------------------------


def test_the_least_that_must_be_said_is_enough(load):
    settings = load()
    assert settings.bridge_id == "store-017"
    assert (settings.mqtt.host, settings.mqtt.port, settings.mqtt.topic_root) == ("127.0.0.1", 1883, "kkt/v1")
    assert (settings.buffer.capacity, settings.ofd.timeout_s, settings.ofd.health_path) == (200, 10, "/ofd/v1/health")
    assert (settings.sync.interval_s, settings.sync.max_attempts) == (10, 20)
    assert (settings.sync.backoff_initial_s, settings.sync.backoff_max_s) == (5, 300)
    breaker = settings.breaker
    assert (breaker.fail_max, breaker.reset_timeout_s, breaker.success_threshold) == (5, 60, 2)
    assert (settings.reply.buffered_after_s, settings.telemetry.interval_s) == (2, 30)
    assert settings.shift.close_after_s == 23.5 * 3600
    assert settings.zone.key == "Europe/Moscow"


def test_a_whole_file_is_taken(load):
    settings = load(
        LEAST.replace('bridge_id = "store-017"', 'bridge_id = "store-017"\ngroups = ["moscow"]\ntimezone = "Asia/Omsk"')
        + """
health_path = ""

[mqtt]
host = "mqtt.example.com"
port = 8883
username = "store-017"
topic_root = "shops/kkt"

[buffer]
capacity = 1000000

[pos]
"pos-1" = "kkt-1"

[sync]
backoff_initial_s = 0.5

[log]
format = "json"
level = "debug"
"""
    )
    assert settings.groups == ("moscow",)
    assert settings.zone.key == "Asia/Omsk"
    assert settings.pos == {"pos-1": "kkt-1"}
    assert settings.ofd.health_path == ""
    assert settings.sync.backoff_initial_s == 0.5


def sections(model):
    """Every section with its name, and the model itself."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation


SECONDS = [(section, key) for section, model in sections(Settings) for key in model.model_fields if key.endswith("_s")]


@pytest.mark.parametrize(("section", "key"), SECONDS)
def test_every_setting_in_seconds_takes_fractions(load, section, key):
    settings = load(**{f"{section}__{key}".upper(): "77.5"})
    assert getattr(getattr(settings, section), key) == pytest.approx(77.5, abs=0.5)


def test_settings_do_not_change(load):
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.buffer.capacity = 5


def test_a_pos_goes_to_the_register_it_is_mapped_to(load):
    settings = load(with_another("kkt-2", "/b") + '\n[pos]\n"pos-2" = "kkt-2"\n')
    assert settings.pos == {"pos-2": "kkt-2"}
    assert settings.only_kkt is None, "which of the two, nobody said"
    assert load().only_kkt == "kkt-1", "the only one"


# -- the environment -----------------------------------------------------------------------------------------


def test_the_environment_goes_over_the_file(load):
    settings = load(
        BUFFER__CAPACITY="300", OFD__URL="http://127.0.0.1:9000", BRIDGE_ID="store-018", OFD__TIMEOUT_S="2.5"
    )
    assert (settings.buffer.capacity, settings.bridge_id) == (300, "store-018")
    assert (settings.ofd.url, settings.ofd.timeout_s) == ("http://127.0.0.1:9000", 2.5)


def test_the_environment_alone_is_enough(load):
    settings = load(
        "",
        BRIDGE_ID="store-017",
        JOURNAL__URL="sqlite:////var/journal.db",
        KKT='[{"id": "kkt-1", "driver": "virtual", "state": "kkt-1.fn", "print_time_s": 0.5}]',
        POS='{"pos-1": "kkt-1"}',
        GROUPS='["a", "b"]',
        OFD__URL="http://ofd",
    )
    assert settings.kkt[0].print_time_s == 0.5
    assert (settings.pos, settings.groups) == ({"pos-1": "kkt-1"}, ("a", "b"))


def test_variables_of_others_are_left_alone(file):
    file.write_text(LEAST)
    assert load_settings(file, {"PATH": "/bin", "KKT_BRIDGE": "x", "KKT_BRIDGE_HOME": "y", "kkt_bridge__x": "z"})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("KKT_BRIDGE_BUFFER_CAPACITY", "KKT_BRIDGE__BUFFER__CAPACITY"),
        ("KKT_BRIDGE_BUFFER__CAPACITY", "KKT_BRIDGE__BUFFER__CAPACITY"),
        ("kkt_bridge__buffer__capacity", "KKT_BRIDGE__BUFFER__CAPACITY"),
        ("KKT_BRIDGE_OFD_URL", "KKT_BRIDGE__OFD__URL"),
        ("KKT_BRIDGE_MQTT_PASSWORD", "KKT_BRIDGE__MQTT__PASSWORD"),
    ],
)
def test_a_variable_with_underscores_miscounted_is_told_its_right_name(file, variable, meant):
    file.write_text(LEAST)
    with pytest.raises(SettingsError) as raised:
        load_settings(file, {variable: "300"})
    assert f"environment {variable}: is not read: write {meant}," in str(raised.value)
    assert "300" not in str(raised.value)


def test_a_variable_of_the_right_prefix_with_underscores_miscounted_is_told_the_key(load):
    assert "unknown key: did you mean buffer.capacity?" in refusal(load, BUFFER_CAPACITY="300")


def test_every_scalar_key_has_a_variable_of_its_own():
    """No two variables may look the same where underscores are not minded, or the wrong one would be proposed."""
    names = [name for name, _ in walk(Settings)]
    assert len({name.replace("__", "_") for name in names}) == len(names)


def walk(model, prefix="KKT_BRIDGE"):
    for name, field in model.model_fields.items():
        variable = f"{prefix}__{name.upper()}"
        yield variable, field
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from walk(field.annotation, variable)


def test_a_mistake_in_the_environment_names_the_variable(load, file):
    message = refusal(load, BUFFER__CAPACITY="many")
    assert message.startswith("environment KKT_BRIDGE__BUFFER__CAPACITY: buffer.capacity: ")
    assert "'many'" in message
    assert str(file) not in message


@pytest.mark.parametrize(
    ("variable", "value"),
    [("BUFER__CAPACITY", "300"), ("BUFFER__CAPACTY", "300"), ("", "x"), ("KKT__0__ID", "kkt-1"), ("BRIDGE_ID__X", "1"),
     ("KKT", "[not JSON"), ("POS", '["pos-1"]')],
)  # fmt: skip
def test_a_variable_that_fits_nothing_is_refused_by_name(load, variable, value):
    assert f"KKT_BRIDGE__{variable}" in refusal(load, **{variable: value})


# -- secrets ----------------------------------------------------------------------------------------------------


def test_a_password_comes_from_a_file(load, tmp_path):
    (tmp_path / "secret").write_text("p@ss wörd\n", encoding="utf-8")
    settings = load(MQTT__PASSWORD_FILE=str(tmp_path / "secret"))
    assert settings.mqtt.password.get_secret_value() == "p@ss wörd"


@pytest.mark.parametrize("password", ["[1]", "{}", '["a"]', '{"a": 1}', "[", "1", "true"])
def test_a_password_is_text_whatever_it_looks_like(load, password):
    settings = load(LEAST + '[mqtt]\nusername = "store"\n', MQTT__PASSWORD=password)
    assert settings.mqtt.password.get_secret_value() == password


def test_a_password_comes_from_the_environment(load):
    assert load(MQTT__PASSWORD="hunter2").mqtt.password.get_secret_value() == "hunter2"


def test_a_password_in_the_file_is_refused_without_repeating_it(load):
    message = refusal(load, LEAST + '\n[mqtt]\npassword = "hunter2"\n')
    assert "mqtt.password" in message
    assert "password_file" in message
    assert "hunter2" not in message


def test_a_password_is_shown_nowhere(load):
    settings = load(MQTT__PASSWORD="hunter2")
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump_json()}"
    message = refusal(load, MQTT__PASSWORD="hunter2", BUFFER__CAPACITY="many")
    assert "buffer.capacity" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_password_file_that_cannot_be_read_is_named(load, tmp_path, content):
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_bytes(content)
    message = refusal(load, MQTT__PASSWORD_FILE=str(secret))
    assert "mqtt.password_file" in message
    assert str(secret) in message
    assert "\n" not in message


@pytest.mark.parametrize("content", ["", "\n", "  \n"])
def test_an_empty_password_file_is_named(load, tmp_path, content):
    secret = tmp_path / "secret"
    secret.write_text(content)
    assert f"mqtt.password_file: {secret} is empty" in refusal(load, MQTT__PASSWORD_FILE=str(secret))


# -- mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        (LEAST.replace('bridge_id = "store-017"', ""), "bridge_id", "required"),
        (LEAST.replace('"store-017"', '"магазин"'), "bridge_id", "match"),
        (LEAST.replace('"store-017"', "17"), "bridge_id", "string"),
        ("capacity = 3\n" + LEAST, "capacity", "unknown key"),
        (LEAST + "\n[buffer]\ncapasity = 3\n", "buffer.capasity", "unknown key: did you mean capacity?"),
        (LEAST + "\n[bufer]\ncapacity = 3\n", "bufer", "unknown key: did you mean buffer?"),
        (LEAST + "\n[buffer]\nxyz = 3\n", "buffer.xyz", "unknown key: check the spelling"),
        (LEAST.replace("[ofd]", "print_tim_s = 1\n\n[ofd]"), "kkt.0.print_tim_s", "did you mean print_time_s?"),
        (LEAST.replace("[[kkt]]", "[kkt]"), "kkt", "write [[kkt]], with two brackets"),
        (LEAST + "\n[buffer]\ncapacity = 0\n", "buffer.capacity", "greater than or equal to 1"),
        (LEAST + "\n[buffer]\ncapacity = 2.5\n", "buffer.capacity", "integer"),
        (LEAST + '\n[buffer]\ncapacity = "many"\n', "buffer.capacity", "integer"),
        (LEAST + "\n[buffer]\ncapacity = true\n", "buffer.capacity", "not true or false"),
        (LEAST + "\n[mqtt]\nport = 0\n", "mqtt.port", "greater than or equal to 1"),
        (LEAST + "\n[mqtt]\nport = 65536\n", "mqtt.port", "less than or equal to 65535"),
        (LEAST + '\n[mqtt]\ntopic_root = "kkt/#"\n', "mqtt.topic_root", "without wildcards"),
        (LEAST + '\n[mqtt]\ntopic_root = "/kkt"\n', "mqtt.topic_root", "slash"),
        (LEAST + '\n[mqtt]\ntopic_root = ""\n', "mqtt.topic_root", "topic"),
        (LEAST + "\n[sync]\ninterval_s = 0\n", "sync.interval_s", "greater than 0"),
        (LEAST + "\n[sync]\ninterval_s = -1\n", "sync.interval_s", "greater than 0"),
        (LEAST + "\n[sync]\ninterval_s = nan\n", "sync.interval_s", "finite"),
        (LEAST + "\n[sync]\ninterval_s = inf\n", "sync.interval_s", "finite"),
        (LEAST + "\n[retention]\nsynced_days = 1e300\n", "retention.synced_days", "less than or equal"),
        (LEAST + "\n[print]\nmax_age_s = inf\n", "print.max_age_s", "finite"),
        (LEAST + "\n[shift]\nclose_after_s = 90000\n", "shift.close_after_s", "less than or equal"),
        (LEAST + '\n[log]\nlevel = "loud"\n', "log.level", "'debug', 'info', 'warning' or 'error'"),
        ('timezone = "Mars/Olympus"\n' + LEAST, "timezone", "unknown time zone"),
        ('timezone = "../../etc/passwd"\n' + LEAST, "timezone", "unknown time zone"),
        ('groups = "moscow"\n' + LEAST, "groups", "tuple"),
        ('groups = ["a b"]\n' + LEAST, "groups.0", "match"),
        (LEAST.replace('"virtual"', '"shtrich"'), "kkt.0", "'virtual'"),
        (LEAST.replace('state = "/var/lib/kkt-bridge/kkt-1.fn"', ""), "kkt.0", "required"),
        (LEAST.replace('"sqlite:////var/lib/kkt-bridge/journal.db"', '"postgresql://x"'), "journal.url", "match"),
        (LEAST.replace('"sqlite:////var/lib/kkt-bridge/journal.db"', '"sqlite://"'), "journal.url", "match"),
        (LEAST.replace("sqlite:////var", "sqlite:///var"), "journal.url", "write four slashes, as in"),
        (LEAST.replace("sqlite:////var/lib/kkt-bridge/journal.db", "sqlite:///:memory:"), "journal.url", "name a file"),
        (LEAST.replace("journal.db", "journal.db?timeout=3"), "journal.url", "take away the question mark"),
        (LEAST.replace("journal.db", ""), "journal.url", "not a folder"),
        (LEAST + "\n[pos]\n" + '"pos-1" = "kkt-9"\n', "pos.pos-1", "no register 'kkt-9'; there is kkt-1"),
        (LEAST + "\n[pos]\n" + '"a b" = "kkt-1"\n', "pos.a b", "match"),
        (with_another("kkt-1", "/b"), "kkt", "share the id"),
        (with_another("kkt-2", "/var/lib/kkt-bridge/kkt-1.fn"), "kkt", "share the state"),
    ],
)  # fmt: skip
def test_a_mistake_names_file_key_and_what_was_expected(load, file, text, key, expected):
    message = refusal(load, text)
    assert message.startswith(f"{file}: ")
    assert f"{key}" in message
    assert expected in message
    assert "Traceback" not in message
    assert "\n" not in message


def test_every_mistake_is_named_at_once(load):
    message = refusal(load, LEAST + "\n[buffer]\ncapacity = 0\n[mqtt]\nport = 0\nx = 1\n")
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize(
    "url",
    ["", "ofd.example.com", "ftp://ofd", "http://", "http:///path", "http://[::1", "http://ofd:99999", "http://ofd:port",
     "http://ofd:0", "http://o f d", "http://ofd/?x=1", "http://ofd/#x", "https://ofd\n"],
)  # fmt: skip
def test_an_address_that_is_none_is_found_at_the_start(load, url):
    assert "ofd.url" in refusal(load, OFD__URL=url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9000", "https://ofd.example.com/gateway", "http://[::1]:9000", "https://ofd.example.com/"]
)
def test_an_address_that_is_taken_can_be_used(load, url):
    OfdHttp(options_of(load(OFD__URL=url).ofd)).close()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a = ", "not TOML"),
        (b"[a]\n[a]\n", "not TOML"),
        (b'"', "not TOML"),
        (b"\xff", "line 1 is not UTF-8"),
        (LEAST.encode() + "# касса".encode("cp1251"), r"line 14 is not UTF-8 \(byte 0xEA\): save the file as UTF-8"),
        (b"\xef\xbb\xbf" + LEAST.encode(), "byte-order mark: save it as UTF-8 without one"),
        (LEAST.encode("utf-16"), "byte-order mark"),
    ],
)
def test_a_file_that_is_no_toml_is_named(file, content, expected):
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=expected) as raised:
        load_settings(file, {})
    assert str(file) in str(raised.value)


def test_a_file_that_is_not_there_is_named(file):
    with pytest.raises(SettingsError, match="cannot be read: No such file or directory") as raised:
        load_settings(file, {})
    assert str(raised.value).startswith(str(file))


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path, {})


def test_the_process_environment_is_asked_where_none_is_given(file, monkeypatch):
    file.write_text(LEAST)
    monkeypatch.setenv("KKT_BRIDGE__BUFFER__CAPACITY", "7")
    assert load_settings(file).buffer.capacity == 7


def test_a_long_value_is_not_repeated_in_full(load):
    message = refusal(load, KKT=json.dumps([{"id": "x" * 10_000, "driver": "virtual", "state": "/x"}]))
    assert len(message) < 400
