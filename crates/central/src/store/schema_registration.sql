
-- How a station's BootNotifications are answered, where that is not as configured. It need not have said anything yet.
CREATE TABLE boot_policy (
    tenant          TEXT NOT NULL,
    identity        TEXT NOT NULL,
    registration    TEXT NOT NULL,
    interval_s      INTEGER,               -- null: as configured
    PRIMARY KEY (tenant, identity)
) STRICT, WITHOUT ROWID;

-- What stations were asked to send (TriggerMessage): let through until then although they are not accepted yet.
CREATE TABLE triggered (
    station         INTEGER NOT NULL,
    action          TEXT NOT NULL,
    until_ms        INTEGER NOT NULL,
    PRIMARY KEY (station, action)
) STRICT, WITHOUT ROWID;
