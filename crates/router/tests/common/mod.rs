//! What the tests of the router share. There is no runtime here: the router needs none.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context as Task, Poll, Wake, Waker},
    thread::Thread,
};
use switchboard_messages::{Mode, Timestamp};
use switchboard_router::{Answer, Context, Router};
use switchboard_rpc::{StationId, Version};

/// Polls a future on this thread until it is ready.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Task::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

pub(crate) fn context(version: Version) -> Context {
    Context::new(StationId::new("CP001", 48).unwrap(), version)
}

pub(crate) fn strict(version: Version) -> Context {
    let mut context = context(version);
    context.mode = Mode::Strict;
    context
}

pub(crate) fn answer(router: &Router, context: &Context, frame: &str) -> Answer {
    block_on(router.answer(context, frame.into()))
}

/// The answer's frame as text; empty for silence.
pub(crate) fn frame(router: &Router, context: &Context, frame: &str) -> String {
    let frame = answer(router, context, frame).frame.unwrap_or_default();
    String::from_utf8(frame.to_vec()).unwrap()
}

/// Asserts that a CALLERROR of this code and nothing else comes back.
pub(crate) fn assert_refused(answered: &str, code: &str, row: &str) {
    let value: serde_json::Value =
        serde_json::from_str(answered).unwrap_or_else(|_| panic!("{row}: {answered:?}"));
    assert_eq!(value[0], 4, "{row}: {answered}");
    assert_eq!(value[2], code, "{row}: {answered}");
    assert!(value[3].as_str().unwrap().chars().count() <= 255, "{row}: {answered}");
    assert!(value[4].is_object(), "{row}: {answered}");
    assert_eq!(value.as_array().unwrap().len(), 5, "{row}: {answered}");
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_unix_millis(1_700_000_000_000)
}
