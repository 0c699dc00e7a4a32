//! A station's turn: its due duties, one after the other.

use super::agenda::{Key, Next};
use super::table::{self, Begun};
use super::{At, Counts, Duty, Line, Order};
use crate::central::Central;
use crate::store::StoreError;
use bytes::Bytes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use switchboard_router::Outcome;
use switchboard_rpc::Version;

/// How many calls a station gets in one turn, so that others have theirs.
const CALLS_MAX: usize = 16;
/// When a station that is away is looked at although nothing was heard of it.
const AWAY_MS: i64 = 60_000;
/// When it is tried again after the books or the directory failed.
const FAULT_MS: i64 = 5_000;
/// How often writing down an outcome is tried while the disk refuses.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Sends what is due to a station; tells when to look at it again.
pub(super) async fn turn(central: &Central, line: &dyn Line, key: &Key) -> Next {
    for _ in 0..CALLS_MAX {
        match step(central, line, key).await {
            Ok(Step::More) => {}
            Ok(Step::Next(next)) => return next,
            Err(error) => {
                tracing::warn!(station = %key.1, error = &error as &dyn std::error::Error, "duties wait for the books");
                return Next::At(central.0.clock.now_ms() + FAULT_MS);
            }
        }
    }
    Next::At(i64::MIN)
}

enum Step {
    More,
    Next(Next),
}

async fn step(central: &Central, line: &dyn Line, key: &Key) -> Result<Step, StoreError> {
    let (tenant, station) = key;
    let store = &central.0.store;
    let now_ms = central.0.clock.now_ms();
    let look = key.clone();
    let next = store.read(move |db| table::next_due(db, &look.0, look.1.as_str())).await?;
    match next {
        None => return Ok(Step::Next(Next::Nothing)),
        Some(due_ms) if due_ms > now_ms => return Ok(Step::Next(Next::At(due_ms))),
        Some(_) => {}
    }
    let spoken = line.spoken(tenant, station).await;
    let version = match spoken {
        Ok(version) => version,
        Err(error) => {
            tracing::warn!(%station, error, "where a station is could not be learned; its duties wait");
            return Ok(Step::Next(Next::At(now_ms + FAULT_MS)));
        }
    };
    let (owner, me) = (key.clone(), central.0.worker.clone());
    let (expired, begun, next) = store
        .write(move |transaction| {
            let at = At { db: transaction, now_ms };
            let (tenant, station) = (&*owner.0, owner.1.as_str());
            // Of several processes only one finds it open.
            transaction.lock_station(tenant, station)?;
            let expired = table::expire(at, tenant, station)?;
            let begun = match version {
                Some(version) => table::begin(at, tenant, station, version, &me)?,
                None => Begun::Held,
            };
            Ok((expired, begun, table::next_due(transaction, tenant, station)?))
        })
        .await?;
    let counts = &central.0.agenda.counts;
    counts.expired.fetch_add(expired, Ordering::Relaxed);
    let (duty, action, payload, version) = match (begun, version, next) {
        (Begun::Call { duty, action, payload }, Some(version), _) => (duty, action, payload, version),
        (_, _, None) => return Ok(Step::Next(Next::Nothing)),
        // Away, or not accepted: its next call wakes it.
        (Begun::Held, ..) => return Ok(Step::Next(Next::Away(now_ms + AWAY_MS))),
        (_, _, Some(next)) if next <= now_ms => return Ok(Step::More),
        (_, _, Some(next)) => return Ok(Step::Next(Next::At(next))),
    };
    tracing::debug!(%station, kind = duty.kind, action, attempt = duty.attempts, "a duty is sent");
    let order = Order {
        tenant: tenant.clone(),
        station: station.clone(),
        version,
        action: action.into(),
        payload: Bytes::from(payload),
        timeout: duty.timeout,
        // The number of a row may be given anew, and its attempts begin anew when it is owed again.
        key: (!duty.repeatable)
            .then(|| format!("duty-{}-{}-{}", duty.id, duty.owed_ms, duty.attempts).into()),
    };
    if let Err(error) = central.before_call(tenant, station, &order.action, &order.payload).await {
        // At worst the station is refused what it was asked for, until it is accepted.
        tracing::warn!(%station, error = &error as &dyn std::error::Error, "what is asked for could not be noted");
    }
    counts.sent.fetch_add(1, Ordering::Relaxed);
    let outcome = line.call(order).await;
    counter(counts, &outcome).fetch_add(1, Ordering::Relaxed);
    tracing::info!(
        %station, kind = duty.kind, key = duty.key, outcome = super::kind::words(&outcome), "a duty has an outcome"
    );
    let away = matches!(outcome, Outcome::Offline | Outcome::NotSent);
    write_down(central, &duty, version, outcome).await?;
    Ok(if away { Step::Next(Next::Away(central.0.clock.now_ms() + AWAY_MS)) } else { Step::More })
}

/// Writes an outcome down. While the disk refuses it is tried again: a process that dies meanwhile finds the duty as
/// being sent.
async fn write_down(
    central: &Central,
    duty: &Duty,
    version: Version,
    outcome: Outcome,
) -> Result<(), StoreError> {
    loop {
        let now_ms = central.0.clock.now_ms();
        let (settled, settling, me) = (duty.clone(), outcome.clone(), central.0.worker.clone());
        let written = central
            .0
            .store
            .write(move |transaction| {
                let at = At { db: transaction, now_ms };
                transaction.lock_station(&settled.tenant, &settled.station)?;
                if table::is_ours(at, &settled, &me)? {
                    table::settle(at, &settled, Some(version), &settling)?;
                } else {
                    tracing::info!(
                        station = settled.station,
                        kind = settled.kind,
                        "a duty was taken over by another process; its outcome here does not count"
                    );
                }
                Ok(())
            })
            .await;
        match written {
            Err(error) if error.is_retryable() => {
                tracing::warn!(
                    station = duty.station,
                    error = &error as &dyn std::error::Error,
                    "an outcome cannot be written down yet"
                );
                tokio::time::sleep(WRITE_EVERY).await;
            }
            Err(error @ (StoreError::Panicked | StoreError::Invalid(_))) => {
                tracing::error!(
                    station = duty.station,
                    kind = duty.kind,
                    error = &error as &dyn std::error::Error,
                    "an outcome could not be judged; the duty is given up"
                );
                let given_up = duty.clone();
                let reason = format!("what the station answered could not be judged: {error}");
                return central
                    .0
                    .store
                    .write(move |transaction| {
                        table::give_up(At { db: transaction, now_ms }, &given_up, &outcome, &reason)
                    })
                    .await;
            }
            other => return other,
        }
    }
}

const fn counter<'a>(counts: &'a Counts, outcome: &Outcome) -> &'a AtomicU64 {
    match outcome {
        Outcome::Answered(_) => &counts.answered,
        Outcome::Refused { .. } => &counts.refused,
        Outcome::Unknown => &counts.unknown,
        _ => &counts.not_sent,
    }
}
