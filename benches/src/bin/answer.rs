//! One message through `Router::answer`, and the same over bus and worker: time, and how often memory is asked for.
#![expect(clippy::print_stdout, reason = "the result goes to standard output as JSON")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::FutureExt;
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use switchboard_benches::{handlers, meter_values};
use switchboard_bus::{
    Address, Bus, ConnectionKey, Consumer, Done, Envelope, InProcess, Kind, Metadata, Subscription, Topic,
};
use switchboard_messages::Mode;
use switchboard_router::{Context, Router};
use switchboard_rpc::{StationId, Version};

#[global_allocator]
static ALLOCATOR: Counting = Counting(mimalloc::MiMalloc);

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Counts on the way to the allocator that the server uses.
struct Counting(mimalloc::MiMalloc);

#[expect(unsafe_code, reason = "an allocator cannot be written otherwise; each call is passed on as it is")]
// SAFETY: all is left to the allocator inside, with the arguments unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as our caller promised.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as our caller promised.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as our caller promised.
        unsafe { self.0.realloc(pointer, layout, size) }
    }
}

const BATCHES: usize = 25;
const BATCH: u32 = 20_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let router = handlers::router();
    let meter_values = format!(r#"[2,"8f5c1c5e-0000-4000-8000-1","MeterValues",{}]"#, meter_values(12));
    let heartbeat = r#"[2,"8f5c1c5e-0000-4000-8000-1","Heartbeat",{}]"#.to_owned();
    let mut result = json!({});
    for (mode, name) in [(Mode::Lenient, "lenient"), (Mode::Strict, "strict")] {
        let mut context = Context::new(StationId::new("BENCH-000001", 48)?, Version::V16);
        context.mode = mode;
        result[format!("MeterValues, 12 samples, {name}")] =
            measure(&router, &context, &meter_values, 10.0, 40.0)?;
        result[format!("Heartbeat, {name}")] = measure(&router, &context, &heartbeat, 1.0, 0.0)?;
    }
    let bus = Arc::new(InProcess::new());
    let answers = Arc::new(Answers::default());
    let name = ByteString::from_static("bench");
    let inbox = Subscription { topic: Topic::Inbox(name.clone()), in_hand_max: NonZeroU32::MAX };
    let subscribed = bus.subscribe(inbox, answers.clone()).await?;
    let worker =
        switchboard_worker::serve(router, bus.clone(), switchboard_worker::Config::default()).await?;
    for (what, action, frame) in
        [("MeterValues, 12 samples", "MeterValues", meter_values), ("Heartbeat", "Heartbeat", heartbeat)]
    {
        result[format!("{what}, over bus and worker")] =
            over_the_bus(&*bus, &answers, &name, action, &frame)?;
    }
    drop((subscribed, worker));
    println!("{result}");
    Ok(())
}

/// Counts answers, as a gateway's inbox would take them.
#[derive(Default)]
struct Answers(AtomicU64);

impl Consumer for Answers {
    fn deliver(&self, envelope: Envelope, _: Done) {
        if envelope.body.starts_with(b"[3,") {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The way of a call between the gateway's two ends: envelope, worker, router, handler, envelope.
fn over_the_bus(
    bus: &dyn Bus,
    answers: &Answers,
    inbox: &ByteString,
    action: &'static str,
    frame: &str,
) -> Result<Value> {
    let station = StationId::new("BENCH-000001", 48)?;
    let frame = Bytes::from(frame.to_owned());
    let mut seq = 0;
    let mut call = || {
        seq += 1;
        let mut metadata = Metadata::new(Kind::Call);
        metadata.station = Some(station.clone());
        metadata.version = Some(Version::V16);
        metadata.action = Some(ByteString::from_static(action));
        metadata.connection = Some(ConnectionKey { gateway: inbox.clone(), generation: 1_795_000_000_000 });
        metadata.seq = Some(seq);
        metadata.received_at_ms = Some(1_795_000_000_000);
        metadata.remaining = Some(Duration::from_secs(25));
        metadata.reply_to = Some(inbox.clone());
        metadata.attempt = 1;
        let to = Address::Call { tenant: metadata.tenant.clone(), station: station.clone() };
        bus.publish(to, Envelope::new(metadata, frame.clone())).now_or_never()
    };
    let before = answers.0.load(Ordering::Relaxed);
    call().context("it waits")??;
    ensure!(answers.0.load(Ordering::Relaxed) == before + 1, "not answered with a result");
    Ok(best_of(frame.len(), [0.0, 0.0], || drop(black_box(call()))))
}

/// The least that a batch took, as whatever else runs only adds; and the allocations of one message.
fn measure(
    router: &Router,
    context: &Context,
    frame: &str,
    us_goal: f64,
    allocations_goal: f64,
) -> Result<Value> {
    let frame = ByteString::from(frame);
    let answer = router.answer(context, frame.clone()).now_or_never().context("it waits")?;
    ensure!(answer.frame.is_some_and(|frame| frame.starts_with(b"[3,")), "not answered with a result");

    Ok(best_of(frame.len(), [us_goal, allocations_goal], || {
        drop(black_box(router.answer(context, black_box(frame.clone())).now_or_never()));
    }))
}

fn best_of(bytes: usize, [us_goal, allocations_goal]: [f64; 2], mut once: impl FnMut()) -> Value {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    once();
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let mut best = f64::INFINITY;
    for _ in 0..BATCHES {
        let begun = Instant::now();
        for _ in 0..BATCH {
            once();
        }
        best = best.min(begun.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH));
    }
    json!({
        "us": best,
        "us_goal": us_goal,
        "allocations": allocations,
        "allocations_goal": allocations_goal,
        "bytes": bytes,
    })
}
