//! The central system's way to stations: the directory tells where they are, the commander calls them.

use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use switchboard_bus::{
    Commander,
    command::{CommandError, Options, Outcome as Reported},
};
use switchboard_central::{Line, Order};
use switchboard_directory::{Directory, StationKey};
use switchboard_router::Outcome;
use switchboard_rpc::{StationId, Version};

/// The way to stations.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) commander: Commander,
    pub(crate) directory: Arc<dyn Directory>,
}

impl Line for Way {
    fn spoken<'a>(
        &'a self,
        tenant: &'a ByteString,
        station: &'a StationId,
    ) -> BoxFuture<'a, Result<Option<Version>, String>> {
        Box::pin(async move {
            let key = StationKey { tenant: tenant.clone(), station: station.clone() };
            let location = self.directory.locate(&key, super::store::now_ms()).await;
            Ok(location.map_err(|error| error.to_string())?.map(|location| location.version))
        })
    }

    fn call(&self, order: Order) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            let options = Options { timeout: order.timeout, key: order.key, ..Options::default() };
            let sent = self
                .commander
                .command(&order.tenant, &order.station, &order.action, order.payload, options)
                .await;
            match sent {
                Ok(Reported::Answered(payload)) => Outcome::Answered(payload),
                Ok(Reported::Refused { code, description, details }) => {
                    Outcome::Refused { code, description, details }
                }
                Ok(Reported::Offline) => Outcome::Offline,
                Ok(Reported::Busy) => Outcome::Busy,
                Ok(Reported::Expired) => Outcome::Expired,
                Ok(Reported::Cancelled) => Outcome::Cancelled,
                Ok(Reported::NotSent) => Outcome::NotSent,
                Ok(Reported::Unknown) => Outcome::Unknown,
                // A crash came between an attempt and its outcome, and what is owed is another thing since: nobody
                // knows whether the station acted on the first.
                Err(CommandError::KeyTaken { .. }) => Outcome::Unknown,
                Err(error) => {
                    // Whatever it was, the command went nowhere.
                    tracing::warn!(
                        station = %order.station, error = &error as &dyn std::error::Error, "a command was not sent"
                    );
                    Outcome::NotSent
                }
            }
        })
    }
}
