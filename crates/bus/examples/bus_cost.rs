//! What headers and the in-process bus cost: `cargo run --release -p switchboard-bus --example bus_cost`.
//!
//! Times are the best of many rounds, which is what the code costs when nobody else wants the processor. Allocations are
//! counted over one operation.

#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io::Write;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use switchboard_bus::{
    Address, Bus, ConnectionKey, Consumer, Done, Envelope, InProcess, Kind, Metadata, Subscription, Topic,
};
use switchboard_rpc::{StationId, Version};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: it hands everything on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Debug)]
struct Dropping;

impl Consumer for Dropping {
    fn deliver(&self, envelope: Envelope, done: Done) {
        drop(black_box(envelope));
        drop(done);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let station = StationId::new("CP001", 48)?;
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = Some(station.clone());
    metadata.version = Some(Version::V16);
    metadata.action = Some("MeterValues".into());
    metadata.connection =
        Some(ConnectionKey { gateway: "gateway-4f2a".into(), generation: 1_795_341_600_000 });
    metadata.seq = Some(1234);
    metadata.received_at_ms = Some(1_795_341_600_123);
    metadata.remaining = Some(Duration::from_secs(25));
    metadata.reply_to = Some("gateway-4f2a".into());
    metadata.attempt = 1;
    let envelope = Envelope::new(metadata.clone(), vec![b' '; 300]);
    let to = Address::Call { tenant: "default".into(), station };

    let bus = InProcess::new();
    let subscription = Subscription { topic: Topic::Calls, in_hand_max: NonZeroU32::MAX };
    let mut subscribing = bus.subscribe(subscription, Arc::new(Dropping));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(subscribed) = subscribing.as_mut().poll(&mut context) else {
        return Err("subscribing waits".into());
    };
    let _subscribed = subscribed?;

    measure("clone of a call's metadata", || drop(black_box(black_box(&metadata).clone())))?;
    measure("through headers", || drop(black_box(black_box(&metadata).through_headers())))?;
    measure("publish to the in-process bus, with a clone of envelope and address", || {
        drop(bus.publish(black_box(&to).clone(), black_box(&envelope).clone()));
    })?;
    Ok(())
}

fn measure(name: &str, mut operation: impl FnMut()) -> std::io::Result<()> {
    const TURNS: u32 = 10_000;
    operation();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    operation();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let mut best = Duration::MAX;
    for _ in 0..100 {
        let begin = Instant::now();
        for _ in 0..TURNS {
            operation();
        }
        best = best.min(begin.elapsed() / TURNS);
    }
    writeln!(std::io::stdout(), "{:>6} ns  {allocations} allocations  {name}", best.as_nanos())
}
