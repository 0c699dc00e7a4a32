//! The attendant: one task that gives stations their turns.

use super::agenda::{Key, Next};
use super::{At, Line, table, turn};
use crate::central::Central;
use crate::store::{StoreError, Transaction};
use std::sync::Arc;
use std::time::Duration;
use switchboard_rpc::StationId;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How many stations have their turn at once.
const TURNS_MAX: usize = 64;
/// How often processes that share the books tell each other that they live, and look for what others owe.
const BEAT: Duration = Duration::from_secs(2);
/// How often the table is looked through for stations that nobody spoke of.
const SWEEP: Duration = Duration::from_secs(60);
/// The longest sleep while something waits for its time: the wall clock may be set.
const NAP: Duration = Duration::from_secs(1);
/// How long calls may be waited for at the end. What then has no outcome yet is looked at by the next process.
const STOP_MAX: Duration = Duration::from_secs(5);
/// When a station has its turn again whose last one broke.
const BROKEN_MS: i64 = 60_000;

/// The attendant at work. Dropped, it stops at once.
#[derive(Debug)]
pub struct Attendance {
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Attendance {
    /// Begins no more calls, waits a little for the outcomes of those that are under way, and ends.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            // One that panicked has been reported by the hook.
            drop(task.await);
        }
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Central {
    /// Begins to do what is owed to stations, over this line, on the present tokio runtime.
    ///
    /// # Errors
    /// When the books cannot be read or written.
    pub async fn attend(&self, line: Arc<dyn Line>) -> Result<Attendance, StoreError> {
        match begin(self).await {
            // It is waited for, like by everything else.
            Err(error @ StoreError::Away(_)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "what is owed is not known yet");
            }
            other => other?,
        }
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(self.clone(), line, stopped));
        Ok(Attendance { stop, task: Some(task) })
    }
}

/// Takes over what dead processes were sending, and looks at everything that is owed.
async fn begin(central: &Central) -> Result<(), StoreError> {
    live(central).await?;
    load(central, i64::MIN).await
}

/// Tells other processes that this one lives, and takes over what those were sending that do not.
async fn live(central: &Central) -> Result<(), StoreError> {
    let (now_ms, me) = (central.0.clock.now_ms(), central.0.worker.clone());
    let live = move |transaction: &Transaction<'_>| {
        let at = At { db: transaction, now_ms };
        table::live(at, &me)?;
        table::recover(at, &me)
    };
    central.0.store.write(live).await
}

async fn load(central: &Central, since_ms: i64) -> Result<(), StoreError> {
    for (tenant, station, due_ms) in central.0.store.read(move |db| table::agenda(db, since_ms)).await? {
        if let Ok(station) = StationId::new(station, usize::MAX) {
            central.0.agenda.note((tenant.into(), station), due_ms);
        }
    }
    Ok(())
}

async fn run(central: Central, line: Arc<dyn Line>, mut stop: watch::Receiver<bool>) {
    let mut turns = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP);
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let is_shared = central.0.store.is_shared();
    let agenda = &central.0.agenda;
    while !*stop.borrow() {
        let now_ms = central.0.clock.now_ms();
        while turns.len() < TURNS_MAX
            && let Some(key) = agenda.take(now_ms)
        {
            let (central, line) = (central.clone(), Arc::clone(&line));
            turns.spawn(async move {
                let mut turn = Turn { central, key: Some(key) };
                turn.run(&*line).await;
            });
        }
        let nap = match agenda.next_ms() {
            // All turns are taken; the end of one wakes us.
            Some(next_ms) if next_ms <= now_ms => SWEEP,
            Some(next_ms) => NAP.min(Duration::from_millis(next_ms.abs_diff(now_ms))),
            None => SWEEP,
        };
        tokio::select! {
            _ = stop.changed() => {}
            _ = sweep.tick() => {
                if let Err(error) = load(&central, i64::MIN).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the table of duties cannot be read");
                }
            }
            _ = beat.tick(), if is_shared => {
                // What others laid down may be due sooner than what is known here; their clocks are not quite ours.
                let since_ms = central.0.clock.now_ms() - 10 * i64::try_from(BEAT.as_millis()).unwrap_or(0);
                let beaten = async {
                    live(&central).await?;
                    load(&central, since_ms).await
                };
                if let Err(error) = beaten.await {
                    tracing::debug!(error = &error as &dyn std::error::Error, "the books do not hear that we live");
                }
            }
            _ = turns.join_next(), if !turns.is_empty() => {}
            () = agenda.changed.notified() => {}
            () = tokio::time::sleep(nap) => {}
        }
    }
    let (now_ms, me) = (central.0.clock.now_ms(), central.0.worker.clone());
    let all = async { while turns.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_MAX, all).await.is_err() {
        tracing::info!(
            calls = turns.len(),
            "calls are still without an outcome; the next process asks for it"
        );
    }
    let leave = move |transaction: &Transaction<'_>| table::leave(At { db: transaction, now_ms }, &me);
    if is_shared && let Err(error) = central.0.store.write(leave).await {
        tracing::debug!(error = &error as &dyn std::error::Error, "the books do not hear that we end");
    }
}

/// A turn that gives its station back however it ends.
struct Turn {
    central: Central,
    key: Option<Key>,
}

impl Turn {
    async fn run(&mut self, line: &dyn Line) {
        let Some(key) = &self.key else { return };
        let next = turn::turn(&self.central, line, key).await;
        if let Some(key) = self.key.take() {
            self.central.0.agenda.release(key, next);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let later = self.central.0.clock.now_ms() + BROKEN_MS;
            self.central.0.agenda.release(key, Next::At(later));
        }
    }
}
