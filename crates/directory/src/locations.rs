//! A directory as what finds stations for those who send commands.

#![expect(clippy::disallowed_methods, reason = "who sends a command has no clock of its own to pass")]

use crate::{Directory, DirectoryError, Enqueued, OutboxEntry, OutboxState, StationKey};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use switchboard_bus::OutcomeKind;
use switchboard_bus::command::{Keeping, Kept, LocateError, Locator, Stored};
use switchboard_rpc::StationId;

/// Finds stations, and keeps commands, in a directory. The name of a gateway is that of its inbox.
#[derive(Clone, Debug)]
pub struct Locations(Arc<dyn Directory>);

impl Locations {
    /// In this directory.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>) -> Self {
        Self(directory)
    }
}

impl Locator for Locations {
    fn locate<'a>(
        &'a self,
        tenant: &'a ByteString,
        station: &'a StationId,
    ) -> BoxFuture<'a, Result<Option<ByteString>, LocateError>> {
        Box::pin(async move {
            let location = self.0.locate(&key(tenant, station), now_ms()).await.map_err(locate_error)?;
            Ok(location.map(|location| location.connection.gateway))
        })
    }

    fn keep(&self, command: Stored) -> BoxFuture<'_, Result<Keeping, LocateError>> {
        let time_to_live = i64::try_from(command.time_to_live.as_millis()).unwrap_or(i64::MAX);
        let entry = OutboxEntry {
            id: command.id,
            key: StationKey { tenant: command.tenant, station: command.station },
            action: command.action,
            payload: command.payload,
            lane: command.lane,
            timeout: command.timeout,
            expires_ms: now_ms().saturating_add(time_to_live),
            reply_to: Some(command.reply_to),
            context: command.context,
            state: OutboxState::Waiting,
        };
        Box::pin(async move {
            Ok(match self.0.outbox_put(entry).await.map_err(locate_error)? {
                Enqueued::Fresh => Keeping::Fresh,
                Enqueued::Repeat(state) => keeping(state),
            })
        })
    }

    fn kept<'a>(
        &'a self,
        tenant: &'a ByteString,
        station: &'a StationId,
        id: &'a ByteString,
    ) -> BoxFuture<'a, Result<Option<Kept>, LocateError>> {
        Box::pin(async move {
            let entry = self.0.outbox_get(&key(tenant, station), id).await.map_err(locate_error)?;
            Ok(entry.map(|entry| Kept {
                action: entry.action,
                payload: entry.payload,
                keeping: keeping(entry.state),
            }))
        })
    }

    fn withdraw<'a>(
        &'a self,
        tenant: &'a ByteString,
        station: &'a StationId,
        id: &'a ByteString,
        outcome: OutcomeKind,
    ) -> BoxFuture<'a, Result<bool, LocateError>> {
        Box::pin(async move {
            let key = key(tenant, station);
            // Only one can take it from waiting to being sent. No connection has generation 0, so that nobody sends
            // what is taken here, and a crash in between leaves it to the sweep.
            if !self.0.outbox_sending(&key, id, 0).await.map_err(locate_error)? {
                return Ok(false);
            }
            self.0.outbox_end(&key, id, outcome, Bytes::new(), now_ms()).await.map_err(locate_error)?;
            Ok(true)
        })
    }
}

fn keeping(state: OutboxState) -> Keeping {
    match state {
        OutboxState::Waiting | OutboxState::Sending { .. } => Keeping::UnderWay,
        OutboxState::Ended { outcome, frame } => Keeping::Ended { outcome, frame },
    }
}

fn key(tenant: &ByteString, station: &StationId) -> StationKey {
    StationKey { tenant: tenant.clone(), station: station.clone() }
}

fn locate_error(error: DirectoryError) -> LocateError {
    LocateError(Box::new(error))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
