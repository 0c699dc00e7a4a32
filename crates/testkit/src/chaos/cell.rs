//! The cells of the matrix: which fault on which bus, and what may come of it.

use std::time::Duration;

/// What lies between gateway and processing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bus {
    /// Everything in one process.
    Embedded,
    /// NATS.
    Nats,
    /// RabbitMQ.
    Amqp,
    /// MQTT 5.
    Mqtt,
    /// HTTP.
    Http,
    /// MQTT with raw frames.
    Bare,
}

impl Bus {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 6] = [Self::Embedded, Self::Nats, Self::Amqp, Self::Mqtt, Self::Http, Self::Bare];

    /// Its name on the command line and in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Nats => "nats",
            Self::Amqp => "amqp",
            Self::Mqtt => "mqtt",
            Self::Http => "http",
            Self::Bare => "bare",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bus| bus.name() == name)
    }
}

/// Two that talk to each other over a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// The gateways and the broker.
    GatewayBroker,
    /// The workers and the broker.
    WorkerBroker,
    /// The gateways and the directory.
    GatewayDirectory,
    /// The workers and the directory.
    WorkerDirectory,
    /// The workers and the books.
    WorkerDatabase,
}

/// What befalls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One worker is killed, and another one comes three seconds later.
    WorkerKill,
    /// One worker stops in the middle of whatever it does, and goes on ten seconds later.
    WorkerFreeze,
    /// All workers are replaced, one after the other.
    WorkersRolling,
    /// All workers are killed, and come back after so many seconds.
    WorkersAway(u64),
    /// The broker is restarted.
    BrokerRestart,
    /// The broker is killed, and comes back two seconds later.
    BrokerKill,
    /// One of two gateways is killed.
    GatewayKill,
    /// Connections break and none can be made.
    Cut(Pair),
    /// Not a byte arrives, and no connection breaks.
    Hold(Pair),
    /// Everything takes longer.
    Delay(Pair),
    /// The directory's database is restarted.
    DirectoryRestart,
    /// The clock of one worker is wrong by so many hours.
    Clock(i8),
}

/// A row of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Its name.
    pub name: &'static str,
    /// What befalls them, in words.
    pub about: &'static str,
    /// What befalls them.
    pub fault: Fault,
}

/// What lasts so long may take calls past their deadlines, 30 s, once everybody has found the way back.
const LONG: Duration = Duration::from_secs(21);
/// How long lines stay cut or held.
pub(super) const BROKEN: Duration = Duration::from_secs(8);
/// How long they are slow.
pub(super) const SLOW: Duration = Duration::from_secs(10);
/// How slow.
pub(super) const DELAY: Duration = Duration::from_millis(300);

const fn cell(name: &'static str, about: &'static str, fault: Fault) -> Cell {
    Cell { name, about, fault }
}

/// All cells.
pub const CELLS: [Cell; 26] = [
    cell("worker-kill", "a worker is killed", Fault::WorkerKill),
    cell("worker-freeze", "a worker is frozen for 10 s and goes on", Fault::WorkerFreeze),
    cell("workers-rolling", "all workers are replaced, one by one", Fault::WorkersRolling),
    cell("workers-away-20s", "all workers are gone for 20 s", Fault::WorkersAway(20)),
    cell("workers-away-90s", "all workers are gone for 90 s", Fault::WorkersAway(90)),
    cell("broker-restart", "the broker is restarted", Fault::BrokerRestart),
    cell("broker-kill", "the broker is killed and away for 2 s", Fault::BrokerKill),
    cell("gateway-kill", "a gateway is killed, another stands", Fault::GatewayKill),
    cell("directory-restart", "the directory is restarted", Fault::DirectoryRestart),
    cell("cut-gateway-broker", "gateway and broker: cut for 8 s", Fault::Cut(Pair::GatewayBroker)),
    cell("hold-gateway-broker", "gateway and broker: silence for 8 s", Fault::Hold(Pair::GatewayBroker)),
    cell("delay-gateway-broker", "gateway and broker: 300 ms slower", Fault::Delay(Pair::GatewayBroker)),
    cell("cut-worker-broker", "workers and broker: cut for 8 s", Fault::Cut(Pair::WorkerBroker)),
    cell("hold-worker-broker", "workers and broker: silence for 8 s", Fault::Hold(Pair::WorkerBroker)),
    cell("delay-worker-broker", "workers and broker: 300 ms slower", Fault::Delay(Pair::WorkerBroker)),
    cell("cut-gateway-directory", "gateway and directory: cut for 8 s", Fault::Cut(Pair::GatewayDirectory)),
    cell(
        "hold-gateway-directory",
        "gateway and directory: silence for 8 s",
        Fault::Hold(Pair::GatewayDirectory),
    ),
    cell(
        "delay-gateway-directory",
        "gateway and directory: 300 ms slower",
        Fault::Delay(Pair::GatewayDirectory),
    ),
    cell("cut-worker-directory", "workers and directory: cut for 8 s", Fault::Cut(Pair::WorkerDirectory)),
    cell(
        "hold-worker-directory",
        "workers and directory: silence for 8 s",
        Fault::Hold(Pair::WorkerDirectory),
    ),
    cell("cut-worker-database", "workers and books: cut for 8 s", Fault::Cut(Pair::WorkerDatabase)),
    cell("hold-worker-database", "workers and books: silence for 8 s", Fault::Hold(Pair::WorkerDatabase)),
    cell("delay-worker-database", "workers and books: 300 ms slower", Fault::Delay(Pair::WorkerDatabase)),
    cell(
        "delay-worker-directory",
        "workers and directory: 300 ms slower",
        Fault::Delay(Pair::WorkerDirectory),
    ),
    cell("clock-ahead", "a worker's clock is an hour ahead", Fault::Clock(1)),
    cell("clock-behind", "a worker's clock is an hour behind", Fault::Clock(-1)),
];

