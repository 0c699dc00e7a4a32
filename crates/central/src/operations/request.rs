//! How a request becomes a row and a duty.

use super::{Operation, checked_call};
use crate::books::Ledger;
use crate::central::Central;
use crate::duty::{self, NewDuty};
use crate::store::StoreError;
use switchboard_rpc::StationId;

/// Why a request was not taken.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// No message of this station ever came.
    #[error("{0} was never here; the name is the last part of the URL that it connects to")]
    UnknownStation(String),
    /// What is asked for cannot be done, and why.
    #[error("{0}")]
    Invalid(String),
    /// The books cannot be read or written.
    #[error("the books failed")]
    Store(#[from] StoreError),
}

/// A duty to be laid down for a request.
pub(super) struct Owed<C> {
    pub(super) key: String,
    pub(super) context: C,
    pub(super) repeatable: bool,
    pub(super) expires_ms: Option<i64>,
}

/// What the work of a request gives: its result, or why it cannot be done.
pub(super) type Work<R> = Result<Result<R, String>, StoreError>;

/// One station's books and duties, for a request.
pub(super) struct Desk<'t> {
    pub(super) ledger: Ledger<'t>,
    pub(super) at: duty::At<'t>,
    pub(super) tenant: &'t str,
    pub(super) station: &'t str,
}

impl Desk<'_> {
    /// Whether the station could be asked this, as far as can be told before it is asked: in the version that it spoke
    /// last. It is asked before anything is written.
    pub(super) fn check<O: Operation>(&self, context: &O::Context) -> Result<Result<(), String>, StoreError> {
        let Some(version) = self.ledger.version()? else { return Ok(Ok(())) };
        Ok(checked_call::<O>(context, version, self.at.now_ms).map(|_| ()))
    }

    /// Lays the duty down.
    pub(super) fn owe<O: Operation>(&self, owed: &Owed<O::Context>) -> Result<(), StoreError> {
        let mut duty = NewDuty::new(self.tenant, self.station, O::KIND, &owed.key);
        duty.context =
            serde_json::to_string(&owed.context).map_err(|error| StoreError::Invalid(error.to_string()))?;
        duty.repeatable = owed.repeatable;
        duty.expires_ms = owed.expires_ms;
        duty::owe(self.at, &duty)?;
        Ok(())
    }

    /// Takes a duty back that was not sent yet; whether that was so.
    pub(super) fn withdraw<O: Operation>(&self, key: &str) -> Result<bool, StoreError> {
        duty::withdraw(self.at, self.tenant, self.station, O::KIND, key)
    }
}

impl Central {
    /// Does the work of a request in one transaction, and has the attendant look at the station.
    pub(super) async fn request<R: Send + 'static>(
        &self,
        tenant: &str,
        station: &StationId,
        work: impl Fn(&Desk<'_>) -> Work<R> + Send + 'static,
    ) -> Result<R, OperationError> {
        let (owner, identity, now_ms) = (tenant.to_owned(), station.clone(), self.0.clock.now_ms());
        let done = self
            .0
            .store
            .write(move |transaction| {
                transaction.lock_station(&owner, identity.as_str())?;
                let known = Ledger::of_known(transaction, &owner, identity.as_str(), now_ms)?;
                let Some(ledger) = known else { return Ok(None) };
                let at = duty::At { db: transaction, now_ms };
                work(&Desk { ledger, at, tenant: &owner, station: identity.as_str() }).map(Some)
            })
            .await?;
        let done = done.ok_or_else(|| OperationError::UnknownStation(station.to_string()))?;
        self.nudge(&tenant.into(), station);
        done.map_err(OperationError::Invalid)
    }
}
