//! What the drivers of bus, directory and books say against their settings, without reaching anything.

use super::{bus, directory, processing};
use crate::{
    exit::Failure,
    settings::{BusPlace, DirectoryPlace, Fault, Role, Settings},
};
use switchboard_central::Database;

/// What can never work in this role: a parameter that a driver does not know, a file of certificates that is not there.
/// Nothing is connected to, as nothing that drivers begin comes to its turn.
pub(crate) fn rehearse(role: Role, settings: &Settings) -> Result<Vec<Fault>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inside = runtime.enter();
    let mut faults = Vec::new();
    let mut tried = |place: &str, why: Option<anyhow::Error>| {
        faults.extend(why.map(|why| Fault::new(place, format!("{why:#}"))));
    };
    if matches!(settings.bus, BusPlace::Broker(..)) {
        tried("bus", bus::open(settings, &"check-config".into(), None).err().map(|failure| failure.error));
    }
    if !matches!(settings.directory_place(), DirectoryPlace::Sqlite(_)) {
        tried("directory", directory::server(settings).err().map(|failure| failure.error));
    }
    if role.has_processing()
        && let Database::Postgres(addresses) = processing::books(settings)
    {
        let wrong = addresses.iter().find_map(|address| address.resolve().err());
        tried("database", wrong.map(|why| anyhow::Error::from(why).context(settings.database_place())));
    }
    drop(inside);
    Ok(faults)
}
