"""The tables as SQLAlchemy Core sees them; the migrations make them, a test holds the two together."""

from typing import Final

from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text, text

metadata: Final = MetaData()


def _table(name: str, /, **columns: type[Integer] | type[Text] | type[LargeBinary]) -> Table:
    keys = {"id"} & columns.keys()
    return Table(name, metadata, *(Column(key, kind, primary_key=key in keys) for key, kind in columns.items()))


receipts: Final = _table(
    "receipts",
    id=Integer,
    receipt_id=Text,
    pos_id=Text,
    kkt=Text,
    status=Text,
    digest=LargeBinary,
    type=Text,
    total=Integer,
    original_receipt_id=Text,
    reply_topic=Text,
    correlation=LargeBinary,
    notified=Integer,
    hlc_wall_ms=Integer,
    hlc_counter=Integer,
    server_time=Integer,
    received_ms=Integer,
    received_steady_ms=Integer,
    fn_before=Text,
    fd_before=Integer,
    document=Integer,
    printed_ms=Integer,
    ended_steady_ms=Integer,
    error_code=Text,
    error_message=Text,
)
requests: Final = _table("requests", receipt=Integer, body=Text)
documents: Final = _table(
    "documents",
    id=Integer,
    receipt=Integer,
    kkt=Text,
    fn_number=Text,
    fd_number=Integer,
    mark=Text,
    warnings=Text,
    delivery=Text,
    attempts=Integer,
    strikes=Integer,
    not_before_steady_ms=Integer,
    reason=Text,
    last_error=Text,
    failed_ms=Integer,
)
bodies: Final = _table("bodies", document=Integer, body=LargeBinary)
steps: Final = _table(
    "steps",
    id=Integer,
    receipt=Integer,
    receipt_id=Text,
    pos_id=Text,
    kkt=Text,
    from_status=Text,
    to_status=Text,
    fd_number=Integer,
    error=Text,
    at_ms=Integer,
    at_steady_ms=Integer,
    type=Text,
    total=Integer,
    received_ms=Integer,
)
outbox: Final = _table(
    "outbox",
    id=Integer,
    topic=Text,
    payload=LargeBinary,
    correlation=LargeBinary,
    is_event=Integer,
    created_steady_ms=Integer,
)
refusals: Final = _table(
    "refusals", id=Integer, pos_id=Text, digest=LargeBinary, reply=LargeBinary, refused_steady_ms=Integer
)
storages: Final = _table(
    "storages",
    id=Integer,
    kkt=Text,
    kkt_serial=Text,
    registration_number=Text,
    fn_number=Text,
    utc_offset_min=Integer,
)
tombstones: Final = _table(
    "tombstones",
    receipt_id=LargeBinary,
    pos_id=Text,
    storage=Integer,
    status=Integer,
    type=Integer,
    digest=LargeBinary,
    total=Integer,
    original_receipt_id=LargeBinary,
    hlc_wall_ms=Integer,
    hlc_counter=Integer,
    received_after_ms=Integer,
    printed_after_ms=Integer,
    server_after_s=Integer,
    fd_number=Integer,
    fiscal_sign=Integer,
    dated_after_s=Integer,
    shift_number=Integer,
    receipt_number=Integer,
    change=Integer,
    operation=Integer,
    warnings=Text,
    error_code=Text,
    error_message=Text,
    mark=Text,
)
commands: Final = _table(
    "commands",
    id=Integer,
    command_id=Text,
    name=Text,
    issued_by=Text,
    args=Text,
    reply_topic=Text,
    correlation=LargeBinary,
    only_asks=Integer,
    taken_ms=Integer,
    finished_steady_ms=Integer,
    result=Text,
)
figures: Final = _table("figures", kkt=Text, name=Text, value=Integer)
settings: Final = _table("settings", name=Text, value=Text)
recovered: Final = _table(
    "recovered",
    requisite=Text,
    kkt=Text,
    fn_number=Text,
    fd_number=Integer,
    form=Integer,
    operation=Text,
    total=Integer,
    mark=Text,
)

# Conditions of the partial indexes. SQLite uses such an index only for a query that repeats its condition
# word for word, so they are literals, not parameters.
IS_PENDING: Final = text("receipts.status IN ('buffered', 'printing', 'printed')")
IS_UNPRINTED: Final = text("receipts.status IN ('buffered', 'printing')")
IS_UNSENT: Final = text("documents.delivery IN ('ready', 'waiting', 'dead')")
IS_WAITING: Final = text("documents.delivery = 'waiting'")
IS_OPEN_COMMAND: Final = text("commands.result IS NULL")
IS_FINISHED_COMMAND: Final = text("commands.result IS NOT NULL")
IS_EVENT: Final = text("outbox.is_event = 1")
IS_LOOSE_STEP: Final = text("steps.receipt IS NULL")
