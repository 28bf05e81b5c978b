"""The published description of the contract: up to date, true of the examples, and one whole."""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from support.receipts import ValidKind, odd_but_valid_kinds
from support.validator import SCHEMAS, ContractValidator

from kkt_bridge.cli import schemas as command
from kkt_bridge.ofd.classify import classify
from kkt_bridge.ofd.exchange import AnswerKind
from kkt_bridge.receipts.lifecycle import Status
from kkt_bridge.receipts.model import Receipt
from kkt_bridge.wire.asyncapi import schema_file
from kkt_bridge.wire.catalogue import CATALOGUE, CatalogueEntry
from kkt_bridge.wire.commands import COMMANDS
from kkt_bridge.wire.decode import decode_receipt
from kkt_bridge.wire.examples import EXAMPLES
from kkt_bridge.wire.messages import Outgoing
from kkt_bridge.wire.schemas import contract_files

INCOMING = [entry for entry in CATALOGUE if entry.direction == "in"]
OUTGOING = [entry for entry in CATALOGUE if entry.direction == "out"]
BRANCH = "kkt/v1/store-017"
AT = "2026-11-22T14:03:00.204+03:00"
ID = "0b9f6c52-6a1e-4c07-9d1c-0a4f4e1b5a11"

CONTRACT_EXAMPLES: dict[str, dict[str, Any]] = {
    f"{BRANCH}/pos/pos-1/receipt": {
        "receipt_id": ID,
        "pos_id": "pos-1",
        "type": "sale",
        "items": [
            {"name": "Оправа Ray-Ban RB5154", "price": "12990.00", "quantity": "1", "total": "12990.00", "vat": "22"},
            {"name": "Линза 1.6 HMC", "price": "2450.50", "quantity": 2, "total": "4901.00", "vat": "22",
             "unit": "piece"},
        ],
        "payments": [{"type": "card", "amount": "10000.00"}, {"type": "cash", "amount": "8000.00"}],
        "cashier": {"name": "Иванова А. П.", "inn": "500100732259"},
        "customer": {"contact": "buyer@example.com"},
    },
    f"{BRANCH}/pos/pos-1/query": {"receipt_id": ID},
    f"{BRANCH}/pos/pos-1/reply": {
        "receipt_id": ID, "pos_id": "pos-1", "status": "printed", "final": True, "duplicate": False,
        "fiscal": {
            "kkt": "kkt-1", "kkt_serial": "0000000000012345", "registration_number": "0000000001047959",
            "fn_number": "9999078900000001", "fd_number": 412, "fiscal_sign": "2819546253",
            "datetime": "2026-11-22T14:03:00+03:00", "shift_number": 12, "receipt_number": 34, "type": "sale",
            "total": "17891.00", "change": "109.00",
            "qr": "t=20261122T1403&s=17891.00&fn=9999078900000001&i=412&fp=2819546253&n=1",
        },
        "error": None, "warnings": [],
        "hlc": {"wall_ms": 1795345380123, "counter": 0, "server_time": None},
        "received_at": "2026-11-22T14:02:58.911+03:00", "printed_at": AT,
    },
    f"{BRANCH}/command/sync": {"command_id": ID, "issued_by": "ops", "args": {}},
    f"{BRANCH}/command/sync/result": {"command_id": ID, "ok": True, "result": {"sent": 6}, "at": AT},
    f"{BRANCH}/command/pause/result": {
        "command_id": ID, "ok": False, "error": {"code": "sync_in_progress", "message": "wait", "fields": []}, "at": AT,
    },
    f"{BRANCH}/state/online": {"online": True, "since": AT, "version": "0.1.0", "boot_id": "c1d0a6f2"},
    f"{BRANCH}/state/buffer": {
        "capacity": 200, "pending": 6, "percent_full": 3.0, "accepting": True, "oldest_pending_at": AT, "dlq_size": 0,
        "by_status": {"buffered": 0, "printing": 0, "printed": 6, "synced": 120, "rejected": 1, "dead": 0}, "at": AT,
    },
    f"{BRANCH}/state/breaker": {
        "state": "open", "failures": 5, "fail_max": 5, "opened_at": AT, "next_probe_at": AT, "last_error": "503",
        "at": AT,
    },
    f"{BRANCH}/state/sync": {
        "network": "offline", "in_progress": False, "last_success_at": AT, "sent_total": 120, "failed_total": 5,
        "at": AT,
    },
    f"{BRANCH}/state/kkt/kkt-1": {
        "kkt": "kkt-1", "driver": "virtual", "ready": True, "mode": "shift_open", "serial": "0000000000012345",
        "fn_number": "9999078900000001", "fn_expires": "2027-10-01", "last_fd_number": 412, "ofd_unsent": 6,
        "ofd_first_unsent_at": AT, "queue": 0, "shift": {"number": 12, "open": True, "opened_at": AT},
        "paper": "ok", "clock_drift_s": 1.2, "problem": None, "at": AT,
    },
    f"{BRANCH}/state/health": {
        "status": "degraded",
        "components": {"journal": {"status": "healthy"}, "ofd": {"status": "degraded", "reason": "breaker open"}},
        "at": AT,
    },
    f"{BRANCH}/event/receipt": {
        "steps": [
            {"receipt_id": ID, "pos_id": "pos-1", "kkt": "kkt-1", "from": "printing", "to": "printed", "fd_number": 412,
             "type": "sale", "total": "17891.00", "received_at": AT, "at": AT}
        ]
    },
}  # fmt: skip
"""The contract's own words, with its ellipses filled in."""


