//! The gateway as a whole.

use crate::{
    config::Config,
    drain, housekeeping,
    inbox::{Ear, Exchange, Inbox},
    journal, listen,
    metrics::Metrics,
    restore,
    shared::{Shared, WallClock},
    tap::Tap,
};
use bytestring::ByteString;
use prometheus_client::registry::Registry;
use socket2::{Domain, Protocol, Socket, Type};
use std::{io, net::SocketAddr, num::NonZeroU32, sync::Arc};
use switchboard_bus::{Bus, Consumer, SubscribeError, Subscription, Topic};
use switchboard_directory::{
    Directory, DirectoryError,
    password::{Verifier, VerifyError},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Holds the sockets of stations, hands their calls to a bus and commands to them. Clones are the same gateway.
#[derive(Clone, Debug)]
pub struct Gateway(Arc<Shared>);

/// Why a gateway could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no randomness to be had.
    #[error("passwords could not be checked")]
    Passwords(#[source] VerifyError),
    /// The address cannot be listened to.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bus did not give the gateway its inbox.
    #[error("the gateway got no inbox on the bus")]
    Subscribe(#[source] SubscribeError),
    /// The directory did not take the gateway's lease.
    #[error("the directory did not take the gateway")]
    Directory(#[source] DirectoryError),
}

impl Gateway {
    /// A gateway that does nothing yet. Its metrics are registered under `switchboard_gateway_…`.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new(
        config: Config,
        bus: Arc<dyn Bus>,
        directory: Arc<dyn Directory>,
        registry: &mut Registry,
    ) -> Result<Self, StartError> {
        Self::with_clock(config, bus, directory, registry, WallClock::system())
    }

    /// The same with a wall clock of the caller's. Deadlines never follow it.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_clock(
        config: Config,
        bus: Arc<dyn Bus>,
        directory: Arc<dyn Directory>,
        registry: &mut Registry,
        wall: WallClock,
    ) -> Result<Self, StartError> {
        let verifier = Verifier::new().map_err(StartError::Passwords)?;
        let metrics = Metrics::register(registry);
        Ok(Self(Arc::new(Shared::new(config, bus, directory, verifier, metrics, wall))))
    }

    /// Listens on the configured address. Stations that connect wait until [`serve`](Self::serve) is called.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(&self) -> Result<TcpListener, StartError> {
        let address = self.0.config.listen;
        listen_on(address).map_err(|source| StartError::Listen { address, source })
    }

    /// Serves stations until `stop` is cancelled and the last connection has been drained.
    ///
    /// Upgrades during the drain get 503, so that the listener stays with us until the end.
    ///
    /// # Errors
    /// When the bus or the directory does not take the gateway.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> Result<(), StartError> {
        let shared = &self.0;
        // Ends what runs beside the connections, after them; also when this future is dropped.
        let end = CancellationToken::new();
        let _guard = end.clone().drop_guard();
        let inbox: Arc<dyn Consumer> = Arc::new(Inbox(Arc::downgrade(shared)));
        let ear: Arc<dyn Consumer> = Arc::new(Ear(Arc::downgrade(shared)));
        let exchange: Arc<dyn Consumer> = Arc::new(Exchange(Arc::downgrade(shared)));
        let topics = [
            (Topic::Inbox(shared.name.clone()), inbox, NonZeroU32::MAX),
            (Topic::Presence, ear, NonZeroU32::MAX),
            (Topic::Commands, exchange, Exchange::IN_HAND_MAX),
        ];
        let mut subscribed = Vec::with_capacity(topics.len());
        for (topic, consumer, in_hand_max) in topics {
            let subscription = Subscription { topic, in_hand_max };
            subscribed
                .push(shared.bus.subscribe(subscription, consumer).await.map_err(StartError::Subscribe)?);
        }
        let now_ms = shared.clock.wall_ms(crate::shared::now());
        let until_ms =
            now_ms.saturating_add(i64::try_from(shared.config.lease.as_millis()).unwrap_or(i64::MAX));
        shared.directory.gateway_lease(&shared.name, until_ms).await.map_err(StartError::Directory)?;
        shared.begun.cancel();
        let beside = tokio_util::task::TaskTracker::new();
        beside.spawn(housekeeping::keep_lease(Arc::clone(shared), end.clone()));
        beside.spawn(housekeeping::tick(Arc::clone(shared), end.clone()));
        beside.spawn(housekeeping::watch_bus(Arc::clone(shared), end.clone()));
        beside.spawn(housekeeping::watch_workers(Arc::clone(shared), end.clone()));
        beside.spawn(restore::sweep(Arc::clone(shared), end.clone()));
        beside.spawn(journal::work_off(Arc::clone(shared), end.clone()));
        let accepting = beside.spawn(listen::accept(Arc::clone(shared), listener, end.clone()));
        stop.cancelled().await;
        drain::drain(shared).await;
        drop(accepting);
        end.cancel();
        beside.close();
        beside.wait().await;
        drop(subscribed);
        Ok(())
    }

    /// Waits until bus and directory have taken the gateway, which [`serve`](Self::serve) asks them to.
    pub async fn begun(&self) {
        self.0.begun.cancelled().await;
    }

    /// The name of this gateway on the bus and in the directory.
    #[must_use]
    pub fn name(&self) -> &ByteString {
        &self.0.name
    }

    /// Where the live traffic can be watched.
    #[must_use]
    pub fn tap(&self) -> &Tap {
        &self.0.tap
    }

    /// What time it is, in milliseconds since 1970, as this gateway writes it into envelopes.
    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        self.0.clock.wall_ms(crate::shared::now())
    }

    /// How many stations are connected here.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.registry.len()
    }

    /// How many workers give signs of life.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.0.workers.alive(crate::shared::now())
    }

    /// How long nobody has taken calls of stations; zero while somebody does.
    #[must_use]
    pub fn processing_away_for(&self) -> std::time::Duration {
        self.0.processing_away_for(crate::shared::now())
    }

    /// How many calls wait in the journal.
    #[must_use]
    pub fn journal_entries(&self) -> u64 {
        self.0.journal.entries()
    }
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // After a restart the port is free although old connections linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // A storm of reconnections waits in the kernel rather than being refused. It takes no more than `net.core.somaxconn`.
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

const BACKLOG: i32 = 65_535;
