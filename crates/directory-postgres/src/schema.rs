//! The schema: made at the first start, by one process; recognised by its version ever after.

use crate::fault::{Fault, damaged};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Sees to it that the schema is there, and the present one.
pub(crate) async fn prepare(client: &Client, schema: &str) -> Result<(), Fault> {
    // Its name was checked to be one that needs no quotes.
    client.batch_execute(&format!("SET search_path = {schema}")).await?;
    let found = match version(client).await? {
        Some(found) => found,
        None => {
            make(client, schema).await?;
            version(client).await?.unwrap_or(0)
        }
    };
    if found == VERSION {
        return Ok(());
    }
    let what = if found > VERSION { "start the newer program" } else { "start it with an empty schema" };
    Err(damaged(format!(
        "the schema {schema} of the database has version {found}, and this program knows {VERSION}: {what}"
    )))
}

/// None if there is no schema.
async fn version(client: &Client) -> Result<Option<i32>, Fault> {
    match client.query_opt("SELECT version FROM directory_schema", &[]).await {
        Ok(row) => Ok(row.map(|row| row.try_get(0)).transpose()?),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whoever comes first makes it, the others wait.
async fn make(client: &Client, schema: &str) -> Result<(), Fault> {
    // An error leaves the transaction to the end of the connection, which comes at once.
    client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await?;
    if version_there(client, schema).await? {
        client.batch_execute("ROLLBACK").await?;
        return Ok(());
    }
    // Asked first: one that is there may be all that this user may create things in, and `IF NOT EXISTS` wants the right
    // to make one in any case.
    let there = client.query_one("SELECT to_regnamespace($1::text) IS NOT NULL", &[&schema]).await?;
    let create = if there.try_get(0)? { String::new() } else { format!("CREATE SCHEMA {schema};") };
    client.batch_execute(&format!("{create} {TABLES}; COMMIT")).await?;
    tracing::info!(schema, "a new directory begins: no station is registered in it");
    Ok(())
}

/// An error within the transaction would end it, so this is asked without one.
async fn version_there(client: &Client, schema: &str) -> Result<bool, Fault> {
    let name = format!("{schema}.directory_schema");
    Ok(client.query_one("SELECT to_regclass($1::text) IS NOT NULL", &[&name]).await?.try_get(0)?)
}

const VERSION: i32 = 1;
/// "SwDi", whatever the schema: it is held for a moment only.
const LOCK: i64 = 0x5377_4469;

/// Identities are compared byte by byte, as everywhere else.
const TABLES: &str = r#"
CREATE TABLE directory_schema (version integer NOT NULL);
INSERT INTO directory_schema VALUES (1);

-- Room on each page, so that a station comes and goes without touching an index.
CREATE TABLE station (
    tenant text COLLATE "C" NOT NULL, station text COLLATE "C" NOT NULL,
    generation bigint NOT NULL DEFAULT 0, gateway text COLLATE "C",
    previous_gateway text COLLATE "C", previous_generation bigint,
    version text, compressed boolean, since_ms bigint, seen_ms bigint,
    registration text, registered_ms bigint, password text,
    PRIMARY KEY (tenant, station)
) WITH (fillfactor = 70);
CREATE INDEX station_registered ON station (tenant) WHERE registered_ms IS NOT NULL;

CREATE TABLE gateway (name text COLLATE "C" PRIMARY KEY, until_ms bigint NOT NULL) WITH (fillfactor = 50);

-- What all processes of an installation have in common.
CREATE TABLE agreement (name text COLLATE "C" PRIMARY KEY, value text NOT NULL);

-- Who does what only one process may do at a time.
CREATE TABLE turn (name text COLLATE "C" PRIMARY KEY, owner text NOT NULL, until_ms bigint NOT NULL);

-- state: 0 waiting, 1 sending, 2 ended. lane: 0 urgent, 1 normal.
CREATE TABLE outbox (
    place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL, station text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL,
    action text NOT NULL, payload bytea NOT NULL, lane smallint NOT NULL,
    timeout_ms bigint NOT NULL, expires_ms bigint NOT NULL, reply_to text, context text,
    state smallint NOT NULL, generation bigint, outcome text, frame bytea, ended_ms bigint,
    waits_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (tenant, station, id)
);
CREATE INDEX outbox_waiting ON outbox (tenant, station, lane, place) WHERE state = 0;
CREATE INDEX outbox_expiring ON outbox (expires_ms) WHERE state = 0;
CREATE INDEX outbox_lately ON outbox (waits_since) WHERE state = 0;
CREATE INDEX outbox_sending ON outbox (place) WHERE state = 1;
CREATE INDEX outbox_ended ON outbox (ended_ms) WHERE state = 2;

-- A call has one key, so that one which was sent twice, as a connection was lost, is there once.
CREATE TABLE journal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL, station text COLLATE "C" NOT NULL, version text NOT NULL,
    gateway text NOT NULL, generation bigint NOT NULL, seq bigint NOT NULL,
    action text NOT NULL, frame bytea NOT NULL, received_ms bigint NOT NULL,
    UNIQUE (tenant, station, generation, seq)
);
CREATE INDEX journal_of_station ON journal (tenant, station, id);

-- Calls of the journal that processing refused, under the ids that they had there.
CREATE TABLE journal_refused (
    id bigint PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL, station text COLLATE "C" NOT NULL, version text NOT NULL,
    gateway text NOT NULL, generation bigint NOT NULL, seq bigint NOT NULL,
    action text NOT NULL, frame bytea NOT NULL, received_ms bigint NOT NULL,
    why text NOT NULL, refused_ms bigint NOT NULL
)"#;
