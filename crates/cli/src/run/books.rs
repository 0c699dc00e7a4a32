//! The central system's books as the API shows them.

use futures_util::future::BoxFuture;
use switchboard_api::{TransactionView, Transactions};
use switchboard_central::{Central, Transaction, TransactionFilter};
use switchboard_rpc::StationId;

/// The books.
#[derive(Debug)]
pub(crate) struct Books(pub(crate) Central);

impl Transactions for Books {
    fn newest<'a>(
        &'a self,
        station: Option<&'a StationId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<TransactionView>, String>> {
        Box::pin(async move {
            let mut filter = station
                .map_or_else(TransactionFilter::default, |one| TransactionFilter::of_station(one.as_str()));
            filter.limit = limit;
            let list = self.0.transactions(filter).await.map_err(|error| error.to_string())?;
            Ok(list.into_iter().map(view).collect())
        })
    }
}

fn view(one: Transaction) -> TransactionView {
    TransactionView {
        station: one.station,
        // In 1.6 the number in the books is what the station was given.
        transaction_id: one.remote_id.unwrap_or_else(|| one.id.to_string()),
        connector: one.evse,
        token: one.token.map(|token| token.as_str().to_owned()),
        ended: one.ended,
        started_ms: one.started.and_then(|moment| moment.ms),
        ended_ms: one.stopped.and_then(|moment| moment.ms),
        energy_wh: one.energy.map(|energy| energy.to_string()),
        reason: one.stop_reason,
    }
}
