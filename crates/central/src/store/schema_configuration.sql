-- What stations shall be set to, and what they report. Names are keys of 1.6 (`HeartbeatInterval`), or
-- `Component/Variable` of 2.x.
CREATE TABLE desired (
    tenant          TEXT NOT NULL,
    station         TEXT NOT NULL,         -- empty: every station for which nothing else is desired
    name            TEXT NOT NULL COLLATE NOCASE,
    value           TEXT NOT NULL,
    reboot          INTEGER NOT NULL,      -- whether the station is reset once if the value takes effect only then
    set_ms          INTEGER NOT NULL,
    PRIMARY KEY (tenant, station, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE setting (
    tenant          TEXT NOT NULL,
    station         TEXT NOT NULL,
    name            TEXT NOT NULL COLLATE NOCASE,
    value           TEXT,                  -- as the station told it last; null: it told none
    readonly        INTEGER,
    read_ms         INTEGER,               -- when that was; null: to be asked
    asked           TEXT,                  -- the value that it was asked to take last
    answer          TEXT,                  -- what it answered to that; null: nothing yet
    reason          TEXT,
    reset           TEXT,                  -- the value for whose sake the station was reset
    phase           INTEGER NOT NULL DEFAULT 0, -- part of the call that is under way: 1 set, 2 read
    PRIMARY KEY (tenant, station, name)
) STRICT, WITHOUT ROWID;
