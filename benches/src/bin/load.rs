//! The stations of the benchmark: one thread, prepared frames, as little work per call as can be.
//!
//! `load calls` keeps one call of each station open all the time, or a number of calls of which each station makes one in
//! its turn, and reads the server's CPU time from /proc before and after; several servers can have turns, so that all are
//! measured in the same minute. `load boots` has stations come and boot, by turns as well. `load open` makes calls at times
//! that do not depend on the answers. `load idle` opens connections and reads the server's resident memory, fresh and after
//! calls of each.
#![expect(clippy::print_stdout, reason = "the result goes to standard output as JSON")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, Instant};
use switchboard_benches::{
    BOOT_NOTIFICATION, ID_LENGTH, METER_VALUES, START_TRANSACTION, STATUS_NOTIFICATION, TIME, TRANSACTION_ID,
    Times,
};
use switchboard_deflate::{Pool, offer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Plays stations of OCPP 1.6 against a server on this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the server listens
    #[arg(long)]
    server: SocketAddr,
    /// The server's process, whose CPU time and memory are read. Processes that serve together are given one by one with
    /// a name each, as gateway=123: the first is the one whose memory is read
    #[arg(long, required = true)]
    pid: Vec<Process>,
    /// The server answers a fixed string: do not look for the id of the call in it
    #[arg(long)]
    fixed: bool,
    /// Offer compression, insist on it and compress every call
    #[arg(long)]
    compress: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One call after another from each station
    Calls {
        /// As many at each server that does not say otherwise
        #[arg(long)]
        stations: usize,
        /// So many calls at a time, each of the station that has been without one for longest: none given, one of each station
        #[arg(long)]
        at_once: Option<usize>,
        /// Measured of each server, after a second of warming up
        #[arg(long)]
        seconds: f64,
        /// In so many turns: the servers are called by turns, and idle between them
        #[arg(long, default_value_t = 1)]
        turns: u32,
        /// Another server that has turns, as ADDRESS=PID or ADDRESS=gateway:PID,worker:PID, with `+fixed`, `+compress` or
        /// `+stations:NUMBER` behind it where that holds
        #[arg(long)]
        beside: Vec<Beside>,
    },
    /// Calls at random times, as many a second as are asked for, whatever becomes of those before
    Open {
        #[arg(long)]
        stations: usize,
        #[arg(long)]
        per_second: f64,
        /// Measured after a second of warming up
        #[arg(long)]
        seconds: u64,
    },
    /// Connections and the answers to their BootNotifications
    Boots {
        /// As many at each server
        #[arg(long)]
        stations: usize,
        /// So often, after once to warm up: they come to the servers by turns
        #[arg(long, default_value_t = 1)]
        turns: usize,
        /// Another server that has turns, as with the calls
        #[arg(long)]
        beside: Vec<Beside>,
    },
    /// Memory of connections that do nothing
    Idle {
        #[arg(long)]
        connections: usize,
        /// Then this many calls of each, and the memory again
        #[arg(long)]
        calls: usize,
    },
}

fn main() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().event_interval(TASKS_PER_LOOK).build()?;
    runtime.block_on(play())
}

/// How many tasks run between two looks at the sockets.
const TASKS_PER_LOOK: u32 = 16;

async fn play() -> Result<()> {
    let Arguments { server, pid, fixed, compress, what } = Arguments::parse();
    let server = Server { address: server, fixed, compress };
    let result = match what {
        What::Calls { stations, at_once, seconds, turns, beside } => {
            let all = Called::all(server, pid, beside, stations);
            calls(&all, at_once, turns, Duration::from_secs_f64(seconds / f64::from(turns))).await?
        }
        What::Open { stations, per_second, seconds } => {
            open(server, &pid, stations, per_second, Duration::from_secs(seconds)).await?
        }
        What::Boots { stations, turns, beside } => {
            boots(&Called::all(server, pid, beside, stations), turns).await?
        }
        What::Idle { connections, calls } => idle(server, pid[0].pid, connections, calls).await?,
    };
    println!("{result}");
    Ok(())
}

