//! A directory for tests of commands.

use crate::OutcomeKind;
use crate::command::{Keeping, Kept, LocateError, Locator, Stored};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::fmt;
use switchboard_rpc::StationId;

/// Knows at which gateway stations are by a function, and keeps nothing.
pub struct Whereabouts<F>(pub F);

impl<F> fmt::Debug for Whereabouts<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Whereabouts")
    }
}

impl<F: Fn(&StationId) -> Option<ByteString> + Send + Sync + 'static> Locator for Whereabouts<F> {
    fn locate<'a>(
        &'a self,
        _: &'a ByteString,
        station: &'a StationId,
    ) -> BoxFuture<'a, Result<Option<ByteString>, LocateError>> {
        Box::pin(std::future::ready(Ok((self.0)(station))))
    }

    fn keep(&self, _: Stored) -> BoxFuture<'_, Result<Keeping, LocateError>> {
        Box::pin(std::future::ready(Ok(Keeping::Fresh)))
    }

    fn kept<'a>(
        &'a self,
        _: &'a ByteString,
        _: &'a StationId,
        _: &'a ByteString,
    ) -> BoxFuture<'a, Result<Option<Kept>, LocateError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn withdraw<'a>(
        &'a self,
        _: &'a ByteString,
        _: &'a StationId,
        _: &'a ByteString,
        _: OutcomeKind,
    ) -> BoxFuture<'a, Result<bool, LocateError>> {
        Box::pin(std::future::ready(Ok(false)))
    }
}