CODES = {"paymentType": 4, "productType": 1, "nds": 11, "itemsQuantityMeasure": 0}
FFD = {
    "receipt": {
        "code": 3, "fiscalDocumentFormatVer": 4, "kktRegId": "0000000001047959",
        "fiscalDriveNumber": "9999078900000001", "fiscalDocumentNumber": 412, "dateTime": 1795356180,
        "shiftNumber": 12, "requestNumber": 34, "operationType": 1, "appliedTaxationType": 1,
        "operator": "Иванова А. П.", "operatorInn": "500100732259", "buyerPhoneOrAddress": "buyer@example.com",
        "items": [
            {"name": "Оправа Ray-Ban RB5154", "price": 1299000, "quantity": 1, "sum": 1299000, "ndsSum": 234246}
            | CODES,
            {"name": "Линза 1.6 HMC", "price": 245050, "quantity": 2, "sum": 490100, "ndsSum": 88379} | CODES,
        ],
        "totalSum": 1789100, "cashTotalSum": 789100, "ecashTotalSum": 1000000, "prepaidSum": 0, "creditSum": 0,
        "provisionSum": 0, "amountsReceiptNds": {"amountsNds": [{"nds": 11, "ndsSum": 322625}]},
        "propertiesData": "OLPLZILVASWPIRRT", "fiscalSign": 2819546253,
    }
}  # fmt: skip
"""The document of the contract's receipt, as ED-7-20/662@ has it."""


@pytest.fixture(scope="module")
def contract() -> ContractValidator:
    return ContractValidator()


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text(encoding="utf-8"))
    return found


def schema_of(entry: CatalogueEntry) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / schema_file(entry)).read_text(encoding="utf-8"))
    return found


