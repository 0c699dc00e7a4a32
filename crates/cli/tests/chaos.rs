//! Eight cells of the kill matrix. All of them: `cargo xtask chaos`.
//!
//! One after the other, as the servers of others are shared, and killed. How long stations waited is told and not judged
//! here: that depends on the machine.

#![expect(clippy::print_stdout, reason = "what a cell found is shown beside its test")]

use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;
use switchboard_testkit::chaos::{Bus, Cell, Plan, Servers, run};
use tokio::sync::Mutex;

static SERVERS: LazyLock<Mutex<Servers>> = LazyLock::new(|| Mutex::new(Servers::new("chaos")));

/// Enough that every moment of a call is met, and few enough for two cores.
const STATIONS: usize = 60;

async fn cell(name: &str, bus: Bus) -> Result<()> {
    let mut servers = SERVERS.lock().await;
    let plan = Plan {
        cell: Cell::named(name).context("no such cell")?,
        bus,
        stations: STATIONS,
        seed: 1,
        pause: Duration::from_millis(800),
        measured: false,
        binary: PathBuf::from(env!("CARGO_BIN_EXE_switchboard")),
        build: String::new(),
        commit: String::new(),
        logs: None,
    };
    let Some(findings) = run(&mut servers, &plan).await? else { return Ok(()) };
    println!("{}", findings.line());
    anyhow::ensure!(findings.broken().is_empty(), "{}", findings.details());
    Ok(())
}

macro_rules! cells {
    ($(fn $test:ident() = $cell:literal, $bus:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() -> Result<()> {
            cell($cell, Bus::$bus).await
        }
    )*};
}

cells! {
    fn s01_a_worker_is_killed_and_another_answers() = "worker-kill", Nats;
    fn s10_a_frozen_worker_that_goes_on_disturbs_nobody() = "worker-freeze", Nats;
    fn s01_all_workers_are_gone_for_less_than_an_answer_may_take() = "workers-away-20s", Nats;
    fn s05_a_gateway_is_killed_while_another_stands() = "gateway-kill", Http;
    fn in_bare_mode_a_killed_function_costs_sockets_and_no_message() = "worker-kill", Bare;
    fn s04_the_broker_is_killed() = "broker-kill", Amqp;
    fn s04_the_broker_is_restarted() = "broker-restart", Mqtt;
    fn the_directory_is_restarted_and_no_socket_closes() = "directory-restart", Nats;
}
