//! The bus against real servers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures_util::future::BoxFuture;
use std::{
    num::NonZeroU32,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use switchboard_bus::{
    Address, Bus, Connect, ConnectError, ConnectionKey, Consumer, Done, Envelope, Kind, Metadata,
    OutcomeKind, Secret, State, Subscription, Topic,
    conformance::{Broker, Connecting, Harness, Recorder, Servant},
};
use switchboard_bus_nats::Nats;
use switchboard_nats::{Line, Message, Taker, Writer};
use switchboard_rpc::StationId;
use switchboard_testkit::{Proxy, servers::Nats as Server, wait};
use tokio::sync::{Mutex, OnceCell};

/// The server that all tests share which do not kill it; none if they have to be skipped.
async fn server() -> Option<&'static Server> {
    static SERVER: OnceCell<Option<Server>> = OnceCell::const_new();
    let server = SERVER.get_or_init(async || Server::start("the bus over NATS").await.unwrap());
    server.await.as_ref()
}

/// An installation of its own at this server.
fn to(url: &str) -> Connect {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Connect { namespace: format!("test-{}-{number}", std::process::id()).into(), ..Connect::to(url) }
}

fn begin(connect: &Connect) -> Arc<dyn Bus> {
    let participant = Connect::to("").participant;
    Arc::new(Nats::connect(Connect { participant, ..connect.clone() }).unwrap())
}

async fn connected(connect: &Connect) -> Arc<dyn Bus> {
    let bus = begin(connect);
    becomes(&bus, State::Connected).await;
    bus
}

async fn becomes(bus: &Arc<dyn Bus>, state: State) {
    let mut states = bus.state();
    let became = tokio::time::timeout(wait::DEADLINE, states.wait_for(|present| *present == state)).await;
    drop(became.unwrap().unwrap());
}

mod promises {
    use super::*;

    switchboard_bus::bus_conformance!({
        let Some(server) = server().await else { return };
        let connect = to(&server.url());
        Connecting(move || {
            let connect = connect.clone();
            async move { connected(&connect).await }
        })
    });
}

/// A server that a test has to itself.
#[derive(Debug)]
struct Own {
    server: Mutex<Server>,
    connect: Connect,
}

impl Own {
    async fn start() -> Option<Self> {
        let server = Server::start("a NATS server that comes and goes").await.unwrap()?;
        Some(Self { connect: to(&server.url()), server: Mutex::new(server) })
    }
}

impl Harness for Own {
    fn connect(&self) -> BoxFuture<'_, Arc<dyn Bus>> {
        Box::pin(async { begin(&self.connect) })
    }
}

impl Broker for Own {
    fn order(&self, servant: Servant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut server = self.server.lock().await;
            match servant {
                Servant::Start => server.start().await.unwrap(),
                Servant::Kill => server.kill().unwrap(),
                Servant::Stop => server.stop().unwrap(),
                Servant::Freeze => server.freeze().unwrap(),
                Servant::Thaw => server.thaw().unwrap(),
            }
        })
    }
}

mod comings_and_goings {
    use super::*;

    switchboard_bus::bus_conformance_broker!({
        let Some(own) = Own::start().await else { return };
        own
    });
}

