//! A consumer that writes down what it is given.

use super::DEADLINE;
use crate::{Bus, Consumer, Done, Envelope, Subscribed, Subscription, Topic};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Keeps what it is given, and, if so made, holds on to it.
#[derive(Debug)]
pub struct Recorder {
    got: Mutex<Vec<Envelope>>,
    held: Option<Mutex<Vec<Done>>>,
    news: Notify,
}

impl Recorder {
    /// One that is done with everything at once.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { got: Mutex::default(), held: None, news: Notify::new() })
    }

    /// One that keeps everything in hand until [`let_go`](Self::let_go).
    #[must_use]
    pub fn holding() -> Arc<Self> {
        Arc::new(Self { got: Mutex::default(), held: Some(Mutex::default()), news: Notify::new() })
    }

    /// Subscribes.
    pub async fn listen(self: &Arc<Self>, bus: &Arc<dyn Bus>, topic: Topic, in_hand_max: u32) -> Subscribed {
        let subscription = Subscription { topic, in_hand_max: NonZeroU32::new(in_hand_max).unwrap() };
        let consumer: Arc<dyn Consumer> = Arc::<Self>::clone(self);
        bus.subscribe(subscription, consumer).await.expect("the subscription is accepted")
    }

    /// How much it was given.
    pub fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    /// All that it was given.
    pub fn all(&self) -> Vec<Envelope> {
        self.got.lock().unwrap().clone()
    }

    /// Waits until it was given so much.
    pub async fn wait_for(&self, count: usize) -> Vec<Envelope> {
        let wait = async {
            loop {
                let news = self.news.notified();
                if self.count() >= count {
                    return self.all();
                }
                news.await;
            }
        };
        let got = tokio::time::timeout(DEADLINE, wait).await;
        got.unwrap_or_else(|_| panic!("{count} envelopes should have come, and {} did", self.count()))
    }

    /// Forgets what it was given, so that the next is the first.
    pub fn forget(&self) {
        self.got.lock().unwrap().clear();
    }

    /// Lets go of the oldest that is in hand.
    pub fn let_go(&self) {
        let held = self.held.as_ref().expect("it holds");
        let oldest = held.lock().unwrap().remove(0);
        drop(oldest);
    }
}

impl Consumer for Recorder {
    fn deliver(&self, envelope: Envelope, done: Done) {
        if let Some(held) = &self.held {
            held.lock().unwrap().push(done);
        }
        self.got.lock().unwrap().push(envelope);
        // Whoever looks next finds it without waiting.
        self.news.notify_one();
    }
}
