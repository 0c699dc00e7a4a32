//! The bus over RabbitMQ: AMQP 0-9-1 with the addresses of `docs/contract.md`. It knows nothing of OCPP, and stores
//! nothing: what must not be lost is held by its gateway until the answer is there. The entry is [`Amqp::connect`].
//!
//! ```no_run
//! use switchboard_bus::{Bus, Connect, State};
//! use switchboard_bus_amqp::Amqp;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Amqp::connect(Connect::to("amqp://user:password@broker/%2f?heartbeat=5"))?;
//! bus.state().wait_for(|state| *state == State::Connected).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The shape
//! Calls go to a direct exchange under their partition. Nobody owns a partition yet, and what a direct exchange cannot
//! route goes to its *alternate exchange*, a fanout to which the one queue of all workers is bound. So a worker binds once
//! and not once for each partition, which would cost the first worker after a restart a fifth of a second and a hundred of
//! them twenty; and an owner of a partition needs only to bind its queue to take that partition from the others.
//!
//! The workers' queue lasts as long as its consumers, of which the last takes it along (auto-delete). A durable queue
//! would take calls while nobody is there, and the gateway would learn of it after its patience instead of at once: the
//! call is mandatory, and without a queue it is returned. What lay in the queue at that moment is handed over again by
//! the gateways, which hold it. For the same reason nothing is durable or persistent: it would cost a sync for what
//! nobody needs, and transient queues can be declared anew when the node that they were on is gone.

mod config;
mod connect;
mod life;
mod line;
mod publish;
mod session;
mod subscribe;
mod wire;

use futures_util::future::BoxFuture;
use line::{Order, Shared};
use std::{fmt, sync::Arc};
use switchboard_bus::{
    Address, Bus, Capabilities, Connect, ConnectError, Consumer, Envelope, PublishError, State,
    SubscribeError, Subscribed, Subscription, Tells,
};
use tokio::sync::{oneshot, watch};

/// A participant on a bus that RabbitMQ carries: one connection, one task. Dropped, it disconnects.
///
/// - Calls, commands and answers are transient. A call is given to another worker within milliseconds when the connection
///   of the one that had it ends; a worker that is frozen keeps it for two and a half heartbeats.
/// - What is published waits in memory until the connection takes it, at most 16 MiB; beyond it [`PublishError::Busy`].
/// - While the broker is short of memory or disk it is [`State::Away`].
pub struct Amqp {
    shared: Arc<Shared>,
}

impl Amqp {
    /// The largest body, in bytes: half of what RabbitMQ 4 takes by default.
    pub const BODY_BYTES_MAX: usize = publish::BODY_BYTES_MAX;

    /// Begins to connect, on the tokio runtime that this is called on, and goes on trying.
    ///
    /// # Errors
    /// When it can never work.
    pub fn connect(connect: Connect) -> Result<Self, ConnectError> {
        let shared = Arc::new(Shared::new(config::Config::read(&connect)?));
        drop(connect);
        drop(tokio::spawn(life::live(Arc::clone(&shared))));
        Ok(Self { shared })
    }

    /// Says that it is closed, and asks for it.
    fn begin_close(&self) -> Option<oneshot::Receiver<()>> {
        let (told, closed) = oneshot::channel();
        let was_open = self.shared.tell(|line| {
            let was_open = std::mem::replace(&mut line.state, State::Closed) != State::Closed;
            if was_open {
                line.orders.push(Order::Close(told));
            }
            was_open
        });
        if !was_open {
            return None;
        }
        self.shared.state.send_replace(State::Closed);
        Some(closed)
    }
}

impl Bus for Amqp {
    fn publish(&self, to: Address, envelope: Envelope) -> BoxFuture<'_, Result<(), PublishError>> {
        match publish::publish(&self.shared, &to, &envelope) {
            // Takes no space, so that boxing it allocates nothing.
            Ok(()) => Box::pin(async { Ok(()) }),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn subscribe(
        &self,
        subscription: Subscription,
        consumer: Arc<dyn Consumer>,
    ) -> BoxFuture<'_, Result<Subscribed, SubscribeError>> {
        Box::pin(subscribe::subscribe(&self.shared, subscription, consumer))
    }

    fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            tells_nobody_listens: Tells::Later,
            tells_busy: Tells::Never,
            exclusive_inboxes: true,
            keeps_order: true,
            redelivers: true,
            tells_all: true,
            repeatable: true,
            body_bytes_max: Self::BODY_BYTES_MAX,
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let closed = self.begin_close();
        Box::pin(async move {
            if let Some(closed) = closed {
                // An error is the task that has ended: it is closed then, too.
                drop(closed.await);
            }
        })
    }
}

impl Drop for Amqp {
    fn drop(&mut self) {
        drop(self.begin_close());
    }
}

impl fmt::Debug for Amqp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broker = self.shared.config.places.iter().map(|place| place.endpoint.to_string());
        formatter
            .debug_struct("Amqp")
            .field("broker", &broker.collect::<Vec<_>>())
            .field("state", &*self.shared.state.borrow())
            .finish_non_exhaustive()
    }
}
