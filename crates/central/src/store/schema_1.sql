-- Schema version 1. Times: `…_us` are microseconds since 1970 of what a station said (or a stand-in far outside of
-- time where it cannot be read), `…_ms` are milliseconds of our own clock, the text beside them is the station's own.
-- Amounts of energy are decimal text in Wh with all their digits.

CREATE TABLE station (
    id              INTEGER PRIMARY KEY,
    tenant          TEXT NOT NULL,
    identity        TEXT NOT NULL,
    version         TEXT NOT NULL,
    first_seen_ms   INTEGER NOT NULL,
    vendor          TEXT,
    model           TEXT,
    serial          TEXT,
    firmware        TEXT,
    boot            TEXT,              -- the last BootNotification as it came
    booted_ms       INTEGER,           -- when it came; null: never booted with us
    registration    TEXT,              -- how it was answered
    UNIQUE (tenant, identity)
) STRICT;

-- EVSE 0 is the station itself. A connector of 1.6 is an EVSE with connector 0.
CREATE TABLE connector (
    station         INTEGER NOT NULL,
    evse            INTEGER NOT NULL,
    connector       INTEGER NOT NULL,
    status          TEXT NOT NULL,
    error_code      TEXT,
    info            TEXT,
    vendor_id       TEXT,
    vendor_error    TEXT,
    at              TEXT,
    at_us           INTEGER NOT NULL,
    received_ms     INTEGER NOT NULL,
    PRIMARY KEY (station, evse, connector)
) STRICT, WITHOUT ROWID;

CREATE TABLE status_change (
    station         INTEGER NOT NULL,
    at_us           INTEGER NOT NULL,
    evse            INTEGER NOT NULL,
    connector       INTEGER NOT NULL,
    status          TEXT NOT NULL,
    error_code      TEXT NOT NULL,
    PRIMARY KEY (station, at_us, evse, connector, status, error_code)
) STRICT, WITHOUT ROWID;