def wire(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode()


def run_command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


def references_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(reference := node.get("$ref"), str):
            yield reference
        for child in node.values():
            yield from references_in(child)
    elif isinstance(node, list):
        for child in node:
            yield from references_in(child)


def objects_in(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "properties" in node and node.get("type") == "object":
            yield node
        for child in node.values():
            yield from objects_in(child)
    elif isinstance(node, list):
        for child in node:
            yield from objects_in(child)


def test_the_committed_files_are_those_that_the_program_writes() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.iterdir()}
    wanted = contract_files()
    assert sorted(committed) == sorted(wanted), "run: kkt-bridge schemas"
    assert [name for name in wanted if committed[name] != wanted[name]] == [], "stale; run: kkt-bridge schemas"


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_a_schema_is_a_schema_and_its_example_keeps_it(entry: CatalogueEntry) -> None:
    schema = schema_of(entry)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == schema_file(entry)
    assert schema["description"] == entry.summary
    assert schema["examples"] == [entry.example]
    Draft202012Validator(schema).validate(entry.example)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_a_summary_is_one_sentence(entry: CatalogueEntry) -> None:
    assert re.fullmatch(r"[A-Z][^.]*\.", entry.summary)


@pytest.mark.parametrize("entry", INCOMING, ids=lambda entry: entry.name)
def test_a_schema_of_a_request_refuses_unknown_fields_everywhere(entry: CatalogueEntry) -> None:
    assert all(node["additionalProperties"] is False for node in objects_in(schema_of(entry)))


@pytest.mark.parametrize("entry", OUTGOING, ids=lambda entry: entry.name)
def test_a_schema_of_what_the_bridge_sends_leaves_room_for_more(entry: CatalogueEntry) -> None:
    schema = schema_of(entry)
    assert "additionalProperties" not in schema
    Draft202012Validator(schema).validate(dict(entry.example) | {"from_the_future": 1})
    assert not any("x-" in key for node in objects_in(schema) for field in node["properties"].values() for key in field)


@pytest.mark.parametrize("entry", OUTGOING, ids=lambda entry: entry.name)
def test_what_the_bridge_sends_may_not_lack_what_it_promises(entry: CatalogueEntry) -> None:
    schema = schema_of(entry)
    for name in schema["required"]:
        lacking = {key: value for key, value in entry.example.items() if key != name}
        assert not Draft202012Validator(schema).is_valid(lacking), name


@pytest.mark.parametrize("entry", OUTGOING, ids=lambda entry: entry.name)
def test_an_example_is_what_the_model_writes(entry: CatalogueEntry) -> None:
    if not issubclass(entry.model, Outgoing):
        assert entry.name == "ofd-document"
        return
    assert json.loads(entry.model.model_validate(entry.example).payload()) == entry.example


def test_the_example_of_the_ofd_document_is_what_the_bridge_makes_of_the_request() -> None:
    example = EXAMPLES["ofd-document"]
    request = EXAMPLES["receipt-request"]
    filled_in = {"payment_method": "full_payment", "payment_subject": "commodity", "unit": "piece"}
    items = [item | {"quantity": str(item["quantity"])} | filled_in for item in request["items"]]
    assert example["receipt"] == request | {"items": items}
    assert example["fiscal"] == EXAMPLES["reply"]["fiscal"]
    assert example["ffd"] == FFD


def anonymous_in(node: Any, path: str = "") -> Iterator[str]:
    """Objects, choices and enumerations without a name of their own, as a generator of code would meet them."""
    if isinstance(node, list):
        for number, child in enumerate(node):
            yield from anonymous_in(child, f"{path}/{number}")
        return
    if not isinstance(node, dict):
        return
    if "title" not in node and (node.get("type") == "object" or node.keys() & {"enum", "anyOf", "properties"}):
        yield path
    for key in node.keys() & {"items", "anyOf", "additionalProperties"}:
        yield from anonymous_in(node[key], f"{path}/{key}")
    for key in node.keys() & {"properties", "$defs"}:
        for name, child in node[key].items():
            yield from anonymous_in(child, f"{path}/{key}/{name}")


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_nothing_that_needs_a_type_is_without_a_name(entry: CatalogueEntry) -> None:
    assert list(anonymous_in(schema_of(entry))) == []


@pytest.mark.parametrize("name", ["reply", "command-result"])
def test_what_generators_stumble_over_is_not_in_an_answer(name: str) -> None:
    text = (SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8")
    assert '"if"' not in text
    assert '"allOf"' not in text


def test_every_message_of_the_program_stands_in_the_catalogue() -> None:
    models = [entry.model for entry in CATALOGUE]
    assert len(set(models)) == len(models)
    names = [entry.name for entry in CATALOGUE]
    assert len(set(names)) == len(names)
    assert sorted(EXAMPLES) == sorted(names)


@pytest.mark.parametrize("topic", CONTRACT_EXAMPLES)
def test_the_examples_of_the_contract_keep_the_schemas(topic: str, contract: ContractValidator) -> None:
    contract.check(topic, wire(CONTRACT_EXAMPLES[topic]))


KINDS = odd_but_valid_kinds()


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_the_schema_refuses_no_request_that_the_bridge_takes(kind: ValidKind, contract: ContractValidator) -> None:
    contract.check(f"{BRANCH}/pos/pos-1/receipt", kind.payload)
    contract.check(f"{BRANCH}/pos/pos-1/receipt", decode_receipt(kind.payload, "pos-1").canonical())


@pytest.mark.parametrize(
    ("changes", "violation"),
    [
        ({"status": "lost"}, "status: 'lost' is not one of"),
        ({"final": False}, "final: True was expected"),
        ({"fiscal": None}, "fiscal: None is not of type 'object'"),
        ({"status": "rejected"}, "error: None is not of type 'object'"),
        ({"status": "buffered"}, "final: False was expected"),
        ({"status": "unknown", "final": True}, "final: False was expected"),
        ({"received_at": "2026-11-22T14:02:58.911"}, "received_at: '2026-11-22T14:02:58.911' is not"),
        ({"received_at": "2026-11-22 14:02:58+03:00"}, "received_at: '2026-11-22 14:02:58+03:00' is not"),
        ({"received_at": "2026-13-22T14:02:58+03:00"}, "received_at: '2026-13-22T14:02:58+03:00' is not"),
        ({"duplicate": 1}, "duplicate: 1 is not of type 'boolean'"),
        ({"receipt_id": 1}, "receipt_id: 1 is not"),
        ({"warnings": None}, "warnings: None is not of type 'array'"),
    ],
)
def test_a_reply_that_breaks_the_contract_is_caught(
    changes: dict[str, Any], violation: str, contract: ContractValidator
) -> None:
    topic = f"{BRANCH}/pos/pos-1/reply"
    with pytest.raises(AssertionError, match=f"^{re.escape(topic)}: .*{re.escape(violation)}"):
        contract.check(topic, wire(dict(EXAMPLES["reply"]) | changes))


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (f"{BRANCH}/state/unheard-of", b"{}"),
        (f"{BRANCH}/pos/pos-1/mine", b"{}"),
        ("elsewhere", b"{}"),
        (f"{BRANCH}/pos/pos-1/reply", b""),
        (f"{BRANCH}/pos/pos-1/reply", b"[]"),
        (f"{BRANCH}/pos/pos-1/reply", b"\xff"),
        (f"{BRANCH}/pos/pos-1/reply", b'{"a": NaN}'),
        (f"{BRANCH}/state/online", b'{"online": true, "online": true}'),
    ],
)
def test_a_message_outside_the_contract_is_caught(topic: str, payload: bytes, contract: ContractValidator) -> None:
    with pytest.raises(AssertionError, match=f"^{re.escape(topic)}: "):
        contract.check(topic, payload)


