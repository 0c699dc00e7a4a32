//! Workers in two languages share calls and books.

use crate::support::{Example, Place};
use anyhow::{Result, ensure};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use serde_json::Value;
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use switchboard_bus::{Bus, Connect, State};
use switchboard_bus_nats::Nats;
use switchboard_messages::{Message, v16};
use switchboard_router::{CallError, Key, Reply, Router, State as Shared};
use switchboard_testkit::{Proxy, RawStation, wait};

/// The books of `examples/foreign/contract.py`, in Rust.
#[derive(Clone)]
struct Books {
    connection: Arc<Mutex<Connection>>,
    effects: Arc<AtomicUsize>,
}

impl Books {
    /// What `Memory.once` does there.
    fn once<R: Message>(
        &self,
        key: &Key,
        effect: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<R>,
    ) -> Result<Reply<R>, CallError> {
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let row = params![
            &*key.tenant,
            key.station.as_str(),
            i64::try_from(key.generation).unwrap_or(i64::MAX),
            i64::try_from(key.seq).unwrap_or(i64::MAX),
        ];
        let known: Option<String> = transaction
            .query_row(
                "SELECT answer FROM calls WHERE tenant = ?1 AND station = ?2 AND generation = ?3 AND seq = ?4",
                row,
                |row| row.get(0),
            )
            .optional()?;
        if let Some(payload) = known {
            return Ok(Reply::stored(payload.into()));
        }
        let is_stale = transaction
            .query_row(
                "SELECT 1 FROM calls WHERE tenant = ?1 AND station = ?2 AND (generation, seq) > (?3, ?4)",
                row,
                |_| Ok(()),
            )
            .optional()?
            .is_some();
        if is_stale && key.journal.is_none() {
            return Ok(Reply::Silence);
        }
        let response = effect(&transaction)?;
        let mut payload = Vec::new();
        response.encode(&mut payload)?;
        transaction.execute(
            "INSERT INTO calls (tenant, station, generation, seq, answer) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![row[0], row[1], row[2], row[3], String::from_utf8_lossy(&payload)],
        )?;
        transaction.commit()?;
        Ok(Reply::New(response))
    }
}

async fn start(
    key: Key,
    Shared(books): Shared<Books>,
    request: v16::StartTransactionRequest,
) -> Result<Reply<v16::StartTransactionResponse>, CallError> {
    books.once(&key, |transaction| {
        books.effects.fetch_add(1, Ordering::Relaxed);
        transaction.execute(
            "INSERT INTO transactions (tenant, station, connector, started, tag, meter_start)
             VALUES (?1, ?2, 1, ?3, 'RUST', ?4)",
            params![&*key.tenant, key.station.as_str(), request.timestamp.to_string(), request.meter_start],
        )?;
        let accepted = v16::IdTagInfo::new(v16::AuthorizationStatus::Accepted);
        Ok(v16::StartTransactionResponse::new(accepted, transaction.last_insert_rowid()))
    })
}

/// Each call has one effect and the answer that belongs to it, whoever of the two had it, and also when one dies between
/// its effect and its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s02_a_rust_and_a_python_worker_share_calls_without_doubling_any() -> Result<()> {
    let Some(place) = Place::new("Rust and Python", Example::PythonNats).await? else { return Ok(()) };
    let line = Proxy::to(place.broker).await?;
    let mut python = place.worker(line.address())?;
    wait::until("the books", async || place.transactions().ok()).await?;
    let connection = Connection::open(place.books())?;
    connection.busy_timeout(wait::DEADLINE)?;
    let books = Books { connection: Arc::new(Mutex::new(connection)), effects: Arc::default() };
    let connect = Connect { namespace: place.namespace.as_str().into(), ..Connect::to(&place.bus) };
    let bus: Arc<dyn Bus> = Arc::new(Nats::connect(connect)?);
    bus.state().wait_for(|state| *state == State::Connected).await?;
    let router = Router::new().on(start).with_state(books.clone());
    let rust = switchboard_worker::serve(router, bus, switchboard_worker::Config::default()).await?;
    wait::until("both workers", async || {
        place.gateway.metric("switchboard_gateway_workers").await.ok().filter(|workers| *workers == 2.0)
    })
    .await?;

    let mut stations = Vec::new();
    for number in 0..8 {
        let connected = RawStation::connect(&place.gateway.url(&format!("CP{number}")), &["ocpp1.6"]).await?;
        stations.push(connected.map_err(|status| anyhow::anyhow!("refused with {status}"))?);
    }
    let mut numbers = HashSet::new();
    for round in 0..10 {
        if round == 9 {
            line.hold_what_comers_say(true);
        }
        for station in &mut stations {
            let call = format!(
                r#"[2,"{round}","StartTransaction",{{"connectorId":1,"idTag":"T","meterStart":{round},"timestamp":"2026-11-23T10:{round:02}:00Z"}}]"#
            );
            station.send(&call).await?;
        }
        if round == 9 {
            // All have had their effects. Python cannot say so of those that it had, and dies.
            let all = stations.len() * 10;
            wait::until("all effects", async || place.transactions().ok().filter(|done| done.len() == all))
                .await?;
            python.kill().await?;
            line.refuse(true);
        }
        for station in &mut stations {
            let answer: Value = serde_json::from_str(&station.receive().await?)?;
            ensure!(answer[0] == 3 && answer[1].as_str() == Some(round.to_string().as_str()), "{answer}");
            ensure!(numbers.insert(answer[2]["transactionId"].as_i64()), "given twice: {answer}");
        }
    }
    let (all, by_rust) = (place.transactions()?.len(), books.effects.load(Ordering::Relaxed));
    ensure!(all == 80 && numbers.len() == 80, "{all} transactions, {} answers", numbers.len());
    ensure!(by_rust > 0 && by_rust < 80, "{by_rust} of 80 by Rust");
    rust.stop().await;
    Ok(())
}
