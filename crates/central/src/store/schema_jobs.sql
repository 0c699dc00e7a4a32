-- Reports and the device model, firmware and log jobs, reservations, charging profiles. Runs after schema_1.

-- An answer that comes in parts, with or without our having asked for it.
CREATE TABLE report (
    station         INTEGER NOT NULL,
    action          TEXT NOT NULL,
    request         INTEGER NOT NULL,
    base            TEXT,              -- what was asked for; null: nobody here asked
    requested_ms    INTEGER,
    answer          TEXT,              -- how the station answered the request
    parts           INTEGER NOT NULL DEFAULT 0,
    bytes           INTEGER NOT NULL DEFAULT 0,
    refused         INTEGER NOT NULL DEFAULT 0,   -- parts beyond the bound, which are not kept
    last_ms         INTEGER NOT NULL,
    completed_ms    INTEGER,
    PRIMARY KEY (station, action, request)
) STRICT, WITHOUT ROWID;

-- The device model of a station of 2.x. No instance: '', no EVSE or connector: 0.
CREATE TABLE device_variable (
    station             INTEGER NOT NULL,
    component           TEXT NOT NULL COLLATE NOCASE,
    component_instance  TEXT NOT NULL COLLATE NOCASE,
    evse                INTEGER NOT NULL,
    connector           INTEGER NOT NULL,
    variable            TEXT NOT NULL COLLATE NOCASE,
    variable_instance   TEXT NOT NULL COLLATE NOCASE,
    attributes          TEXT NOT NULL, -- a JSON array, in the order Actual, Target, MinSet, MaxSet
    characteristics     TEXT,          -- a JSON object as it came
    request             INTEGER NOT NULL,
    updated_ms          INTEGER NOT NULL,
    PRIMARY KEY (station, component, component_instance, evse, connector, variable, variable_instance)
) STRICT, WITHOUT ROWID;

-- Firmware updates and log uploads. `id` is the requestId where the message has one.
CREATE TABLE job (
    id              INTEGER PRIMARY KEY,
    station         INTEGER NOT NULL,
    kind            TEXT NOT NULL,     -- firmware, log
    what            TEXT,              -- log: diagnostics, security
    url             TEXT NOT NULL,
    retries         INTEGER NOT NULL,
    phase           TEXT NOT NULL,     -- requested, unknown, accepted, running, done, failed, rejected, cancelled, replaced
    status          TEXT,              -- the station's latest word that counted
    rank            INTEGER NOT NULL DEFAULT 0,
    detail          TEXT,
    file            TEXT,              -- log: the name of the file, as the station said
    firmware_before TEXT,
    firmware_after  TEXT,
    requested_ms    INTEGER NOT NULL,
    updated_ms      INTEGER NOT NULL
) STRICT;
CREATE INDEX job_by_station ON job (station, kind, id);

-- What happened to jobs, and statuses that belong to none (`job` null).
CREATE TABLE job_step (
    id              INTEGER PRIMARY KEY,
    station         INTEGER NOT NULL,
    kind            TEXT NOT NULL,
    job             INTEGER,
    claimed         INTEGER,           -- the requestId in it
    status          TEXT NOT NULL,
    remark          TEXT,
    at_ms           INTEGER NOT NULL
) STRICT;
CREATE INDEX job_step_by_job ON job_step (job, id);
CREATE INDEX job_step_stray ON job_step (station, id) WHERE job IS NULL;

CREATE TABLE reservation (
    id              INTEGER PRIMARY KEY,
    station         INTEGER NOT NULL,
    evse            INTEGER NOT NULL,  -- 1.6: the connector; 0: any
    token           TEXT NOT NULL,
    token_type      TEXT,
    until_ms        INTEGER NOT NULL,
    state           TEXT NOT NULL,     -- requested, accepted, refused, used, expired, removed, cancelling, cancelled
    detail          TEXT,
    charge          INTEGER,
    requested_ms    INTEGER NOT NULL,
    updated_ms      INTEGER NOT NULL
) STRICT;
CREATE INDEX reservation_by_station ON reservation (station, id);

-- Charging profiles that a station shall have.
CREATE TABLE profile (
    station         INTEGER NOT NULL,
    id              INTEGER NOT NULL,  -- the chargingProfileId
    evse            INTEGER NOT NULL,
    purpose         TEXT NOT NULL,     -- station-max, tx-default, tx
    stack_level     INTEGER NOT NULL,
    txn             TEXT NOT NULL,     -- tx: the transactionId; else ''
    content         TEXT NOT NULL,     -- as in the books, in no version's form
    state           TEXT NOT NULL,     -- requested, accepted, rejected, clearing, cleared
    detail          TEXT,
    requested_ms    INTEGER NOT NULL,
    updated_ms      INTEGER NOT NULL,
    PRIMARY KEY (station, id)
) STRICT, WITHOUT ROWID;

-- And those that it reported last.
CREATE TABLE reported_profile (
    station         INTEGER NOT NULL,
    evse            INTEGER NOT NULL,
    id              INTEGER NOT NULL,
    source          TEXT NOT NULL,
    content         TEXT NOT NULL,     -- the chargingProfile object as it came
    reported_ms     INTEGER NOT NULL,
    PRIMARY KEY (station, evse, id, source)
) STRICT, WITHOUT ROWID;

-- For `since`, over all stations.
CREATE INDEX notice_by_station ON notice (station, id);
CREATE INDEX notice_by_time ON notice (received_ms);