const CONNECTING_AT_ONCE: usize = 64;
const CALLING_AT_ONCE: usize = 64;
const WARM_UP: Duration = Duration::from_secs(1);

/// Whom the stations talk to, and how.
#[derive(Clone, Copy, Debug)]
struct Server {
    address: SocketAddr,
    fixed: bool,
    compress: bool,
}

/// A server that is called, the processes that it is, and how many stations it has.
struct Called {
    server: Server,
    processes: Vec<Process>,
    stations: usize,
}

impl Called {
    fn all(server: Server, processes: Vec<Process>, beside: Vec<Beside>, stations: usize) -> Vec<Self> {
        let beside = beside.into_iter().map(|one| Self {
            server: one.server,
            processes: one.processes,
            stations: one.stations.unwrap_or(stations),
        });
        [Self { server, processes, stations }].into_iter().chain(beside).collect()
    }
}

/// What the tasks of all stations look at.
#[derive(Default)]
struct Turns {
    /// Whose stations call.
    whose: Cell<Turn>,
    changed: Notify,
    /// Open calls.
    calling: Cell<usize>,
    measuring: Cell<bool>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Nobody,
    Server(usize),
    Over,
}

impl Turns {
    fn change(&self, whose: Turn) {
        self.whose.set(whose);
        self.changed.notify_waiters();
    }

    /// Lets the stations of one server call for a while, and waits for their last answers.
    async fn of(&self, server: usize, time: Duration) {
        self.change(Turn::Server(server));
        tokio::time::sleep(time).await;
        self.change(Turn::Nobody);
        while self.calling.get() > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// One call after another, each of the station that has waited for longest, while their server has its turn.
    async fn take_part(
        &self,
        server: usize,
        stations: &RefCell<VecDeque<Station>>,
        latencies: &Latencies,
    ) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            match self.whose.get() {
                Turn::Server(whose) if whose == server => {
                    let mut station =
                        stations.borrow_mut().pop_front().context("more calls than stations")?;
                    self.calling.set(self.calling.get() + 1);
                    let begun = Instant::now();
                    let answered = station.call().await;
                    self.calling.set(self.calling.get() - 1);
                    stations.borrow_mut().push_back(station);
                    answered?;
                    if self.measuring.get() {
                        let micros = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
                        latencies.borrow_mut().push(micros);
                    }
                }
                Turn::Over => return Ok(()),
                _ => changed.await,
            }
        }
    }
}

type Latencies = RefCell<Vec<u32>>;

/// A machine that is busy with others may have had no time for us in a whole turn. Then it is a longer one.
const TURN_TRIES_MAX: u32 = 100;

/// The servers have turns, so that whatever else this machine does meets all of them. A turn ends with its last answer:
/// what was used in it is what its calls have cost. What is told is the median of the turns.
async fn calls(
    all: &[Called],
    at_once: Option<usize>,
    turns: u32,
    turn: Duration,
) -> Result<serde_json::Value> {
    let state = Rc::new(Turns::default());
    let latencies: Vec<Rc<Latencies>> = all.iter().map(|_| Rc::default()).collect();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let mut tasks = JoinSet::new();
            let awake = tokio::task::spawn_local(never_sleep());
            for (number, (called, latencies)) in all.iter().zip(&latencies).enumerate() {
                let stations =
                    Rc::new(RefCell::new(VecDeque::from(begin(called.server, called.stations).await?)));
                for _ in 0..at_once.map_or(called.stations, |most| most.min(called.stations)) {
                    let (state, latencies) = (Rc::clone(&state), Rc::clone(latencies));
                    let stations = Rc::clone(&stations);
                    tasks.spawn_local(async move { state.take_part(number, &stations, &latencies).await });
                }
                state.of(number, WARM_UP).await;
            }
            state.measuring.set(true);
            let mut costs = vec![Vec::new(); all.len()];
            let mut took = vec![(Used::none(), Duration::ZERO); all.len()];
            for _ in 0..turns {
                for (number, called) in all.iter().enumerate() {
                    let before = latencies[number].borrow().len();
                    let (used, begun) = (Used::by(&called.processes)?, Instant::now());
                    let mut count = 0;
                    for _ in 0..TURN_TRIES_MAX {
                        state.of(number, turn).await;
                        if let Some(ended) = tasks.try_join_next() {
                            ended.context("a station broke off")??;
                        }
                        count = latencies[number].borrow().len() - before;
                        if count > 0 {
                            break;
                        }
                    }
                    ensure!(count > 0, "not one call was answered");
                    let used = used.since(&called.processes)?;
                    costs[number].push(used.sum().as_secs_f64() * 1e6 / count as f64);
                    took[number].0.add(&used);
                    took[number].1 += begun.elapsed();
                }
            }
            state.change(Turn::Over);
            while let Some(ended) = tasks.join_next().await {
                ended.context("a station broke off")??;
            }
            awake.abort();
            let mut told: Vec<_> = all
                .iter()
                .zip(latencies)
                .zip(took.into_iter().zip(costs))
                .map(|((called, latencies), ((used, took), costs))| {
                    let mut told = told(&mut latencies.borrow_mut(), &used, &called.processes, took)?;
                    told["server_us_per_call"] = json!(median(&costs));
                    told["us_per_call_by_turn"] = json!(costs);
                    anyhow::Ok(told)
                })
                .collect::<Result<_>>()?;
            Ok(if all.len() == 1 { told.swap_remove(0) } else { json!(told) })
        })
        .await
}

