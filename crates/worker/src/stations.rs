//! Stations as whoever serves people or timers needs them: by their names, without a call of theirs.

use bytestring::ByteString;
use std::{fmt, sync::Arc};
use switchboard_router::{Caller, Context, Station};
use switchboard_rpc::{StationId, Version};

/// The way to all stations, wherever they are connected. Clones are the same; it goes on when its worker has stopped.
///
/// ```
/// # use switchboard_rpc::{StationId, Version};
/// # use switchboard_messages::v16;
/// # async fn stop(worker: &switchboard_worker::Worker) -> Result<(), Box<dyn std::error::Error>> {
/// let station = worker.stations().station("default", StationId::new("CP001", 48)?, Version::V16);
/// let answer = station.call(v16::RemoteStopTransactionRequest::new(7)).await?;
/// # let _: v16::RemoteStopTransactionResponse = answer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Stations(Option<Arc<dyn Caller>>);

impl Stations {
    pub(crate) fn new(caller: Option<Arc<dyn Caller>>) -> Self {
        Self(caller)
    }

    /// A station of this name, which need not be connected: what becomes of a call says whether it is. The version is
    /// the one in which it is called; without [`Config::commander`](crate::Config::commander) there is no way to it.
    #[must_use]
    pub fn station(&self, tenant: impl Into<ByteString>, id: StationId, version: Version) -> Station {
        let mut context = Context::new(id, version);
        context.tenant = tenant.into();
        context.caller.clone_from(&self.0);
        Station::of(&context)
    }
}

impl fmt::Debug for Stations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stations").field("reachable", &self.0.is_some()).finish()
    }
}
