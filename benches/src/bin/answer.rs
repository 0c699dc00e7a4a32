//! One message through `Router::answer`: time, and how often memory is asked for.
#![expect(clippy::print_stdout, reason = "the result goes to standard output as JSON")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use anyhow::{Context as _, Result, ensure};
use bytestring::ByteString;
use futures_util::FutureExt;
use serde_json::{Value, json};
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use switchboard_benches::{handlers, meter_values};
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

fn main() -> Result<()> {
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
    println!("{result}");
    Ok(())
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

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    drop(black_box(router.answer(context, frame.clone()).now_or_never()));
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;

    let mut best = f64::INFINITY;
    for _ in 0..BATCHES {
        let begun = Instant::now();
        for _ in 0..BATCH {
            drop(black_box(router.answer(context, black_box(frame.clone())).now_or_never()));
        }
        best = best.min(begun.elapsed().as_secs_f64() * 1e6 / f64::from(BATCH));
    }
    Ok(json!({
        "us": best,
        "us_goal": us_goal,
        "allocations": allocations,
        "allocations_goal": allocations_goal,
        "bytes": frame.len(),
    }))
}