fn median(numbers: &[f64]) -> f64 {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

/// Calls that begin at times of their own. How long each takes counts from then, so that a server that is slow for a moment
/// cannot keep others from being counted as slow.
async fn open(
    server: Server,
    processes: &[Process],
    stations: usize,
    per_second: f64,
    measured: Duration,
) -> Result<serde_json::Value> {
    let latencies = Rc::new(RefCell::new(Vec::<u32>::new()));
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let free = Rc::new(RefCell::new(VecDeque::from(begin(server, stations).await?)));
            let mut tasks = JoinSet::new();
            let mut times = Times::new(per_second);
            let begun = Instant::now();
            let (mut used, mut measuring) = (None, false);
            let mut waiting = VecDeque::new();
            while begun.elapsed() < WARM_UP + measured {
                if used.is_none() && begun.elapsed() >= WARM_UP {
                    used = Some((Used::by(processes)?, Instant::now()));
                    measuring = true;
                }
                while let Some(due) = times.next_until(begun.elapsed()) {
                    waiting.push_back((begun + due, measuring));
                }
                // Each in its turn, so that none is fresher in a cache than it would be among so many.
                while let Some((due, counts)) = waiting.pop_front() {
                    let Some(mut station) = free.borrow_mut().pop_front() else {
                        waiting.push_front((due, counts));
                        break;
                    };
                    let (free, latencies) = (Rc::clone(&free), Rc::clone(&latencies));
                    tasks.spawn_local(async move {
                        station.call().await?;
                        if counts {
                            let micros = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
                            latencies.borrow_mut().push(micros);
                        }
                        free.borrow_mut().push_back(station);
                        anyhow::Ok(())
                    });
                }
                while let Some(ended) = tasks.try_join_next() {
                    ended.context("a station broke off")??;
                }
                // Never asleep, see `never_sleep`; and never late.
                tokio::task::yield_now().await;
            }
            let (used, since) = used.context("it ended before it was warm")?;
            let (used, took) = (used.since(processes)?, since.elapsed());
            while let Some(ended) = tasks.join_next().await {
                ended.context("a station broke off")??;
            }
            told(&mut latencies.borrow_mut(), &used, processes, took)
        })
        .await
}

/// Stations that have begun their transactions.
async fn begin(server: Server, count: usize) -> Result<Vec<Station>> {
    let mut stations = connect(server, count).await?;
    for some in stations.chunks_mut(CONNECTING_AT_ONCE) {
        futures_util::future::try_join_all(some.iter_mut().map(Station::start)).await?;
    }
    Ok(stations)
}

/// A thread that sleeps is woken by the server's write, at the server's cost: more often the slower the server is. The
/// stations of the benchmark never sleep, so that all servers pay for the same.
async fn never_sleep() -> ! {
    loop {
        tokio::task::yield_now().await;
    }
}

