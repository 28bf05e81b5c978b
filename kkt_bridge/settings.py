"""The configuration: one TOML file, every key also from the environment, read once at start.

Nobody else in the program touches the environment. A wrong key or value is a `SettingsError` that
names where it stands, the key, and what was expected there.
"""

import codecs
import json
import os
import ssl
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args, get_origin
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from kkt_bridge.errors import SettingsError
from kkt_bridge.receipts.ffd_codes import TaxSystem
from kkt_bridge.receipts.model import Identifier
from kkt_bridge.receipts.text import EMAIL_PATTERN

ENVIRONMENT_PREFIX: Final = "KKT_BRIDGE__"

Seconds = Annotated[float, Field(gt=0, le=86_400 * 366)]
Days = Annotated[float, Field(gt=0, le=36_500)]
Port = Annotated[int, Field(ge=1, le=65_535)]


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError('unknown time zone: expected a name such as "Europe/Moscow"') from None
    return name


def _is_address(url: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return usable and not (parts.query or parts.fragment or any(char.isspace() for char in url))


def _web_address(url: str) -> str:
    if not _is_address(url, "http", "https"):
        raise ValueError('expected an address such as "https://ofd.example.com"')
    return url


def _proxy_address(proxy: SecretStr) -> SecretStr:
    url = proxy.get_secret_value()
    if not _is_address(url, "http") or urlsplit(url).path.strip("/"):
        raise ValueError('expected an address such as "http://proxy.example.com:3128"')
    return proxy


def masked_url(url: str) -> str:
    """An address for people, without the name and the password that it may hold."""
    scheme, separator, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    userinfo, at, host = authority.rpartition("@")
    return f"{scheme}{separator}***@{host}{slash}{path}" if at and userinfo else url


_SQLITE: Final = "sqlite:///"


def _journal_address(url: str) -> str:
    path = url.removeprefix(_SQLITE)
    if path == ":memory:":
        raise ValueError(f'a journal in memory forgets everything: name a file, as in "{_SQLITE}{_JOURNAL_EXAMPLE}"')
    if any(char in path for char in "?\0"):
        raise ValueError("nothing may follow the path of the file: take away the question mark and what is behind it")
    if not path.startswith("/"):
        raise ValueError(
            "expected an absolute path: another working directory would be another journal; write four slashes, "
            f'as in "{_SQLITE}{_JOURNAL_EXAMPLE}", here perhaps "{_SQLITE}{Path(path).absolute()}"'
        )
    if path.endswith("/"):
        raise ValueError(f'expected a file, as in "{_SQLITE}{_JOURNAL_EXAMPLE}", not a folder')
    return url


_JOURNAL_EXAMPLE: Final = "/var/lib/kkt-bridge/journal.db"


def journal_path(url: str) -> Path:
    """The database's file that a checked `journal.url` names, whatever links lead to it.

    Lock and log stand beside the file itself, so two names for it are one journal.
    """
    path = Path(_journal_address(url).removeprefix(_SQLITE))
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links in a circle: whoever opens it says so
        return path


def _publishable(root: str) -> str:
    if not root or any(char in root for char in "+#\x00") or root.startswith("/") or root.endswith("/"):
        raise ValueError('expected a topic without wildcards and without a slash at its ends, such as "kkt/v1"')
    return root


class Section(BaseModel):
    """A table of the file: unknown keys are errors, nothing changes after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any) -> Any:
        # Nothing here is a yes or no, and true would pass for the number 1.
        if isinstance(value, bool):
            raise ValueError("expected a number or a text, not true or false")  # noqa: TRY004 (pydantic wants ValueError)
        return value


class MqttSettings(Section):
    """The broker, and how the bridge's session there is kept."""

    host: str = "127.0.0.1"
    port: Port = 1883
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    client_id: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[!-~]+$")] | None = None
    """The session's name at the broker; `kkt-bridge-{bridge_id}` if there is none."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """Which MQTT is spoken; auto: 5, or 3.1.1 with a broker that does not know it."""
    topic_root: Annotated[str, AfterValidator(_publishable)] = "kkt/v1"
    keepalive_s: Annotated[float, Field(ge=5, le=65_535)] = 30
    session_expiry_s: Annotated[float, Field(ge=60, le=2**32 - 2)] = 30 * 86_400
    """How long the broker keeps what POS terminals publish while the bridge is down."""
    receive_maximum: Annotated[int, Field(ge=1, le=65_535)] = 25_000
    """How many receipts may be on their way into the journal at once."""


class JournalSettings(Section):
    """Where the receipts are kept."""

    url: Annotated[str, Field(pattern=r"^sqlite:///.+"), AfterValidator(_journal_address)]

    @property
    def path(self) -> Path:
        """The database's file itself, whatever links lead to it."""
        return journal_path(self.url)


class BufferSettings(Section):
    """How many receipts may wait for the OFD before new ones are refused."""

    capacity: Annotated[int, Field(ge=1, le=100_000_000)] = 200


class VirtualKktSettings(Section):
    """A virtual register in this process; its fiscal storage is a file that survives kills."""

    id: Identifier
    driver: Literal["virtual"]
    state: Path
    print_time_s: Annotated[float, Field(ge=0, le=3600)] = 1.0
    tax_system: TaxSystem = "osn"
    sender_email: Annotated[str, Field(max_length=64, pattern=EMAIL_PATTERN)] | None = None
    """From which the buyer gets the electronic receipt (FFD tag 1117); left out of the documents where not set."""


class OfdTlsSettings(Section):
    """Whom an OFD over https has to convince, and how the bridge shows who it is; PEM files."""

    ca: Path | None = None
    """Authorities that are trusted, instead of the public ones."""
    cert: Path | None = None
    key: Path | None = None

    @model_validator(mode="after")
    def _certificate_and_key_come_together(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key: expected both or neither")
        return self


class OfdSettings(Section):
    """The operator of fiscal data."""

    url: Annotated[str, AfterValidator(_web_address)]
    timeout_s: Seconds = 10
    health_path: Annotated[str, Field(pattern=r"^(/\S*)?$")] = "/ofd/v1/health"
    token_file: Path | None = None
    """Holds what is sent as `Authorization: Bearer`; instead of a name and a password in the address."""
    proxy: Annotated[SecretStr, AfterValidator(_proxy_address)] | None = None
    tls: OfdTlsSettings = OfdTlsSettings()

    @property
    def shown_url(self) -> str:
        """The address for people."""
        return masked_url(self.url)


class SyncSettings(Section):
    """How documents are sent on."""

    interval_s: Seconds = 10
    max_attempts: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    backoff_initial_s: Seconds = 5
    backoff_max_s: Seconds = 300
    network_hold_s: Annotated[float, Field(ge=0, le=86_400)] = 90
    """How long a network state lasts at least before the next is believed."""


class BreakerSettings(Section):
    """The circuit breaker before the OFD."""

    fail_max: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    reset_timeout_s: Seconds = 60
    success_threshold: Annotated[int, Field(ge=1, le=1000)] = 2


class ReplySettings(Section):
    """How long a POS waits without a word."""

    buffered_after_s: Seconds = 2


class TelemetrySettings(Section):
    """How often retained state is published again."""

    interval_s: Seconds = 30


class PrintSettings(Section):
    """How old a receipt may be when its turn comes; 0: any age."""

    max_age_s: Annotated[float, Field(ge=0, le=86_400 * 366)] = 0


class ShiftSettings(Section):
    """When a shift is closed by the bridge; the law's limit is 24 h."""

    close_after_s: Annotated[float, Field(gt=0, le=86_340)] = 23.5 * 3600


class RetentionSettings(Section):
    """How long full records are kept; the keys of purged receipts stay for ever."""

    synced_days: Days = 7
    dead_days: Days = 90
    events_days: Days = 7
    """How long an event waits for a broker that is away."""


class LogSettings(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class ProcessSettings(Section):
    """How the bridge uses its machine."""

    cores: Literal["one", "all"] = "one"
    """Where its threads run: an interpreter computes in one of them at a time anyway."""


class Settings(Section):
    """Everything one bridge is told."""

    bridge_id: Identifier
    groups: tuple[Identifier, ...] = ()
    timezone: Annotated[str, AfterValidator(_known_zone)] = "Europe/Moscow"
    mqtt: MqttSettings = MqttSettings()
    journal: JournalSettings
    buffer: BufferSettings = BufferSettings()
    kkt: Annotated[tuple[VirtualKktSettings, ...], Field(min_length=1)]
    pos: dict[Identifier, Identifier] = {}
    ofd: OfdSettings
    sync: SyncSettings = SyncSettings()
    breaker: BreakerSettings = BreakerSettings()
    reply: ReplySettings = ReplySettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    print: PrintSettings = PrintSettings()
    shift: ShiftSettings = ShiftSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    process: ProcessSettings = ProcessSettings()

    @model_validator(mode="after")
    def _registers_fit_together(self) -> Self:
        ids = [kkt.id for kkt in self.kkt]
        states = [str(kkt.state) for kkt in self.kkt]
        for kind, values in (("id", ids), ("state", states)):
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"kkt: two registers share the {kind} {min(twice)!r}")
        for pos, kkt in self.pos.items():
            if kkt not in ids:
                raise ValueError(f"pos.{pos}: no register {kkt!r}; there is {', '.join(ids)}")
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the shop."""
        return ZoneInfo(self.timezone)

    @property
    def only_kkt(self) -> str | None:
        """The register of every POS that is mapped to none; None where there are several registers."""
        return self.kkt[0].id if len(self.kkt) == 1 else None


def load_settings(path: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return this file's settings, overridden by `KKT_BRIDGE__SECTION__KEY` variables; SettingsError if unusable."""
    values = _read_toml(path)
    if isinstance(mqtt := values.get("mqtt"), dict) and "password" in mqtt:
        raise SettingsError(
            f"{path}: mqtt.password: a secret does not belong in the file: name a mqtt.password_file, "
            f"or set {ENVIRONMENT_PREFIX}MQTT__PASSWORD"
        )
    overridden = _apply_environment(values, environment)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error, path, overridden)) from None
    _check_ofd_files(settings.ofd, path)
    return _with_password(settings, path)