impl Cell {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        CELLS.into_iter().find(|cell| cell.name == name)
    }

    /// Why there is no such cell on a bus; none if there is.
    #[must_use]
    pub fn why_not(&self, bus: Bus) -> Option<&'static str> {
        match (bus, self.fault) {
            (Bus::Embedded, Fault::GatewayKill | Fault::WorkerFreeze) => None,
            (Bus::Embedded, _) => Some("all of it is one process"),
            (Bus::Http, Fault::BrokerRestart | Fault::BrokerKill) => Some("there is no broker"),
            (
                Bus::Bare,
                Fault::Cut(Pair::WorkerDirectory)
                | Fault::Hold(Pair::WorkerDirectory)
                | Fault::Delay(Pair::WorkerDirectory),
            ) => Some("functions of others know no directory"),
            (
                Bus::Bare,
                Fault::Cut(Pair::WorkerDatabase)
                | Fault::Hold(Pair::WorkerDatabase)
                | Fault::Delay(Pair::WorkerDatabase),
            ) => Some("what a function stores is its own affair"),
            (Bus::Bare, Fault::Clock(_)) => Some("nobody asks a function what time it is"),
            _ => None,
        }
    }

    /// Whether it is promised how long a call may wait for its answer.
    #[must_use]
    pub fn is_measured(&self, bus: Bus) -> bool {
        self.allowed(bus, Duration::ZERO).gap_max.is_some()
    }

    /// What may come of it on a bus where it lasted so long; everything else may not.
    pub(super) fn allowed(&self, bus: Bus, lasted: Duration) -> Allowed {
        let mut allowed = Allowed::default();
        match self.fault {
            Fault::GatewayKill => allowed.closed.push(ABNORMAL),
            Fault::WorkersAway(seconds) if seconds >= 25 => allowed.deadlines(),
            // On any other bus it is handed over again.
            Fault::WorkerKill if bus != Bus::Bare => allowed.gap_max = Some(Duration::from_millis(1500)),
            // RabbitMQ itself needs about as long to begin as an answer may take, and longer on a busy machine.
            Fault::BrokerRestart | Fault::BrokerKill if lasted >= LONG => allowed.deadlines(),
            _ => {}
        }
        if bus == Bus::Bare {
            match self.fault {
                // What nobody knows to be lost is not handed over again, and its deadline passes.
                Fault::WorkerKill | Fault::WorkersAway(..25) => allowed.deadlines(),
                // Stations that are not let in while nobody answers are not listened for either.
                Fault::WorkersAway(_) => allowed.silent = true,
                Fault::BrokerRestart | Fault::BrokerKill | Fault::Cut(Pair::GatewayBroker) => {
                    allowed.deadlines();
                    allowed.silent = true;
                }
                Fault::GatewayKill => allowed.silent = true,
                _ => {}
            }
        }
        allowed
    }
}

/// What may come of a cell.
#[derive(Debug, Default)]
pub(super) struct Allowed {
    /// The codes with which sockets may close: only where the gateway itself dies, or calls about money pass their deadline.
    pub(super) closed: Vec<u16>,
    /// Whether calls may be answered with an error, if they are not about money: at their deadline.
    pub(super) refused: bool,
    /// Whether a command may be lost without a word.
    pub(super) silent: bool,
    /// The longest that a call may wait for its answer; none where that is not promised.
    pub(super) gap_max: Option<Duration>,
}

impl Allowed {
    /// Calls may pass their deadlines.
    fn deadlines(&mut self) {
        self.closed.push(TRY_AGAIN_LATER);
        self.refused = true;
    }
}

/// How a connection ends, for whoever is left, when the other side dies.
pub(super) const ABNORMAL: u16 = 1006;
/// How the gateway ends one whose call must be kept by the station.
pub(super) const TRY_AGAIN_LATER: u16 = 1013;