/// What came of calls.
fn told(
    latencies: &mut [u32],
    used: &Used,
    processes: &[Process],
    took: Duration,
) -> Result<serde_json::Value> {
    ensure!(!latencies.is_empty(), "not one call was answered");
    latencies.sort_unstable();
    let count = latencies.len();
    let at = |share: f64| latencies[((count - 1) as f64 * share) as usize];
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    let mut result = json!({
        "calls": count,
        "calls_per_second": count as f64 / took.as_secs_f64(),
        "server_us_per_call": each(used.sum()),
        "server_busy": used.sum().as_secs_f64() / took.as_secs_f64(),
        "p50_us": at(0.5),
        "p99_us": at(0.99),
    });
    for (process, used) in processes.iter().zip(&used.0) {
        if let Some(name) = &process.name {
            result[format!("{name}_us_per_call")] = json!(each(*used));
        }
    }
    Ok(result)
}

/// Stations that come all at once, as fast as they are taken, and as after a cut of the network: they were here before, so that
/// the servers have the memory for them. Fresh memory costs a virtual machine so much, and now more and now less, that there
/// would be little else to see. The servers have turns.
async fn boots(all: &[Called], turns: usize) -> Result<serde_json::Value> {
    let mut told: Vec<[Vec<f64>; 2]> = all.iter().map(|_| Default::default()).collect();
    for turn in 0..=turns {
        let mut order: Vec<_> = all.iter().zip(&mut told).collect();
        // Nobody is always behind the same one.
        if turn % 2 == 1 {
            order.reverse();
        }
        for (called, [per_second, micros]) in order {
            let (used, begun) = (Used::by(&called.processes)?, Instant::now());
            let booted = boot(called.server, called.stations).await?;
            let (took, used) = (begun.elapsed(), used.since(&called.processes)?);
            drop(booted);
            settle(called.processes[0].pid).await?;
            if turn > 0 {
                per_second.push(called.stations as f64 / took.as_secs_f64());
                micros.push(used.sum().as_secs_f64() * 1e6 / called.stations as f64);
            }
        }
    }
    let mut told: Vec<_> = all
        .iter()
        .zip(told)
        .map(|(called, [per_second, micros])| {
            json!({
                "stations": called.stations,
                "booted_per_second": median(&per_second),
                "booted_per_second_by_turn": per_second,
                "server_us_each": median(&micros),
            })
        })
        .collect();
    Ok(if all.len() == 1 { told.swap_remove(0) } else { json!(told) })
}

async fn boot(server: Server, stations: usize) -> Result<Vec<Vec<Station>>> {
    let next = Cell::new(0);
    let lanes = (0..CONNECTING_AT_ONCE).map(async |_| {
        let mut booted = Vec::new();
        while next.get() < stations {
            let number = next.replace(next.get() + 1);
            let mut station = Station::connect(server, number).await?;
            station.boot().await?;
            booted.push(station);
        }
        anyhow::Ok(booted)
    });
    tokio::select! {
        all = futures_util::future::try_join_all(lanes) => all,
        never = never_sleep() => never,
    }
}

async fn idle(server: Server, pid: u32, connections: usize, calls: usize) -> Result<serde_json::Value> {
    // The first connections make the server allocate what it needs once.
    drop(connect(server, CONNECTING_AT_ONCE).await?);
    settle(pid).await?;
    let before = resident_bytes(pid)?;
    let begun = Instant::now();
    let mut stations = connect(server, connections).await?;
    let connected_per_second = connections as f64 / begun.elapsed().as_secs_f64();
    settle(pid).await?;
    let fresh = resident_bytes(pid)?;
    for chunk in stations.chunks_mut(CALLING_AT_ONCE) {
        futures_util::future::try_join_all(chunk.iter_mut().map(async |station| {
            for _ in 0..calls {
                station.call().await?;
            }
            anyhow::Ok(())
        }))
        .await?;
    }
    settle(pid).await?;
    let after = resident_bytes(pid)?;
    let each = |bytes: u64| bytes.saturating_sub(before) as f64 / connections as f64;
    Ok(json!({
        "connections": connections,
        "calls_of_each": calls,
        "bytes_before": before,
        "bytes_each_fresh": each(fresh),
        "bytes_each_after_calls": each(after),
        "connected_per_second": connected_per_second,
    }))
}

