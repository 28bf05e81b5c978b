-- Refusals in the order in which they were given, with their POS: so that the oldest can go, of one POS and of all.
DROP INDEX refusals_by_age;
ALTER TABLE refusals RENAME TO refusals_by_digest;
CREATE TABLE refusals (
    id INTEGER NOT NULL PRIMARY KEY,
    pos_id TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    reply BLOB NOT NULL,
    refused_steady_ms INTEGER NOT NULL
);
INSERT INTO refusals (pos_id, digest, reply, refused_steady_ms)
    SELECT '', digest, reply, refused_steady_ms FROM refusals_by_digest ORDER BY refused_steady_ms;
DROP TABLE refusals_by_digest;
CREATE INDEX refusals_by_age ON refusals (refused_steady_ms);
