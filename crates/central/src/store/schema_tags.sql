-- Local lists of tags at stations. The books count changes of a tenant's tags (`counter`, and `token.changed`), and a
-- list that holds all changes up to one of them has that number as its version. So a list is brought up to date in
-- parts, each of which is a state that the books once were in.

-- Tags that were removed while some station had a list.
CREATE TABLE token_gone (
    tenant          TEXT NOT NULL,
    token           TEXT NOT NULL COLLATE NOCASE,
    type            TEXT,
    changed         INTEGER NOT NULL,
    PRIMARY KEY (tenant, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX token_gone_by_change ON token_gone (tenant, changed);

CREATE TABLE local_list (
    tenant          TEXT NOT NULL,
    station         TEXT NOT NULL,
    wanted          INTEGER NOT NULL,      -- 0: it is being emptied
    sent            INTEGER,               -- the version that the station took last from us; null: send everything
    reported        INTEGER,               -- the version that it told when it was asked last
    asked_ms        INTEGER,               -- when that was; null: to be asked before anything is sent
    part_max        INTEGER,               -- how many tags it takes in one message
    list_max        INTEGER,               -- and in all
    limits_ms       INTEGER,               -- when it was asked for these; null: to be asked
    sending         INTEGER,               -- the version that is being sent
    state           TEXT NOT NULL,         -- owed, applied, failed
    reason          TEXT,
    changed_ms      INTEGER NOT NULL,
    PRIMARY KEY (tenant, station)
) STRICT, WITHOUT ROWID;
