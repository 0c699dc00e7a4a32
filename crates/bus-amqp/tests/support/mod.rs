//! The broker that the tests of one file share.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests, which fail by panicking; not every file of tests uses all of them"
)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use switchboard_bus::{Bus as _, Connect, State};
use switchboard_bus_amqp::Amqp;
use switchboard_testkit::servers::RabbitMq;
use tokio::sync::OnceCell;

/// How long a test waits for what must come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A broker that nobody kills; none if the tests have to be skipped. It ends with the process.
pub(crate) async fn broker() -> Option<&'static RabbitMq> {
    static BROKER: OnceCell<Option<RabbitMq>> = OnceCell::const_new();
    let file = std::env::current_exe().ok();
    let name = file.as_deref().and_then(|path| path.file_stem()).unwrap_or_default();
    let start = || async { RabbitMq::start(&name.to_string_lossy()).await.unwrap() };
    BROKER.get_or_init(start).await.as_ref()
}

/// A namespace of its own on that broker.
pub(crate) async fn namespace() -> Option<Connect> {
    let url = broker().await?.url();
    Some(namespace_at(url))
}

/// A namespace of its own on the broker that is reached there.
pub(crate) fn namespace_at(url: String) -> Connect {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let namespace = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    Connect { namespace: namespace.into(), ..Connect::to(url) }
}

/// A participant that has connected.
pub(crate) async fn connected(connect: Connect) -> Amqp {
    let bus = Amqp::connect(connect).unwrap();
    state(&bus, State::Connected).await;
    bus
}

/// Waits until it says so.
pub(crate) async fn state(bus: &Amqp, wanted: State) {
    let mut state = bus.state();
    let waiting = state.wait_for(|state| *state == wanted);
    drop(tokio::time::timeout(DEADLINE, waiting).await.expect("in time").expect("it lives"));
}