def test_any_root_any_bridge_and_any_agreed_answer_topic(contract: ContractValidator) -> None:
    contract.check("shop/store-1/state/online", wire(EXAMPLES["state-online"]))
    contract.check("a/b/c/d/state/kkt/kkt-2", wire(EXAMPLES["state-kkt"]))
    mine = ContractValidator()
    mine.answers_on(f"{BRANCH}/pos/pos-1/mine")
    mine.answers_on(f"{BRANCH}/command/ops/console")
    mine.check(f"{BRANCH}/pos/pos-1/mine", wire(EXAMPLES["reply"]))
    mine.check(f"{BRANCH}/command/ops/console", wire(EXAMPLES["command-result"]))
    with pytest.raises(AssertionError):
        mine.check(f"{BRANCH}/pos/pos-1/mine", wire(EXAMPLES["command-result"]))


def test_a_retained_state_may_be_cleared(contract: ContractValidator) -> None:
    contract.check(f"{BRANCH}/state/kkt/kkt-9", b"")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_arguments_of_a_command_are_those_that_it_knows(name: str, contract: ContractValidator) -> None:
    command_of = EXAMPLES[f"command-{name}"]
    args = COMMANDS[name].model_validate(command_of["args"])
    assert args.model_dump(exclude_unset=True) == command_of["args"]
    contract.check(f"{BRANCH}/command/{name}", wire(command_of))
    with pytest.raises(AssertionError, match="speed"):
        contract.check(f"{BRANCH}/command/{name}", wire(dict(command_of) | {"args": {"speed": 1}}))


def test_a_command_may_leave_out_its_arguments_where_it_needs_none(contract: ContractValidator) -> None:
    bare = {key: value for key, value in EXAMPLES["command-status"].items() if key != "args"}
    contract.check(f"{BRANCH}/command/status", wire(bare))
    contract.check(f"{BRANCH}/command/sync", wire(bare))
    with pytest.raises(AssertionError, match="args"):
        contract.check(f"{BRANCH}/command/receipt", wire(bare))


def test_requests_are_told_from_what_the_bridge_says(contract: ContractValidator) -> None:
    assert contract.addressed_to_bridge(f"{BRANCH}/pos/pos-1/receipt")
    assert contract.addressed_to_bridge(f"{BRANCH}/command/sync")
    assert not contract.addressed_to_bridge(f"{BRANCH}/command/sync/result")
    assert not contract.addressed_to_bridge(f"{BRANCH}/state/online")
    assert not contract.addressed_to_bridge("elsewhere")