CREATE TABLE counter (
    name            TEXT PRIMARY KEY,
    value           INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE charge (
    id              INTEGER PRIMARY KEY,   -- 1.6: the transactionId
    station         INTEGER NOT NULL,
    remote_id       TEXT,                  -- 2.x: the station's own transactionId
    evse            INTEGER,
    connector       INTEGER,
    token           TEXT,
    token_type      TEXT,
    token_seq       INTEGER,               -- 2.x: the event that named the token
    start_at        TEXT,
    start_us        INTEGER,
    start_wh        TEXT,
    stop_at         TEXT,
    stop_us         INTEGER,
    stop_wh         TEXT,
    stop_reason     TEXT,
    stop_token      TEXT,
    reservation     INTEGER,
    remote_start    INTEGER,
    state           TEXT,                  -- 2.x: chargingState of the latest event
    state_seq       INTEGER,               -- and which event that was
    ended           INTEGER NOT NULL DEFAULT 0,
    authorized      TEXT,                  -- the status that answered the start
    answer          TEXT,                  -- what answered the start, for its repeats
    stop_answer     TEXT,
    opened_ms       INTEGER NOT NULL,
    closed_ms       INTEGER
) STRICT;
CREATE INDEX charge_by_start ON charge (station, start_us) WHERE remote_id IS NULL;
CREATE UNIQUE INDEX charge_by_remote_id ON charge (station, remote_id) WHERE remote_id IS NOT NULL;
CREATE INDEX charge_running ON charge (token COLLATE NOCASE) WHERE ended = 0;
CREATE INDEX charge_open ON charge (station) WHERE ended = 0;
CREATE INDEX charge_by_opening ON charge (opened_ms);

-- StopTransactions that did not become the end of a transaction: those without one, and those that differ from the
-- one that did.
CREATE TABLE odd_stop (
    station         INTEGER NOT NULL,
    claimed         INTEGER NOT NULL,      -- the transactionId in it
    content         TEXT NOT NULL,         -- what it said, as a JSON object
    role            TEXT NOT NULL,         -- orphan or variant
    candidate       INTEGER,               -- an orphan's likely transaction, for whoever settles it
    answer          TEXT NOT NULL,
    received_ms     INTEGER NOT NULL,
    PRIMARY KEY (station, claimed, content)
) STRICT, WITHOUT ROWID;

CREATE TABLE charge_event (
    charge          INTEGER NOT NULL,
    seq             INTEGER NOT NULL,
    variant         INTEGER NOT NULL,      -- 0; higher for other content under the same number
    kind            TEXT NOT NULL,
    at              TEXT NOT NULL,
    at_us           INTEGER NOT NULL,
    offline         INTEGER NOT NULL,
    content         TEXT NOT NULL,         -- all but `offline` and the readings, as a JSON object
    answer          TEXT NOT NULL,
    received_ms     INTEGER NOT NULL,
    PRIMARY KEY (charge, seq, variant)
) STRICT, WITHOUT ROWID;

-- What events say of a transaction beyond that, member by member as JSON text: the value of the highest number.
CREATE TABLE charge_detail (
    charge          INTEGER NOT NULL,
    name            TEXT NOT NULL,
    seq             INTEGER NOT NULL,
    value           TEXT NOT NULL,
    PRIMARY KEY (charge, name)
) STRICT, WITHOUT ROWID;

-- One row per meterValue element; `charge` 0 where there is no transaction, and the number that the station said where
-- there is none of that number.
-- A table with row numbers, so that what comes together is written together: samples of several kilobytes in the leaves
-- of a tree ordered by transaction would spread each commit over as many pages as it has calls, and overflow them.
CREATE TABLE reading (
    id              INTEGER PRIMARY KEY,
    station         INTEGER NOT NULL,
    charge          INTEGER NOT NULL,
    at_us           INTEGER NOT NULL,
    evse            INTEGER NOT NULL,
    at              TEXT NOT NULL,
    energy_wh       TEXT,                  -- Energy.Active.Import.Register over all phases, if it is among them
    samples         TEXT NOT NULL          -- a JSON array of sampledValue objects
) STRICT;
-- The keys of readings, which follow later than these (`books/reading_key.rs`): of those up to the number in `counter`.
-- PostgreSQL has an index instead.
CREATE TABLE reading_key (
    station         INTEGER NOT NULL,
    charge          INTEGER NOT NULL,
    at_us           INTEGER NOT NULL,
    evse            INTEGER NOT NULL,
    reading         INTEGER NOT NULL,
    PRIMARY KEY (station, charge, at_us, evse)
) STRICT, WITHOUT ROWID;
INSERT INTO counter (name, value) VALUES ('readings_with_key', 0);
-- Readings as they are found: by station and transaction, and in order of time.
CREATE VIEW known_reading AS
    SELECT key.station, key.charge, key.at_us, key.evse, reading.id, reading.at, reading.energy_wh, reading.samples
    FROM reading_key AS key CROSS JOIN reading WHERE reading.id = key.reading
    UNION ALL
    SELECT station, charge, at_us, evse, id, at, energy_wh, samples
    FROM reading WHERE id > (SELECT value FROM counter WHERE name = 'readings_with_key');

CREATE TABLE token (
    tenant          TEXT NOT NULL,
    token           TEXT NOT NULL COLLATE NOCASE,
    status          TEXT NOT NULL,
    parent          TEXT,                  -- the group
    expiry_ms       INTEGER,
    type            TEXT,                  -- 2.x: the only type that it is valid in; null: any
    changed         INTEGER NOT NULL,      -- which change of the tenant's tags this was
    PRIMARY KEY (tenant, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX token_accepted ON token (tenant) WHERE status = 'Accepted';
CREATE INDEX token_by_change ON token (tenant, changed);

-- Notifications that only need to be kept, as they came. `natural_key` recognises a repeat; null where nothing can.
CREATE TABLE notice (
    id              INTEGER PRIMARY KEY,
    station         INTEGER NOT NULL,
    action          TEXT NOT NULL,
    natural_key     TEXT,
    payload         TEXT NOT NULL,
    received_ms     INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX notice_natural ON notice (station, action, natural_key) WHERE natural_key IS NOT NULL;

-- Answers that come in parts. `part` is the seqNo, or a digest where the message has none.
CREATE TABLE report_part (
    station         INTEGER NOT NULL,
    action          TEXT NOT NULL,
    request         INTEGER NOT NULL,
    part            INTEGER NOT NULL,
    last            INTEGER NOT NULL,
    payload         TEXT NOT NULL,
    received_ms     INTEGER NOT NULL,
    PRIMARY KEY (station, action, request, part)
) STRICT, WITHOUT ROWID;

CREATE TABLE alarm (
    id              INTEGER PRIMARY KEY,
    station         INTEGER NOT NULL,
    kind            TEXT NOT NULL,
    subject         TEXT NOT NULL,
    detail          TEXT NOT NULL,
    first_ms        INTEGER NOT NULL,
    last_ms         INTEGER NOT NULL,
    count           INTEGER NOT NULL DEFAULT 1,
    UNIQUE (station, kind, subject)
) STRICT;

CREATE TABLE warning (
    station         INTEGER NOT NULL,
    action          TEXT NOT NULL,
    pointer         TEXT NOT NULL,         -- array positions as *
    kind            TEXT NOT NULL,
    expected        TEXT NOT NULL,
    first_ms        INTEGER NOT NULL,
    last_ms         INTEGER NOT NULL,
    count           INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (station, action, pointer, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE unreadable (
    id              INTEGER PRIMARY KEY,
    station         INTEGER NOT NULL,
    action          TEXT NOT NULL,
    digest          INTEGER NOT NULL,      -- of the payload, to find a repeat
    payload         TEXT NOT NULL,
    violations      TEXT NOT NULL,
    answer          TEXT NOT NULL,
    received_ms     INTEGER NOT NULL
) STRICT;
CREATE INDEX unreadable_by_digest ON unreadable (station, digest);
