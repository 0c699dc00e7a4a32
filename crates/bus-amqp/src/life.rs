//! The life of the bus: connects, lets a [`session`](crate::session) run, and connects again, until it is closed.

use crate::connect::dial;
use crate::line::{Order, Shared};
use crate::session::{End, Registered, run, unless_taken};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use switchboard_bus::State;
use tokio::sync::oneshot;

/// Ends when the bus is closed, or was dropped.
pub(crate) async fn live(shared: Arc<Shared>) {
    let mut members = Vec::new();
    let mut failures = 0_u32;
    let mut told = Vec::new();
    let closed = loop {
        let places = &shared.config.places;
        let place = &places[failures as usize % places.len()];
        let dialling = tokio::select! {
            closed = orders(&shared, &mut members) => break closed,
            dialled = dial(&shared.config, place) => dialled,
        };
        let mut pause_max = PAUSE_MAX;
        let reason = match dialling {
            Ok(dialled) => {
                tracing::info!(broker = %place.endpoint, server = dialled.product, "connected to the broker");
                let ended = run(&shared, dialled, &mut members).await;
                leave(&shared);
                match ended.end {
                    End::Closed(told) => break told,
                    End::Lost(reason) => {
                        if ended.was_up {
                            failures = 0;
                            told.clear();
                        }
                        reason
                    }
                }
            }
            Err(error) => {
                pause_max = error.pause_max();
                error.to_string()
            }
        };
        // One clear line for each reason, not for each attempt.
        let why = format!("{} {reason}", place.endpoint);
        if told.contains(&why) {
            tracing::debug!(broker = %place.endpoint, reason, failures, "the broker still cannot be used");
        } else {
            tracing::warn!(broker = %place.endpoint, reason, "the broker cannot be used; it is tried again until it can");
            if told.len() < TOLD_MAX {
                told.push(why);
            }
        }
        let pause = PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(pause_max);
        failures = failures.saturating_add(1);
        // So that those who lost it together do not all come back at once.
        let pause = pause.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
        tokio::select! {
            closed = orders(&shared, &mut members) => break closed,
            () = tokio::time::sleep(pause) => {}
        }
    };
    drop(members);
    // Nobody looks at the line any more: who waits for a subscription is told by what is dropped here.
    // Not under the lock: the drop of a consumer may do anything.
    let orders = std::mem::take(&mut shared.lock().orders);
    drop(orders);
    // Whoever closed it may have gone.
    closed.send(()).unwrap_or_default();
}

/// Takes orders while there is no connection, until one is to close.
async fn orders(shared: &Shared, members: &mut Vec<Registered>) -> oneshot::Sender<()> {
    std::future::poll_fn(|context| {
        shared.task.register(context.waker());
        let orders = {
            let mut line = shared.lock();
            line.awake = false;
            line.released.clear();
            std::mem::take(&mut line.orders)
        };
        for order in orders {
            match order {
                Order::Subscribe(member, opened) => {
                    if let Some(opened) = unless_taken(members, &member, opened) {
                        members.push(Registered { member, opened: Some(opened) });
                    }
                }
                Order::Unsubscribe(id) => members.retain(|registered| registered.member.id != id),
                Order::Close(told) => return Poll::Ready(told),
            }
        }
        Poll::Pending
    })
    .await
}

/// What the end of a connection means for those who publish.
fn leave(shared: &Shared) {
    shared.set_state(State::Away);
    let mut line = shared.lock();
    line.out = Vec::new();
    line.released.clear();
}

/// The first pause before a broker is tried again; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// A broker that is away is back at any moment, and to knock costs nothing.
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(1);
/// One that turns us away will hardly have changed its mind.
pub(crate) const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How many reasons are remembered; a place has few.
const TOLD_MAX: usize = 64;
