//! What all processes of an installation have in common.

use crate::fault::{Fault, damaged};
use crate::session::Session;
use bytestring::ByteString;
use std::sync::Arc;

/// What holds under this name: this value, unless there was another before.
pub(crate) async fn agree(
    session: Arc<Session>,
    name: ByteString,
    value: ByteString,
) -> Result<String, Fault> {
    let rows = session.rows(AGREE, &[&&*name, &&*value]).await?;
    let Some(row) = rows.first() else { return Err(damaged("an agreement without a value")) };
    Ok(row.try_get(0)?)
}

/// All that a connection is to prepare.
pub(crate) const ALL: &[&str] = &[AGREE];

// Writing what is there already is what gives it out, also if somebody else writes it at this moment.
const AGREE: &str = "INSERT INTO agreement AS a (name, value) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET value = a.value RETURNING value";
