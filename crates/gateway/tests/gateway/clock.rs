//! The wall clock is set: by an hour, to 1970. Deadlines and connections do not notice.

use crate::moody::Moody;
use crate::support::{Reply, World, key, until, within};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use switchboard_bus::InProcess;
use switchboard_directory::Directory as _;
use switchboard_gateway::WallClock;
use tokio::time::Instant;

const HOUR: i64 = 3_600_000;
const NOW: i64 = 1_790_000_000_000;

#[tokio::test]
async fn a_clock_that_is_set_ends_no_connection_and_no_call_and_generations_rise() {
    let wall = Arc::new(AtomicI64::new(NOW));
    let told = Arc::clone(&wall);
    let clock = WallClock::new(move || told.load(Ordering::Relaxed));
    let world = World::start_at(InProcess::new(), Arc::new(Moody::new()), clock, |config| {
        config.refuse_upgrades_after = Some(Duration::from_secs(600));
        config.answer_deadline = Duration::from_secs(4);
    })
    .await;
    let mut generation = 0;
    let station = "A";
    for set in [NOW + HOUR, NOW - HOUR, 0, NOW] {
        let mut held = world.station(station).await;
        // Nobody answers: the deadline is a matter of the other clock.
        let sent = Instant::now();
        held.send(r#"[2,"1","Authorize",{"idTag":"A"}]"#).await;
        wall.store(set, Ordering::Relaxed);
        // The gateway has seen it when its lease is fresh in the new time; it never is out of date in between.
        within("the new time", async {
            loop {
                let located = world.directory.locate(&key(station), set).await.unwrap();
                if located.is_some() && world.gateway.wall_ms().abs_diff(set) < 10_000 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let answer = held.receive().await;
        assert!(answer.contains("InternalError"), "{set}: {answer}");
        assert!(sent.elapsed() >= Duration::from_secs(3), "{set}: ended before its deadline");
        // Nobody has taken calls for some seconds, whatever the wall says: new stations are let in.
        let mut next = world.station(station).await;
        until("it has its place", || world.gateway.connections() > 0).await;
        let located = world.directory.locate(&key(station), set).await.unwrap().unwrap();
        assert!(located.connection.generation > generation, "{set}");
        generation = located.connection.generation;
        let processing = world.processing(|_| Reply::payload("{}")).await;
        assert_eq!(next.ask(r#"[2,"2","Heartbeat",{}]"#).await, r#"[3,"2",{}]"#, "{set}");
        drop(processing);
    }
}
