-- Work owed to stations: calls from our side that are sent, and sent again, until they have an outcome. A row stays
-- after its end to show it, until the same work is owed again or the row is old.
CREATE TABLE duty (
    id              INTEGER PRIMARY KEY,
    tenant          TEXT NOT NULL,
    station         TEXT NOT NULL,         -- the identity; the station need not have been here yet
    kind            TEXT NOT NULL,         -- what makes the call and judges its outcome
    key             TEXT NOT NULL,         -- names it among the station's duties of its kind
    version         TEXT,                  -- that the payload is written in; null: the kind makes the call when it is sent
    action          TEXT,
    payload         TEXT,
    context         TEXT NOT NULL,         -- whatever the kind wants to remember
    repeatable      INTEGER NOT NULL,      -- whether it may be sent again when nobody knows whether it had its effect
    timeout_ms      INTEGER NOT NULL,
    not_before_ms   INTEGER NOT NULL,      -- as whoever owes it said
    due_ms          INTEGER NOT NULL,      -- the next attempt
    expires_ms      INTEGER,
    attempts_max    INTEGER,
    state           TEXT NOT NULL,
    revision        INTEGER NOT NULL,      -- rises when the same work is owed anew while it is under way
    attempts        INTEGER NOT NULL,      -- how often it was handed over
    failures        INTEGER NOT NULL,      -- how often in a row that was in vain
    owner           TEXT,                  -- the process that is sending it, or did last
    outcome         TEXT,                  -- of the last attempt
    reason          TEXT,                  -- in words
    owed_ms         INTEGER NOT NULL,
    changed_ms      INTEGER NOT NULL,
    UNIQUE (tenant, station, kind, key)
) STRICT;
CREATE INDEX duty_open ON duty (tenant, station, due_ms) WHERE state IN ('open', 'sending');
CREATE INDEX duty_changed ON duty (changed_ms) WHERE state IN ('open', 'sending');
CREATE INDEX duty_ended ON duty (changed_ms) WHERE state NOT IN ('open', 'sending');