fn call(seq: u64) -> Envelope {
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = Some(StationId::new("CP 1", 48).unwrap());
    metadata.connection = Some(ConnectionKey { gateway: "gateway-1".into(), generation: 7 });
    metadata.seq = Some(seq);
    metadata.attempt = 1;
    metadata.reply_to = Some("gateway-1".into());
    Envelope::new(metadata, format!(r#"[2,"{seq}","Heartbeat",{{}}]"#))
}

fn to_call() -> Address {
    Address::Call { tenant: "default".into(), station: StationId::new("CP 1", 48).unwrap() }
}

/// A worker that knows nothing of our headers.
struct Plain(Line);

impl Taker for Plain {
    fn take(&self, message: Message) {
        let reply = message.reply.as_deref().unwrap();
        self.0.publish(&mut Writer::new(), reply, None, br#"[3,"1",{}]"#).unwrap();
    }
}

#[tokio::test]
async fn a_worker_that_simply_responds_answers_its_call() {
    let Some(server) = server().await else { return };
    let connect = to(&server.url());
    let gateway = connected(&connect).await;
    let answers = Recorder::new();
    let _answers = answers.listen(&gateway, Topic::Inbox("gateway-1".into()), 8).await;
    let line = || Line::connect(&connect).unwrap();
    let (listens, says) = (line(), line());
    for line in [&listens, &says] {
        drop(line.state().wait_for(|state| *state == State::Connected).await.unwrap());
    }
    let calls = format!("ocpp.v1.{}.call.>", connect.namespace);
    let _calls = listens.subscribe(&calls, Some("workers"), Arc::new(Plain(says))).await.unwrap();
    for journal in [None, Some(3)] {
        let mut call = call(1);
        call.metadata.journal = journal;
        gateway.publish(to_call(), call.clone()).await.unwrap();
        let answer = &answers.wait_for(1).await[0];
        assert_eq!((answer.metadata.kind, &*answer.body), (Kind::Answer, br#"[3,"1",{}]"#.as_slice()));
        assert_eq!((&answer.metadata.station, answer.metadata.seq), (&call.metadata.station, Some(1)));
        assert_eq!(
            (&answer.metadata.connection, answer.metadata.journal),
            (&call.metadata.connection, journal)
        );
        answers.forget();
    }
}

/// A frozen process, say: the server still knows it, and it does not answer.
struct Silent;

impl Taker for Silent {
    fn take(&self, _message: Message) {}
}

#[tokio::test]
async fn an_owner_that_does_not_answer_does_not_keep_its_inbox() {
    let Some(server) = server().await else { return };
    let connect = to(&server.url());
    let line = Line::connect(&connect).unwrap();
    drop(line.state().wait_for(|state| *state == State::Connected).await.unwrap());
    let inbox = format!("ocpp.v1.{}.inbox.gateway-1.>", connect.namespace);
    let _frozen = line.subscribe(&inbox, None, Arc::new(Silent)).await.unwrap();
    let bus = connected(&connect).await;
    let recorder = Recorder::new();
    let _owner = recorder.listen(&bus, Topic::Inbox("gateway-1".into()), 8).await;
}

/// The first that answers; and when that goes, the other.
#[tokio::test]
async fn with_several_endpoints_the_one_that_is_there_is_taken() {
    let Some(server) = server().await else { return };
    let Some(mut first) = Server::start("two NATS servers").await.unwrap() else { return };
    let connect = to(&format!("nats://127.0.0.1:1,{},{}", first.url(), server.url()));
    let bus = connected(&connect).await;
    let there = connected(&Connect { urls: vec![first.url()], ..connect.clone() }).await;
    let recorder = Recorder::new();
    let _listens = recorder.listen(&bus, Topic::Inbox("gateway-1".into()), 8).await;
    there.publish(Address::Inbox("gateway-1".into()), call(1)).await.unwrap();
    recorder.wait_for(1).await;
    let other = connected(&Connect { urls: vec![server.url()], ..connect }).await;
    first.kill().unwrap();
    let wait = async {
        while recorder.count() == 1 {
            other.publish(Address::Inbox("gateway-1".into()), call(2)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(wait::DEADLINE, wait).await.unwrap();
}

#[tokio::test]
async fn s04_a_line_that_is_cut_is_made_again() {
    let Some(server) = server().await else { return };
    let proxy = Proxy::to(server.address()).await.unwrap();
    let mut connect = to(&format!("nats://{}", proxy.address()));
    let here = connected(&connect).await;
    connect.urls = vec![server.url()];
    let there = connected(&connect).await;
    let recorder = Recorder::new();
    let _listens = recorder.listen(&here, Topic::Inbox("gateway-1".into()), 8).await;
    proxy.cut();
    becomes(&here, State::Away).await;
    becomes(&here, State::Connected).await;
    there.publish(Address::Inbox("gateway-1".into()), call(1)).await.unwrap();
    assert_eq!(recorder.wait_for(1).await, [call(1)]);
}

/// Keeps the thread of the connection as long as the test likes.
#[derive(Debug)]
struct Slow(Arc<Recorder>);

impl Consumer for Slow {
    fn deliver(&self, envelope: Envelope, done: Done) {
        std::thread::sleep(Duration::from_millis(2));
        self.0.deliver(envelope, done);
    }
}

/// The trap of clients that have a queue between socket and subscriber: it overflows, and nobody knows what is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_consumer_loses_nothing() {
    let Some(server) = server().await else { return };
    let connect = to(&server.url());
    let (gateway, worker) = (connected(&connect).await, connected(&connect).await);
    let recorder = Recorder::new();
    let subscription = Subscription { topic: Topic::Calls, in_hand_max: NonZeroU32::MAX };
    let _calls = worker.subscribe(subscription, Arc::new(Slow(Arc::clone(&recorder)))).await.unwrap();
    for seq in 0..1_000 {
        gateway.publish(to_call(), call(seq)).await.unwrap();
    }
    let got = recorder.wait_for(1_000).await;
    assert!(got.iter().filter_map(|envelope| envelope.metadata.seq).eq(0..1_000), "all, and in order");
}

#[tokio::test]
async fn headers_count_towards_the_servers_limit() {
    let Some(server) = server().await else { return };
    let bus = connected(&to(&server.url())).await;
    let mut command = call(1);
    command.metadata.context = Some("x".repeat(2 * 1024 * 1024).into());
    let refused = bus.publish(Address::Inbox("gateway-1".into()), command).await;
    assert!(matches!(refused, Err(switchboard_bus::PublishError::TooLarge { .. })), "{refused:?}");
    // The connection survives it.
    bus.publish(to_call(), call(1)).await.unwrap();
    assert_eq!(*bus.state().borrow(), State::Connected);
}

#[tokio::test]
async fn what_is_no_envelope_is_counted_and_passed_over() {
    let Some(server) = server().await else { return };
    let connect = to(&server.url());
    let bus = Nats::connect(connect.clone()).unwrap();
    let line = Line::connect(&connect).unwrap();
    drop(bus.state().wait_for(|state| *state == State::Connected).await.unwrap());
    drop(line.state().wait_for(|state| *state == State::Connected).await.unwrap());
    let recorder = Recorder::new();
    let in_hand_max = NonZeroU32::MIN;
    let topic = Topic::Inbox("gateway-1".into());
    let _listens =
        bus.subscribe(Subscription { topic, in_hand_max }, Arc::<Recorder>::clone(&recorder)).await;
    let inbox = format!("ocpp.v1.{}.inbox.gateway-1", connect.namespace);
    let mut unknown = Writer::new();
    unknown.header("ocpp-kind", "nonsense");
    line.publish(&mut unknown, &inbox, None, b"{}").unwrap();
    line.publish(&mut Writer::new(), &inbox, None, b"no headers").unwrap();
    line.publish(&mut Writer::new(), &format!("{inbox}.call.default.CP1.x.y"), None, b"").unwrap();
    bus.publish(Address::Inbox("gateway-1".into()), call(1)).await.unwrap();
    assert_eq!(recorder.wait_for(1).await, [call(1)]);
    let wait = async {
        while bus.unreadable() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(wait::DEADLINE, wait).await.unwrap();
}

#[tokio::test]
async fn credentials_come_from_the_url_or_beside_it_and_wrong_ones_wait() {
    let arguments = ["--user", "me", "--pass", "se cret"];
    let Some(server) = Server::start_with("credentials at NATS", &arguments).await.unwrap() else { return };
    let address = server.address();
    let mut beside = to(&format!("nats://{address}"));
    (beside.user, beside.password) = (Some("me".to_owned()), Some(Secret::new("se cret")));
    drop(connected(&beside).await);
    let in_url = Connect {
        user: Some("other".to_owned()),
        password: Some(Secret::new("x")),
        ..to(&format!("nats://me:se%20cret@{address}"))
    };
    drop(connected(&in_url).await);
    for wrong in [format!("nats://me:wrong@{address}"), format!("nats://{address}")] {
        let bus = begin(&to(&wrong));
        let mut states = bus.state();
        let connected = states.wait_for(|state| *state == State::Connected);
        assert!(tokio::time::timeout(Duration::from_millis(300), connected).await.is_err(), "{wrong}");
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let ran = command.args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// An authority, and a certificate of it for `localhost` that serves both sides.
fn certify(folder: &Path) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(folder, &format!("req -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem {key}"));
    openssl(folder, &format!("req -subj /CN=localhost -keyout own.key -out own.csr {key}"));
    let usage = "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n";
    std::fs::write(folder.join("names"), usage).unwrap();
    openssl(
        folder,
        "x509 -req -days 2 -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out own.pem",
    );
}

#[tokio::test]
async fn tls_is_spoken_where_the_url_says_so_with_certificates_on_both_sides() {
    if Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (ca, certificate, key) = (file("ca.pem"), file("own.pem"), file("own.key"));
    let arguments = ["--tls", "--tlsverify", "--tlscert", &certificate, "--tlskey", &key, "--tlscacert", &ca];
    let Some(server) = Server::start_with("TLS to NATS", &arguments).await.unwrap() else { return };
    let mut connect = to(&format!("tls://localhost:{}", server.address().port()));
    connect.tls.ca_file = Some(ca.into());
    let without = begin(&connect);
    connect.tls.certificate_file = Some(certificate.into());
    connect.tls.key_file = Some(key.into());
    let bus = connected(&connect).await;
    let recorder = Recorder::new();
    let _listens = recorder.listen(&bus, Topic::Inbox("gateway-1".into()), 8).await;
    bus.publish(Address::Inbox("gateway-1".into()), call(1)).await.unwrap();
    assert_eq!(recorder.wait_for(1).await, [call(1)]);
    assert_eq!(*without.state().borrow(), State::Away, "a certificate is asked for");
    let plain = begin(&to(&server.url()));
    let mut states = plain.state();
    let unsafe_one = states.wait_for(|state| *state == State::Connected);
    assert!(tokio::time::timeout(Duration::from_millis(300), unsafe_one).await.is_err());
}

#[tokio::test]
async fn what_can_never_work_is_told_at_once() {
    assert!(matches!(Nats::connect(Connect::to("amqp://broker")), Err(ConnectError::Url { .. })));
    assert!(matches!(Nats::connect(Connect::to("")), Err(ConnectError::NoUrl { .. })));
    let mut connect = Connect::to("tls://broker");
    connect.tls.ca_file = Some("no-such-file.pem".into());
    assert!(matches!(Nats::connect(connect), Err(ConnectError::File { .. })));
}

/// A station's call, a worker that has no room, another one that has: the call comes back as busy and then is taken.
#[tokio::test]
async fn a_full_worker_gives_back_at_once() {
    let Some(server) = server().await else { return };
    let connect = to(&server.url());
    let (gateway, worker) = (connected(&connect).await, connected(&connect).await);
    let (returns, full) = (Recorder::new(), Recorder::holding());
    let _returns = returns.listen(&gateway, Topic::Inbox("gateway-1".into()), 8).await;
    let _full = full.listen(&worker, Topic::Calls, 1).await;
    for seq in 1..=3 {
        gateway.publish(to_call(), call(seq)).await.unwrap();
    }
    let got = returns.wait_for(2).await;
    let told: Vec<_> =
        got.iter().map(|got| (got.metadata.kind, got.metadata.outcome, got.metadata.seq)).collect();
    assert_eq!(told, [2, 3].map(|seq| (Kind::Returned, Some(OutcomeKind::Busy), Some(seq))));
    full.let_go();
    gateway.publish(to_call(), call(2)).await.unwrap();
    assert_eq!(full.wait_for(2).await[1], call(2));
}