def test_every_reference_of_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    for reference in references_in(document):
        assert reference.startswith("#/"), "pasted anywhere, the document is whole"
        place: Any = document
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]


def test_every_schema_file_belongs_to_a_message_of_the_document(document: dict[str, Any]) -> None:
    told = {f"{message['name']}.schema.json" for message in document["components"]["messages"].values()}
    assert told - {"ofd-answer.schema.json"} == {path.name for path in SCHEMAS.glob("*.schema.json")}


def in_document(document: dict[str, Any], name: str) -> Draft202012Validator:
    """The judge of a message, made of the AsyncAPI document alone."""
    messages = document["components"]["messages"].values()
    payload = next(message["payload"] for message in messages if message["name"] == name)
    return Draft202012Validator(payload | {"components": document["components"]})


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_the_document_alone_judges_a_message_as_its_schema_file_does(
    entry: CatalogueEntry, document: dict[str, Any]
) -> None:
    judge, of_file = in_document(document, entry.name), Draft202012Validator(schema_of(entry))
    judge.validate(entry.example)
    for name in entry.example:
        for spoiled in (
            {key: value for key, value in entry.example.items() if key != name},
            dict(entry.example) | {name: []},
            dict(entry.example) | {name: {"speed": 1}},
        ):
            assert judge.is_valid(spoiled) is of_file.is_valid(spoiled), (name, spoiled)


@pytest.mark.parametrize(
    ("where", "field"), [([], "speed"), (["args"], "speed"), (["args", "adopt"], "speed"), (["args"], "print_agian")]
)
def test_a_settlement_with_a_field_too_many_is_refused_by_the_document_as_by_the_program(
    where: list[str], field: str, document: dict[str, Any]
) -> None:
    order = json.loads(json.dumps(EXAMPLES["command-settle"]))
    assert in_document(document, "command-settle").is_valid(order)
    place = order
    for key in where:
        place = place[key]
    place[field] = 1
    assert not in_document(document, "command-settle").is_valid(order)
    entry = next(entry for entry in CATALOGUE if entry.name == "command-settle")
    with pytest.raises(ValidationError, match=field):
        entry.model.model_validate(order)


@pytest.mark.parametrize(
    ("body", "server_time"), [({}, None), ({"server_time": 1795345382}, 1795345382), ({"server_time": "noon"}, None)]
)
def test_the_answer_of_the_ofd_stands_in_the_document_as_the_bridge_reads_it(
    body: dict[str, Any], server_time: int | None, document: dict[str, Any]
) -> None:
    answer = classify(200, {}, wire(body), whole=True, now_s=0)
    assert (answer.kind, answer.server_time) == (AnswerKind.ACCEPTED, server_time)
    judge = in_document(document, "ofd-answer")
    assert judge.is_valid(body) is (server_time is not None or not body)
    assert all(
        judge.is_valid(example["payload"]) for example in document["components"]["messages"]["ofdAnswer"]["examples"]
    )
    assert not judge.is_valid([])
    (operation,) = [each for each in document["operations"].values() if "http" in each["bindings"]]
    assert operation["reply"]["messages"] == [{"$ref": f"{operation['channel']['$ref']}/messages/ofdAnswer"}]


def test_the_document_tells_what_the_catalogue_says(document: dict[str, Any]) -> None:
    channels = {channel["address"]: key for key, channel in document["channels"].items()}
    assert list(channels) == [entry.topic for entry in CATALOGUE]
    operations = {operation["channel"]["$ref"]: operation for operation in document["operations"].values()}
    for entry in CATALOGUE:
        operation = operations[f"#/channels/{channels[entry.topic]}"]
        assert operation["action"] == ("receive" if entry.direction == "in" else "send")
        if entry.carrier == "mqtt":
            assert operation["bindings"]["mqtt"]["qos"] == 1
            assert operation["bindings"]["mqtt"]["retain"] is ("/state/" in entry.topic)
        assert ("reply" in operation) is (entry.direction == "in" or entry.carrier == "http")


