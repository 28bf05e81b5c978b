"""The pages for people: what they list is what the program has."""

import ast
import re
import signal
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from simulation.mutations import bugs
from support.invalid_receipts import invalid_kinds

from kkt_bridge.cli.main import COMMANDS, main
from kkt_bridge.operations.alert_table import CONDITIONS
from kkt_bridge.operations.health import REGISTER
from kkt_bridge.receipts.checks import print_warnings
from kkt_bridge.receipts.identity import ReceiptKey
from kkt_bridge.receipts.model import ITEMS_MAX, PAYMENTS_MAX, Receipt
from kkt_bridge.runtime.ports import SYSTEM
from kkt_bridge.runtime.service import Service
from kkt_bridge.settings import Settings
from kkt_bridge.stages import replies
from kkt_bridge.stages.intake.flood import FLOOD_PER_S
from kkt_bridge.wire.decode import FAULTS_SHOWN_MAX, Undecodable, decode_receipt
from kkt_bridge.wire.messages import REQUEST_BYTES_MAX, ErrorCode
from kkt_bridge.wire.refusals import REASONS

ROOT = Path(__file__).parents[1]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SETTINGS = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
PROGRAMS = ("kkt_bridge", "tests", "benchmarks", "deploy", "schemas")
WRITTEN_LATER = {"tests/logs/", "benchmarks/results/"}
SUB_COMMANDS = {"list", "requeue", "discard", "adopt", "print-again", "pass", "open", "close", "x-report"}
POS = (ROOT / "docs" / "pos.md").read_text(encoding="utf-8")
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def section(text: str, heading: str) -> str:
    """What stands under this heading, up to the next of the same or a higher rank."""
    (start,) = re.finditer(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    end = re.search(rf"^#{{1,{len(start[1])}}} ", text[start.end() :], re.MULTILINE)
    return text[start.end() :][: end.start() if end else None]


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the table, without its head, and without the marks of code and bold type."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip(" `*") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_error_code_is_explained_once() -> None:
    codes = [row[0] for row in rows(section(POS, "Error codes"))]
    assert sorted(codes) == sorted(get_args(ErrorCode))


def test_what_may_be_sent_again_is_said_as_the_program_says_it() -> None:
    told = {row[0]: row[1] == "yes" for row in rows(section(POS, "Error codes"))}
    receipts = {reason.code: reason.retryable for reason in REASONS.values() if reason.code in told}
    answered = replies.not_found(ReceiptKey("pos-1", "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11")).error
    assert answered is not None
    others = {answered.code: answered.retryable, "kkt_rejected": replies.rejection("kkt_rejected", "").retryable}
    with pytest.raises(Undecodable) as raised:
        decode_receipt(b"", "pos-1")
    decoded = dict.fromkeys(
        ("invalid_json", "invalid_receipt", "too_large", "pos_mismatch"), raised.value.error.retryable
    )
    assert told == receipts | others | decoded


def test_every_warning_is_explained() -> None:
    receipt = Receipt.model_validate(
        {
            "receipt_id": "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11", "pos_id": "pos-1", "type": "sale",
            "items": [{"name": "«Линза»", "price": "1", "quantity": "1", "total": "1", "vat": "none"}],
            "payments": [{"type": "cash", "amount": "1"}],
        }
    )  # fmt: skip
    assert [row[0] for row in rows(section(POS, "Warnings"))] == list(print_warnings(receipt, on_paper=False))


def test_the_limits_are_the_programs() -> None:
    words = " ".join(POS.split())
    for limit in (
        f"1 to {ITEMS_MAX};",
        f"1 to {PAYMENTS_MAX};",
        f"at most {REQUEST_BYTES_MAX // 1024} KiB",
        f"at most {FAULTS_SHOWN_MAX} wrong fields",
        f"more than {FLOOD_PER_S:.0f} messages a second",
    ):
        assert limit in words


def test_every_alert_is_explained_with_its_severity() -> None:
    told = [(row[0], row[1]) for row in rows(section(OPERATIONS, "Alerts"))]
    assert sorted(told) == sorted((condition.code, condition.severity) for condition in CONDITIONS)


def test_every_component_of_the_health_is_explained(tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"bridge_id": "store-017", "journal": {"url": f"sqlite:///{tmp_path / 'journal.db'}"},
         "kkt": [{"id": "kkt-1", "driver": "virtual", "state": str(tmp_path / "kkt-1.fn")}],
         "ofd": {"url": "http://127.0.0.1:9"}}
    )  # fmt: skip
    with closing(Service(settings, SYSTEM)) as service:
        reported = {re.sub(f"^{REGISTER}.*", f"{REGISTER}…", name) for name in service.components}
    assert {row[0] for row in rows(section(OPERATIONS, "Health"))} == reported


def test_every_key_of_the_configuration_is_explained() -> None:
    told = {word for row in rows(SETTINGS) for word in re.findall(r"[a-z_.]*[a-z_]", f"{row[0]} {row[2]}")}
    for name in keys_of(Settings):
        assert name in told, f"{name} is not in docs/settings.md"


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        sections = [*sections_in(field.annotation)]
        if not sections:
            yield f"{prefix}{name}"
        for each in sections:
            yield from keys_of(each, f"{prefix}{name}.")


def sections_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    for name, options in commands_in(page.read_text(encoding="utf-8")):
        helped = help_of(*name)
        for option in options:
            assert re.search(rf"(^|[ ,\[|]){re.escape(option)}\b", helped), f"{page.name}: {' '.join(name)} {option}"


def commands_in(text: str) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Each `kkt-bridge COMMAND` in code, with the options behind it."""
    for line in re.findall(
        r"`kkt-bridge ([^`]+)`|^(?:.*[ /])?kkt-bridge ((?:[a-z]+ ?)+.*)$", code_of(text), re.MULTILINE
    ):
        words = (line[0] or line[1]).partition("#")[0].split()
        name = tuple(word for word in words[:2] if word in COMMANDS or words[0] == "sim" or word in SUB_COMMANDS)
        if name and (name[0] in COMMANDS or name[0] == "sim"):
            yield name, [word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]+(=.*)?", word)]


def code_of(text: str) -> str:
    """What stands in code: blocks as they are, and each piece of a line with its marks."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`[^`\n]+`", rest)])


@cache
def help_of(*name: str) -> str:
    said, handler = StringIO(), signal.getsignal(signal.SIGTERM)
    try:
        with redirect_stdout(said), pytest.raises(SystemExit) as ended:
            main([*name, "--help"])
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert ended.value.code == 0, f"there is no kkt-bridge {' '.join(name)}"
    return said.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, f"{page.name}: {target}"


def test_every_rule_between_fields_is_one_that_refuses() -> None:
    paths = {kind.path for kind in invalid_kinds()}
    for path, _ in rows(section(POS, "The receipt")):
        assert path.replace(".N.", ".0.") in paths or path == "kkt", path


def test_every_planted_bug_is_listed() -> None:
    assert bugs() in RELIABILITY, "put in the table that `make simulate ARGS=--bugs` prints"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_program_that_a_page_names_exists(page: Path) -> None:
    tops = [ROOT / top for top in PROGRAMS]
    paths = ["/" + path.relative_to(ROOT).as_posix() for top in tops for path in [top, *top.rglob("*")]]
    missing = [
        named
        for named in re.findall(r"`((?:\w+/)*\w+\.py|(?:\w+/)+)`", page.read_text(encoding="utf-8"))
        if named not in WRITTEN_LATER and not any(path.endswith("/" + named.rstrip("/")) for path in paths)
    ]
    assert missing == []


def test_every_term_of_the_glossary_stands_in_its_place_and_is_a_name_in_the_code() -> None:
    for heading in ("The trade", "This program"):
        terms = rows(section(GLOSSARY, heading))
        assert len(terms) > 10
        assert [term for term, _, _ in terms] == sorted((term for term, _, _ in terms), key=str.lower)
        for term, _, place in terms:
            named = re.fullmatch(r"(\w+)` in `([\w/]+\.py)", place)
            assert named, f"{term}: {place!r} is not `name` in `module`"
            assert named[1] in names_defined_in(ROOT / "kkt_bridge" / named[2]), f"{term}: no {named[1]} in {named[2]}"


@cache
def names_defined_in(module: Path) -> set[str]:
    """Classes, functions, fields, constants and types, whatever block they stand in."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names
