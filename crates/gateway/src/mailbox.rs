//! What other tasks want of a connection: answers, commands, and that it end.
//!
//! A queue of our own, since tokio's allocates a block of 32 places for every connection at once. Here an idle
//! connection holds nothing, one answer at a time takes no allocation, and what a burst took is given back.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// A bounded queue with one reader.
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
}

struct State<T> {
    /// The oldest, without an allocation.
    first: Option<T>,
    rest: VecDeque<T>,
    /// Set only while the reader waits, so that whoever posts from within the reader's own task wakes nobody.
    reader: Option<Waker>,
    open: bool,
}

/// Why something could not be posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostError {
    /// The reader is gone.
    Closed,
    /// As much waits as may.
    Full,
}

impl<T> Mailbox<T> {
    pub(crate) const fn new() -> Self {
        Self { state: Mutex::new(State { first: None, rest: VecDeque::new(), reader: None, open: true }) }
    }

    /// Posts unless `bound` things wait already.
    pub(crate) fn post(&self, thing: T, bound: usize) -> Result<(), (PostError, T)> {
        let mut state = self.lock();
        if !state.open {
            return Err((PostError::Closed, thing));
        }
        if state.first.is_none() {
            state.first = Some(thing);
        } else if state.rest.len() + 1 < bound {
            state.rest.push_back(thing);
        } else {
            return Err((PostError::Full, thing));
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Ok(())
    }

    /// Takes the oldest. Whoever was to be woken is awake by now.
    pub(crate) fn take(&self) -> Option<T> {
        let mut state = self.lock();
        state.reader = None;
        state.take()
    }

    /// Takes the oldest, or has the task woken when there is one.
    pub(crate) fn poll_take(&self, context: &Context<'_>) -> Poll<T> {
        let mut state = self.lock();
        match state.take() {
            Some(thing) => Poll::Ready(thing),
            None => {
                match &mut state.reader {
                    Some(reader) => reader.clone_from(context.waker()),
                    none => *none = Some(context.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    /// Refuses whatever comes from now on and gives out what waits.
    pub(crate) fn close(&self) -> impl Iterator<Item = T> + use<T> {
        let mut state = self.lock();
        state.open = false;
        state.reader = None;
        let first = state.first.take();
        first.into_iter().chain(std::mem::take(&mut state.rest))
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Option<T> {
        let thing = self.first.take()?;
        self.first = self.rest.pop_front();
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = VecDeque::new();
        }
        Some(thing)
    }
}

impl<T> std::fmt::Debug for Mailbox<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn things_come_out_in_order_and_the_bound_holds() {
        let mailbox = Mailbox::new();
        for thing in 0..4 {
            mailbox.post(thing, 4).unwrap();
        }
        assert_eq!(mailbox.post(4, 4), Err((PostError::Full, 4)));
        assert_eq!(std::iter::from_fn(|| mailbox.take()).collect::<Vec<_>>(), [0, 1, 2, 3]);
        mailbox.post(5, 4).unwrap();
        assert_eq!(mailbox.take(), Some(5));
    }

    #[test]
    fn only_a_waiting_reader_is_woken_and_once() {
        let mailbox = Mailbox::new();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        mailbox.post(1, 9).unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        let context = Context::from_waker(&waker);
        assert_eq!(mailbox.poll_take(&context), Poll::Ready(1));
        assert_eq!(mailbox.poll_take(&context), Poll::Pending);
        mailbox.post(2, 9).unwrap();
        mailbox.post(3, 9).unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_idle_mailbox_holds_no_memory() {
        let mailbox = Mailbox::new();
        for thing in 0..100 {
            mailbox.post(thing, 100).unwrap();
        }
        while mailbox.take().is_some() {}
        assert_eq!(mailbox.lock().rest.capacity(), 0);
    }

    #[test]
    fn a_closed_mailbox_gives_back_what_waits_and_takes_nothing() {
        let mailbox = Mailbox::new();
        mailbox.post(1, 9).unwrap();
        mailbox.post(2, 9).unwrap();
        assert_eq!(mailbox.close().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(mailbox.post(3, 9), Err((PostError::Closed, 3)));
    }
}
