-- Every id is made by the journal: the number of the commit, and a number within it (see transaction.py).
-- So ids follow the order of commits, are never used twice, and need no AUTOINCREMENT bookkeeping.
-- Indexes are few and partial: each one is a page more to write in every commit.
-- Ages are reckoned by the steady clock (..._steady_ms), which no wrong wall clock can move; other times are for people.

-- Receipts, narrow and often changed; their bodies stand apart and never change.
CREATE TABLE receipts (
    id INTEGER NOT NULL PRIMARY KEY,
    receipt_id TEXT NOT NULL,
    pos_id TEXT NOT NULL,
    kkt TEXT NOT NULL,
    status TEXT NOT NULL,
    digest BLOB NOT NULL,
    type TEXT NOT NULL,
    total INTEGER NOT NULL,
    original_receipt_id TEXT,
    reply_topic TEXT NOT NULL,
    correlation BLOB,
    notified INTEGER NOT NULL,
    hlc_wall_ms INTEGER NOT NULL,
    hlc_counter INTEGER NOT NULL,
    server_time INTEGER,
    received_ms INTEGER NOT NULL,
    received_steady_ms INTEGER NOT NULL,
    fn_before TEXT,
    fd_before INTEGER,
    document INTEGER,
    printed_ms INTEGER,
    ended_steady_ms INTEGER,
    error_code TEXT,
    error_message TEXT,
    UNIQUE (receipt_id, pos_id)
);
CREATE INDEX receipts_pending ON receipts (status, kkt, id) WHERE status IN ('buffered', 'printing', 'printed');
CREATE INDEX receipts_refunds ON receipts (original_receipt_id) WHERE original_receipt_id IS NOT NULL;

CREATE TABLE requests (
    receipt INTEGER NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
);

-- Fiscal documents in the order in which each register made them, and their way to the OFD.
CREATE TABLE documents (
    id INTEGER NOT NULL PRIMARY KEY,
    receipt INTEGER NOT NULL,
    kkt TEXT NOT NULL,
    fn_number TEXT NOT NULL,
    fd_number INTEGER NOT NULL,
    mark TEXT NOT NULL,
    warnings TEXT NOT NULL,
    delivery TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    strikes INTEGER NOT NULL,
    not_before_steady_ms INTEGER NOT NULL,
    reason TEXT,
    last_error TEXT,
    failed_ms INTEGER
);
CREATE UNIQUE INDEX documents_fiscal ON documents (fn_number, fd_number);
CREATE INDEX documents_unsent ON documents (delivery, kkt, id) WHERE delivery IN ('ready', 'waiting', 'dead');
CREATE INDEX documents_waiting ON documents (not_before_steady_ms) WHERE delivery = 'waiting';

-- What happened, step by step; event/receipt is published from here.
CREATE TABLE steps (
    id INTEGER NOT NULL PRIMARY KEY,
    receipt INTEGER,
    receipt_id TEXT,
    pos_id TEXT NOT NULL,
    kkt TEXT,
    from_status TEXT,
    to_status TEXT NOT NULL,
    fd_number INTEGER,
    error TEXT,
    at_ms INTEGER NOT NULL,
    at_steady_ms INTEGER NOT NULL
);
CREATE INDEX steps_of_receipt ON steps (receipt, id) WHERE receipt IS NOT NULL;
CREATE INDEX steps_loose ON steps (id) WHERE receipt IS NULL;

-- What the broker does not have yet: replies for ever, events until they are too old.
CREATE TABLE outbox (
    id INTEGER NOT NULL PRIMARY KEY,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    correlation BLOB,
    is_event INTEGER NOT NULL,
    created_steady_ms INTEGER NOT NULL
);
CREATE INDEX outbox_events ON outbox (created_steady_ms) WHERE is_event = 1;

-- Refusals, by digest of topic and bytes: a redelivery gets the same answer.
CREATE TABLE refusals (
    digest BLOB NOT NULL PRIMARY KEY,
    reply BLOB NOT NULL,
    refused_steady_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX refusals_by_age ON refusals (refused_steady_ms);

-- What the documents of one fiscal storage have in common; without a document, the register alone.
CREATE TABLE storages (
    id INTEGER NOT NULL PRIMARY KEY,
    kkt TEXT NOT NULL,
    kkt_serial TEXT NOT NULL,
    registration_number TEXT NOT NULL,
    fn_number TEXT NOT NULL,
    utc_offset_min INTEGER NOT NULL,
    UNIQUE (kkt, kkt_serial, registration_number, fn_number, utc_offset_min)
);

-- What stays of a purged receipt, for ever: enough to answer a repeat as before, and to check a refund.
-- There will be millions, so what can be derived is not kept, and the rest is small (see tombstones.py): ids are
-- their 16 bytes, words their numbers, and times are differences from hlc_wall_ms.
CREATE TABLE tombstones (
    receipt_id BLOB NOT NULL,
    pos_id TEXT NOT NULL,
    storage INTEGER NOT NULL,
    status INTEGER NOT NULL,
    type INTEGER NOT NULL,
    digest BLOB NOT NULL,
    total INTEGER NOT NULL,
    original_receipt_id BLOB,
    hlc_wall_ms INTEGER NOT NULL,
    hlc_counter INTEGER NOT NULL,
    received_after_ms INTEGER NOT NULL,
    printed_after_ms INTEGER,
    server_after_s INTEGER,
    fd_number INTEGER,
    fiscal_sign INTEGER,
    dated_after_s INTEGER,
    shift_number INTEGER,
    receipt_number INTEGER,
    change INTEGER,
    operation INTEGER,
    warnings TEXT,
    error_code TEXT,
    error_message TEXT,
    mark TEXT,
    PRIMARY KEY (receipt_id, pos_id)
) WITHOUT ROWID;
CREATE INDEX tombstones_refunds ON tombstones (original_receipt_id) WHERE original_receipt_id IS NOT NULL;

-- Operators' commands and what came of them: the audit of what was done to the bridge.
CREATE TABLE commands (
    id INTEGER NOT NULL PRIMARY KEY,
    command_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    issued_by TEXT NOT NULL,
    args TEXT NOT NULL,
    reply_topic TEXT NOT NULL,
    correlation BLOB,
    only_asks INTEGER NOT NULL,
    taken_ms INTEGER NOT NULL,
    finished_steady_ms INTEGER,
    result TEXT
);
CREATE INDEX commands_open ON commands (id) WHERE result IS NULL;
CREATE INDEX commands_by_age ON commands (only_asks, finished_steady_ms) WHERE result IS NOT NULL;

-- Figures that every commit changes, on one page: receipts by register and status, dead letters by register,
-- and, with an empty register, the clocks and the number of the last commit.
CREATE TABLE figures (
    kkt TEXT NOT NULL,
    name TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (kkt, name)
) WITHOUT ROWID;

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Fiscal documents whose receipts were lost with an earlier journal: a repeat of such a receipt is not printed again.
CREATE TABLE recovered (
    requisite TEXT NOT NULL PRIMARY KEY,
    kkt TEXT NOT NULL,
    fn_number TEXT NOT NULL,
    fd_number INTEGER NOT NULL,
    form INTEGER NOT NULL,
    operation TEXT NOT NULL,
    total INTEGER NOT NULL,
    mark TEXT NOT NULL
) WITHOUT ROWID;