def environment_for_children() -> dict[str, str]:
    """Return the environment without this program's own variables: a child is told what concerns it, and no secret."""
    return {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}


def _check_ofd_files(ofd: OfdSettings, path: Path) -> None:
    """See that the files can be used, now rather than when the first receipt is to be sent. Errors: SettingsError."""
    tls = ofd.tls
    named = {"token_file": ofd.token_file, "tls.ca": tls.ca, "tls.cert": tls.cert, "tls.key": tls.key}
    for name, file in named.items():
        if file is None:
            continue
        text = _text_of(file, f"{path}: ofd.{name}")
        if name == "token_file" and (len(text.split()) != 1 or not text.isascii() or not text.strip().isprintable()):
            raise SettingsError(f"{path}: ofd.{name}: {file}: expected one token of printable ASCII, without spaces")
    if tls.ca is not None:
        try:
            ssl.create_default_context(cafile=str(tls.ca))
        except (OSError, ValueError):
            raise SettingsError(f"{path}: ofd.tls.ca: {tls.ca}: expected certificates in PEM form") from None
    if tls.cert is not None and tls.key is not None:
        try:
            # An encrypted key would be asked for on the terminal, where nobody is: it gets an empty password.
            ssl.create_default_context().load_cert_chain(tls.cert, tls.key, password=lambda: "")
        except (OSError, ValueError) as error:
            why = str(getattr(error, "reason", None) or error).replace("_", " ").lower()
            raise SettingsError(
                f"{path}: ofd.tls.cert and ofd.tls.key: {tls.cert} and {tls.key}: expected a certificate and its "
                f"unencrypted key in PEM form: {why}"
            ) from None