def test_a_request_is_answered_on_the_fixed_topic(document: dict[str, Any]) -> None:
    answers = {
        document["channels"][key]["address"]: document["channels"][
            operation["reply"]["channel"]["$ref"].rsplit("/", maxsplit=1)[1]
        ]["address"]
        for operation in document["operations"].values()
        if "reply" in operation and "mqtt" in operation["bindings"]
        for key in [operation["channel"]["$ref"].rsplit("/", maxsplit=1)[1]]
    }
    result = "kkt/v1/{bridge}/command/{name}/result"
    assert answers == {
        "kkt/v1/{bridge}/pos/{pos}/receipt": "kkt/v1/{bridge}/pos/{pos}/reply",
        "kkt/v1/{bridge}/pos/{pos}/query": "kkt/v1/{bridge}/pos/{pos}/reply",
        "kkt/v1/{bridge}/command/{name}": result,
        **{f"kkt/v1/{{bridge}}/command/{name}": result for name in COMMANDS},
    }


def test_the_parameters_of_an_address_are_declared(document: dict[str, Any]) -> None:
    for channel in document["channels"].values():
        assert re.findall(r"\{(\w+)\}", channel["address"]) == list(channel.get("parameters", {}))
    assert document["components"]["parameters"]["name"]["enum"] == list(COMMANDS)


def test_the_states_of_a_receipt_are_published() -> None:
    step = json.loads((SCHEMAS / "event-receipt.schema.json").read_text(encoding="utf-8"))["$defs"]["Status"]
    assert step["enum"] == list(Status)


def test_the_description_is_text_that_people_can_compare() -> None:
    for name, text in contract_files().items():
        assert text.endswith("\n"), name
        assert not text.endswith("\n\n"), name
        assert "\r" not in text, name
        assert all(line == line.rstrip() for line in text.splitlines()), name
    assert "Оправа" in contract_files()["receipt-request.schema.json"]
    assert list(json.loads(contract_files()["receipt-request.schema.json"])["properties"]) == list(Receipt.model_fields)


def test_the_command_writes_what_is_committed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "schemas"
    assert run_command("--out", str(target)) == 0
    assert capsys.readouterr().out == f"{target}: {len(contract_files())} files written\n"
    assert {path.name: path.read_text(encoding="utf-8") for path in target.iterdir()} == contract_files()
    assert run_command("--out", str(target), "--check") == 0
    assert capsys.readouterr().out == f"{target}: up to date\n"


def test_the_check_names_each_file_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_command("--out", str(tmp_path))
    capsys.readouterr()
    (tmp_path / "query.schema.json").unlink()
    (tmp_path / "asyncapi.yaml").write_text("old\n", encoding="utf-8")
    (tmp_path / "quarry.schema.json").write_text("{}", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    assert run_command("--out", str(tmp_path), "--check") == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"{tmp_path / 'query.schema.json'}: missing",
        f"{tmp_path / 'asyncapi.yaml'}: stale",
        f"{tmp_path / 'quarry.schema.json'}: superfluous, no message has this schema",
    ]
    assert said.err.startswith("kkt-bridge schemas: run `kkt-bridge schemas --out ")
    assert sorted(tmp_path.iterdir()) == before


def test_writing_names_what_it_leaves_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "quarry.schema.json").write_text("{}", encoding="utf-8")
    assert run_command("--out", str(tmp_path)) == 0
    assert "quarry.schema.json: superfluous" in capsys.readouterr().out


def test_a_directory_that_cannot_be_is_a_line_and_not_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert run_command("--out", str(tmp_path / "file")) == 1
    assert capsys.readouterr().err == f"kkt-bridge schemas: {tmp_path / 'file'}: File exists\n"


def test_a_file_that_is_no_text_is_a_line_and_not_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command("--out", str(tmp_path))
    (tmp_path / "query.schema.json").write_bytes(b"\xff")
    assert run_command("--out", str(tmp_path), "--check") == 1
    assert f"{tmp_path / 'query.schema.json'}: stale" in capsys.readouterr().out


def test_a_field_says_in_the_schema_what_it_says_in_its_model() -> None:
    schema = json.loads((SCHEMAS / "receipt-request.schema.json").read_text(encoding="utf-8"))
    assert "no field for a discount" in schema["$defs"]["Item"]["properties"]["price"]["description"]
    assert schema["properties"]["pos_id"]["description"] == "The `{pos}` of the topic."
    reply = json.loads((SCHEMAS / "reply.schema.json").read_text(encoding="utf-8"))
    assert "send the same id again later" in reply["$defs"]["Error"]["properties"]["retryable"]["description"]
