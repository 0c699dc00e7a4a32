//! Other workers of the namespace, and whose books they write.
//!
//! All workers compete for all calls. One that writes books of its own writes down a part of them elsewhere, and each misses
//! what the other took.

use super::readiness::Readiness;
use crate::exit::{Exit, Failure};
use anyhow::Context;
use bytestring::ByteString;
use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use switchboard_bus::{
    Bus, Consumer, Done, Envelope, Subscribed, Subscription, Topic,
    presence::{self, Facts},
};

/// Listens for them. Books in a file belong to one worker: if another one is there already we do not begin. Where books are at a
/// server, one is trouble that says that it writes others. Whoever comes later is told of by log and `/readyz`.
pub(super) async fn watch(
    bus: &Arc<dyn Bus>,
    name: &ByteString,
    books: Option<ByteString>,
    readiness: &Readiness,
) -> Result<Subscribed, Failure> {
    let shares = books.is_some();
    let others = Arc::new(Others { name: name.clone(), books, state: Mutex::default() });
    let subscription = Subscription { topic: Topic::Presence, in_hand_max: NonZeroU32::MAX };
    let consumer: Arc<dyn Consumer> = Arc::<Others>::clone(&others);
    let listening = bus.subscribe(subscription, consumer).await.context("the bus refuses")?;
    if !shares {
        tokio::time::sleep(LISTEN_FOR).await;
        if let Some(trouble) = others.trouble() {
            return Err(Failure::new(
                Exit::Configuration,
                format!("{trouble}, or this one a --namespace of its own"),
            ));
        }
    }
    others.state().is_begun = true;
    readiness.ask(move || others.trouble());
    Ok(listening)
}

/// Hears the last sign of life of another worker that it does not go with.
#[derive(Debug)]
struct Others {
    name: ByteString,
    /// Ours, if others may have them too.
    books: Option<ByteString>,
    state: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    last: Option<(ByteString, tokio::time::Instant)>,
    /// Those of which the log was told, each once as long as there is one.
    told: Vec<ByteString>,
    /// We take calls too, and it came after us.
    is_begun: bool,
}

impl Others {
    fn state(&self) -> MutexGuard<'_, Heard> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker of others that says nothing of its books may well share ours.
    fn is_in_order(&self, body: &[u8]) -> bool {
        self.books.is_some() && Facts::read(body).books.is_none_or(|theirs| self.books == Some(theirs))
    }

    fn trouble(&self) -> Option<String> {
        let state = self.state();
        let (other, when) = state.last.as_ref()?;
        let how = match self.books {
            None => "takes calls of this namespace, and books in SQLite belong to one worker",
            Some(_) => "takes calls of this namespace and writes other books than this one",
        };
        (when.elapsed() < GONE_AFTER).then(|| {
            format!("another worker, {other}, {how}: give all workers the same --database postgres://…")
        })
    }
}

impl Consumer for Others {
    fn deliver(&self, envelope: Envelope, done: Done) {
        if let Some(worker) = envelope.metadata.worker.filter(|worker| *worker != self.name)
            && !self.is_in_order(&envelope.body)
        {
            let mut state = self.state();
            if state.last.as_ref().is_none_or(|(_, when)| when.elapsed() >= GONE_AFTER) {
                state.told.clear();
            }
            let is_end = presence::is_end(&envelope.body);
            let is_new = !state.told.contains(&worker) && state.told.len() < TOLD_MAX;
            let is_told = is_new && !is_end && state.is_begun;
            if is_told {
                state.told.push(worker.clone());
            }
            state.last = (!is_end).then(|| (worker, tokio::time::Instant::now()));
            drop(state);
            if is_told && let Some(trouble) = self.trouble() {
                tracing::error!("{trouble}; what it takes is missing in the books here");
            }
        }
        drop(done);
    }
}

/// A little more than a beat.
const LISTEN_FOR: Duration = Duration::from_millis(700);
/// More than so many of them are too many to name.
const TOLD_MAX: usize = 16;
/// A worker that has not been heard for so long has gone.
const GONE_AFTER: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_at_a_server_are_shared_by_those_that_name_the_same_or_none() {
        let body = |books: Option<&'static str>| {
            presence::body_with(&Facts { books: books.map(Into::into), ..Facts::default() }, [])
        };
        let others = |books: Option<&'static str>| Others {
            name: "w1".into(),
            books: books.map(Into::into),
            state: Mutex::default(),
        };
        let ours = others(Some("b1"));
        assert!(ours.is_in_order(&body(Some("b1"))) && ours.is_in_order(&body(None)));
        assert!(ours.is_in_order(&presence::end()) && !ours.is_in_order(&body(Some("b2"))));
        let file = others(None);
        assert!(!file.is_in_order(&body(None)) && !file.is_in_order(&body(Some("b1"))));
    }
}