def _text_of(file: Path, named_by: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{named_by}: {file} cannot be read: {error}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SettingsError(
            f'{path}: begins with a byte-order mark: save it as UTF-8 without one ("UTF-8", not "with BOM")'
        )
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            f"{path}: line {line} is not UTF-8 (byte 0x{content[error.start]:02X}): "
            "save the file as UTF-8, not in an encoding of one byte a letter such as Windows-1251"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None


def _apply_environment(values: dict[str, Any], environment: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Put the variables over the file's values; return which key came from which variable."""
    origins: dict[tuple[str, ...], str] = {}
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT_PREFIX):
            if meant := _VARIABLES.get(_as_misspelt(name)):
                raise SettingsError(
                    f"environment {name}: is not read: write {meant}, with two underscores between names"
                )
            continue
        *parents, key = keys = tuple(name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        table = values
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise SettingsError(f"environment {name}: {parent!r} is no table of settings")
        table[key] = _environment_value(keys, environment[name])
        origins[keys] = name
    return origins


def _environment_value(keys: tuple[str, ...], text: str) -> Any:
    """Keys that are arrays or tables as JSON; everything else as text, which each key converts for itself."""
    if keys in _ARRAYS_AND_TABLES:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text
    return text


def _is_array_or_table(annotation: Any) -> bool:
    """Return whether an array or a table may stand where this is expected."""
    if get_origin(annotation) in {tuple, dict} or (isinstance(annotation, type) and issubclass(annotation, Section)):
        return True
    return any(_is_array_or_table(part) for part in get_args(annotation))


def _sections_in(annotation: Any) -> Iterator[type[Section]]:
    """Yield the tables that may stand where this is expected."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections_in(part)


def _keys_in(model: type[Section], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key, as a path through the tables, and the type of its value."""
    for name, field in model.model_fields.items():
        yield (*path, name), field.annotation
        for section in _sections_in(field.annotation):
            yield from _keys_in(section, (*path, name))


_KEYS: Final = dict(_keys_in(Settings))
_ARRAYS_AND_TABLES: Final = frozenset(path for path, annotation in _KEYS.items() if _is_array_or_table(annotation))


def _as_misspelt(variable: str) -> str:
    """Return the variable as it looks when case and the number of underscores are not minded."""
    return "_".join(part for part in variable.upper().split("_") if part)


_VARIABLES: Final = {
    _as_misspelt(name): name
    for path in _KEYS
    if (name := ENVIRONMENT_PREFIX + "__".join(path).upper()) and path[:1] != ("kkt",)
}
"""Each variable by its looks when its underscores are miscounted. Registers are an array, given as a whole."""


def _unknown_key(path: tuple[str, ...]) -> str:
    """Return the text about a key that there is not."""
    *parents, key = [part for part in path if not part.isdigit()]
    siblings = [known[-1] for known in _KEYS if known[:-1] == tuple(parents)]
    meant = get_close_matches(key, siblings, n=1)
    if (
        not meant
        and "__" not in key
        and (variable := _VARIABLES.get(_as_misspelt(ENVIRONMENT_PREFIX + "_".join(path))))
    ):
        meant = [variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")]
    return f"unknown key: did you mean {meant[0]}?" if meant else "unknown key: check the spelling"


def _explain(error: ValidationError, path: Path, overridden: Mapping[tuple[str, ...], str]) -> str:
    lines = []
    findings = error.errors(include_url=False)
    parents = {item["loc"][:depth] for item in findings for depth in range(1, len(item["loc"]))}
    # A list whose only element is wrong is also reported as too short: that is noise.
    for item in [item for item in findings if not (item["type"] == "too_short" and item["loc"] in parents)]:
        keys = tuple(str(part) for part in item["loc"])
        variable = next((name for key, name in overridden.items() if keys[: len(key)] == key[: len(keys)]), None)
        where = f"environment {variable}" if variable else str(path)
        match item["type"]:
            case "missing":
                problem = "required, and not given"
            case "extra_forbidden":
                problem = _unknown_key(keys)
            case "tuple_type" if keys == ("kkt",) and isinstance(item["input"], dict):
                problem = "each register is a table of its own in an array: write [[kkt]], with two brackets"
            case _:
                problem = f"{item['msg'].removeprefix('Value error, ')}, got {_shown(keys, item['input'])}"
        lines.append(f"{where}: {'.'.join(keys)}: {problem}" if keys else f"{where}: {problem.split(', got ')[0]}")
    return "\n".join(lines)


def _shown(keys: tuple[str, ...], value: Any) -> str:
    if "password" in keys:
        return "***"
    return repr(masked_url(value) if isinstance(value, str) else value)[:100]


def _with_password(settings: Settings, path: Path) -> Settings:
    """Return the settings with the password read from its file, where it is given that way."""
    mqtt = settings.mqtt
    if mqtt.password_file is None:
        return settings
    secret = _text_of(mqtt.password_file, f"{path}: mqtt.password_file").strip()
    if not secret:
        raise SettingsError(f"{path}: mqtt.password_file: {mqtt.password_file} is empty: write the password into it")
    return settings.model_copy(update={"mqtt": mqtt.model_copy(update={"password": SecretStr(secret)})})