/// Waits until the server does no more than to ping its stations now and then.
async fn settle(pid: u32) -> Result<()> {
    let mut last = cpu_time(pid)?;
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = cpu_time(pid)?;
        if now.saturating_sub(last) < Duration::from_millis(15) {
            return Ok(());
        }
        last = now;
    }
    bail!("the server does not come to rest")
}

async fn connect(server: Server, count: usize) -> Result<Vec<Station>> {
    let mut stations = Vec::with_capacity(count);
    for first in (0..count).step_by(CONNECTING_AT_ONCE) {
        let some = first..count.min(first + CONNECTING_AT_ONCE);
        stations.extend(
            futures_util::future::try_join_all(some.map(|number| Station::connect(server, number))).await?,
        );
    }
    Ok(stations)
}

struct Station {
    stream: TcpStream,
    /// The kinds of frames with room for an id, unmasked, and where their time stands.
    templates: [(Vec<u8>, Option<usize>); 5],
    number: usize,
    calls: usize,
    fixed: bool,
    compress: bool,
    out: Vec<u8>,
    input: Vec<u8>,
    /// How much of it was the last answer.
    taken: usize,
}

/// Sixteen MeterValues, three Heartbeats and one StatusNotification, spread out.
const MIX: [usize; 20] = [0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0];

/// Which of the templates is the BootNotification.
const BOOT: usize = 3;

/// And which the StartTransaction.
const START: usize = 4;

/// Behind the date.
const TIME_OF_DAY_AT: usize = "2026-11-22T".len();

/// Begins a CALL: `[2,"` and then the id.
const ID_AT: usize = 4;

impl Station {
    async fn connect(server: Server, number: usize) -> Result<Self> {
        let Server { address: server, fixed, compress, .. } = server;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // Several source addresses, so that ports of closed connections are not in the way.
        let source = SocketAddr::from((Ipv4Addr::new(127, 0, 1, (number % 250) as u8 + 1), 0));
        socket.bind(&source.into())?;
        let stream = tokio::net::TcpSocket::from_std_stream(socket.into());
        let mut stream = stream.connect(server).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET /ocpp/BENCH-{number:06} HTTP/1.1\r\nHost: {server}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: ocpp1.6\r\n{}\r\n",
            if compress { format!("Sec-WebSocket-Extensions: {}\r\n", offer::OFFER) } else { String::new() }
        );
        stream.write_all(request.as_bytes()).await?;
        // A server says nothing more before it is called, so that nothing behind the head can be read with it.
        let mut answer = Vec::with_capacity(512);
        while !answer.ends_with(b"\r\n\r\n") {
            ensure!(stream.read_buf(&mut answer).await? > 0, "closed instead of answering");
        }
        ensure!(
            answer.starts_with(b"HTTP/1.1 101"),
            "not upgraded: {}",
            String::from_utf8_lossy(&answer).lines().next().unwrap_or_default()
        );
        let granted = String::from_utf8_lossy(&answer).contains(offer::OFFER);
        ensure!(granted == compress, "compression was not granted");
        let frame = |action: &str, payload: &str| {
            let text = format!(r#"[2,"{}","{action}",{payload}]"#, "0".repeat(ID_LENGTH));
            let time = text.find(TIME);
            (text.into_bytes(), time)
        };
        let templates = [
            frame("MeterValues", METER_VALUES),
            frame("Heartbeat", "{}"),
            frame("StatusNotification", STATUS_NOTIFICATION),
            frame("BootNotification", BOOT_NOTIFICATION),
            frame("StartTransaction", START_TRANSACTION),
        ];
        Ok(Self {
            stream,
            templates,
            number,
            calls: 0,
            fixed,
            compress,
            out: Vec::new(),
            input: Vec::new(),
            taken: 0,
        })
    }

    /// Begins the transaction that its meter values belong to: whoever keeps books looks for it.
    async fn start(&mut self) -> Result<()> {
        if self.fixed {
            return Ok(());
        }
        let answer = self.exchange(START).await?;
        let answer = String::from_utf8_lossy(&self.input[answer]).into_owned();
        let id = answer.split("\"transactionId\":").nth(1).context("no transactionId")?;
        let id: String = id.trim_start().chars().take_while(char::is_ascii_digit).collect();
        ensure!(!id.is_empty(), "an odd transactionId: {answer}");
        let (frame, time) = &mut self.templates[0];
        let text = String::from_utf8_lossy(frame).replace(TRANSACTION_ID, &id);
        *time = text.find(TIME);
        *frame = text.into_bytes();
        Ok(())
    }

    /// Sends one call and waits for its answer.
    async fn call(&mut self) -> Result<()> {
        self.exchange(MIX[(self.number + self.calls) % MIX.len()]).await?;
        Ok(())
    }

    /// Boots and waits for the answer.
    async fn boot(&mut self) -> Result<()> {
        self.exchange(BOOT).await?;
        Ok(())
    }

    /// Sends a call; where its answer is in the input.
    async fn exchange(&mut self, kind: usize) -> Result<Range<usize>> {
        let id = format!("{:08x}-0000-4000-8000-{:012x}", self.number, self.calls);
        self.calls += 1;
        let (frame, time) = &mut self.templates[kind];
        frame[ID_AT..ID_AT + ID_LENGTH].copy_from_slice(id.as_bytes());
        if let Some(at) = *time {
            // Whoever knows what was said before takes a time that was seen already for a repeat.
            let (seconds, milliseconds) = (self.calls / 1000 % 60, self.calls % 1000);
            let (hours, minutes) = (self.calls / 3_600_000 % 24, self.calls / 60_000 % 60);
            let now = format!("{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03}");
            frame[at + TIME_OF_DAY_AT..at + TIME_OF_DAY_AT + now.len()].copy_from_slice(now.as_bytes());
        }
        let compressed = if self.compress { POOL.deflate(frame, 15) } else { None };
        match &compressed {
            Some(payload) => mask_into(&mut self.out, 0xc1, payload),
            None => mask_into(&mut self.out, 0x81, frame),
        }
        self.stream.write_all(&self.out).await?;
        self.read_answer(id.as_bytes()).await
    }

    async fn read_answer(&mut self, id: &[u8]) -> Result<Range<usize>> {
        self.input.drain(..std::mem::take(&mut self.taken));
        loop {
            while let Some((opcode, payload)) = first_frame(&self.input) {
                let end = payload.end;
                match opcode {
                    TEXT => {
                        let text = &self.input[payload.clone()];
                        let is_answer = text.starts_with(br#"[3,""#);
                        let for_us = self.fixed || text.get(ID_AT..ID_AT + ID_LENGTH) == Some(id);
                        ensure!(is_answer && for_us, "an odd answer: {}", String::from_utf8_lossy(text));
                        self.taken = end;
                        return Ok(payload);
                    }
                    PING => {
                        self.input.drain(..end);
                        self.stream.write_all(&EMPTY_PONG).await?;
                    }
                    other => bail!("an unexpected frame of type {other}"),
                }
            }
            self.input.reserve(512);
            ensure!(self.stream.read_buf(&mut self.input).await? > 0, "the server closed the connection");
        }
    }
}

/// All stations are on one thread.
static POOL: Pool = Pool::new(1);
const TEXT: u8 = 1;
const PING: u8 = 9;
const EMPTY_PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// A client's frame.
fn mask_into(out: &mut Vec<u8>, first: u8, text: &[u8]) {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    out.clear();
    out.push(first);
    if text.len() < 126 {
        out.push(0x80 | text.len() as u8);
    } else {
        out.push(0x80 | 126);
        out.extend((text.len() as u16).to_be_bytes());
    }
    out.extend(KEY);
    out.extend(text.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// Opcode and place of the payload of the first frame of a server, if it is whole.
fn first_frame(input: &[u8]) -> Option<(u8, Range<usize>)> {
    let opcode = input.first()? & 0x0f;
    let (header, length) = match *input.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?]))),
        length => (2, usize::from(length)),
    };
    (input.len() >= header + length).then_some((opcode, header..header + length))
}

/// A process of the server.
#[derive(Clone, Debug)]
struct Process {
    name: Option<String>,
    pid: u32,
}

impl FromStr for Process {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let (name, pid) = text.split_once('=').map_or((None, text), |(name, pid)| (Some(name), pid));
        Ok(Self { name: name.map(str::to_owned), pid: pid.parse()? })
    }
}

/// A server beside the first.
#[derive(Clone, Debug)]
struct Beside {
    server: Server,
    processes: Vec<Process>,
    stations: Option<usize>,
}

impl FromStr for Beside {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('+');
        let place = parts.next().unwrap_or_default();
        let (address, processes) = place.split_once('=').context("it is to be ADDRESS=PID")?;
        let mut server = Server { address: address.parse()?, fixed: false, compress: false };
        let processes = processes.split(',').map(|one| one.replace(':', "=").parse());
        let processes = processes.collect::<std::result::Result<_, _>>()?;
        let mut stations = None;
        for part in parts {
            match part {
                "fixed" => server.fixed = true,
                "compress" => server.compress = true,
                other => match other.strip_prefix("stations:") {
                    Some(number) => stations = Some(number.parse()?),
                    None => bail!("`{other}` is neither `fixed` nor `compress` nor `stations:NUMBER`"),
                },
            }
        }
        Ok(Self { server, processes, stations })
    }
}

/// What each process has used.
#[derive(Clone)]
struct Used(Vec<Duration>);

impl Used {
    const fn none() -> Self {
        Self(Vec::new())
    }

    fn add(&mut self, more: &Self) {
        self.0.resize(more.0.len(), Duration::ZERO);
        for (sum, more) in self.0.iter_mut().zip(&more.0) {
            *sum += *more;
        }
    }

    fn by(processes: &[Process]) -> Result<Self> {
        processes.iter().map(|process| cpu_time(process.pid)).collect::<Result<_>>().map(Self)
    }

    /// What they have used since.
    fn since(&self, processes: &[Process]) -> Result<Self> {
        let now = Self::by(processes)?;
        Ok(Self(now.0.iter().zip(&self.0).map(|(now, then)| now.saturating_sub(*then)).collect()))
    }

    fn sum(&self) -> Duration {
        self.0.iter().sum()
    }
}

/// All that the threads of a process have run, in nanoseconds from the scheduler's own books.
fn cpu_time(pid: u32) -> Result<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the server is gone")? {
        let schedstat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        sum += schedstat.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum))
}

fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the server is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")?;
    Ok(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_with_six_values_has_the_size_that_the_figures_name() {
        let id = "0".repeat(ID_LENGTH);
        assert_eq!(format!(r#"[2,"{id}","MeterValues",{METER_VALUES}]"#).len(), 942);
    }

    #[test]
    fn a_server_beside_the_first_says_where_and_what_it_is() {
        let beside: Beside = "127.0.0.1:80=7+compress".parse().unwrap();
        assert_eq!((beside.server.address.port(), beside.processes[0].pid, beside.stations), (80, 7, None));
        assert!(beside.server.compress && !beside.server.fixed);
        let beside: Beside = "127.0.0.1:80=gateway:7,worker:8+fixed+stations:9".parse().unwrap();
        let processes: Vec<_> =
            beside.processes.iter().map(|one| (one.name.as_deref().unwrap_or_default(), one.pid)).collect();
        assert_eq!((processes, beside.stations), (vec![("gateway", 7), ("worker", 8)], Some(9)));
        for odd in [
            "127.0.0.1:80",
            "127.0.0.1=7",
            "127.0.0.1:80=7+other",
            "127.0.0.1:80=x",
            "127.0.0.1:80=7+stations:",
        ] {
            assert!(odd.parse::<Beside>().is_err(), "{odd}");
        }
    }

    #[test]
    fn frames_are_taken_one_by_one() {
        assert_eq!(first_frame(&[0x89, 0, 0x81, 1, b'x']), Some((PING, 2..2)));
        assert_eq!(first_frame(&[0x81, 2, b'x']), None);
    }
}
