//! A gateway on a free port, a scripted processing side, and stations that are no code of ours.

use crate::moody::Moody;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::{SinkExt as _, StreamExt as _};
use prometheus_client::registry::Registry;
use std::{
    future::Future,
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};
use switchboard_bus::{
    Address, Bus as _, Commander, Consumer, Done, Envelope, InProcess, Kind, Metadata, OutcomeKind,
    Registration, Subscribed, Subscription, Topic,
    presence::{self, Facts},
};
use switchboard_directory::{Account, Directory as _, Locations, StationKey, password};
use switchboard_gateway::{Config, Gateway, UnknownStations, WallClock};
use switchboard_rpc::StationId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::{AbortHandle, JoinHandle},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest as _},
};
use tokio_util::sync::CancellationToken;

/// Nothing here takes long; a machine may.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(done) => done,
        Err(_) => panic!("in vain: {what}"),
    }
}

pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    within(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A running gateway with its bus and directory.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    pub(crate) bus: InProcess,
    pub(crate) directory: Arc<Moody>,
    pub(crate) metrics: Registry,
    pub(crate) stop: CancellationToken,
    serving: Option<JoinHandle<()>>,
}

impl World {
    /// A gateway that lets everybody in, with these changes to the configuration.
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let bus = InProcess::new();
        let directory = Arc::new(Moody::new());
        Self::start_on(bus, directory, change).await
    }

    pub(crate) async fn start_on(
        bus: InProcess,
        directory: Arc<Moody>,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_at(bus, directory, WallClock::system(), change).await
    }

    pub(crate) async fn start_at(
        bus: InProcess,
        directory: Arc<Moody>,
        wall: WallClock,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = Config::default();
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.unknown_stations = UnknownStations::Accept;
        config.drain_time = Duration::from_millis(200);
        change(&mut config);
        let mut metrics = Registry::default();
        let gateway = Gateway::with_clock(
            config,
            Arc::new(bus.clone()),
            Arc::<Moody>::clone(&directory),
            &mut metrics,
            wall,
        )
        .unwrap();
        let listener = gateway.bind().unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (gateway, stop) = (gateway.clone(), stop.clone());
            async move { gateway.serve(listener, stop).await.unwrap() }
        });
        let world = Self { gateway, address, bus, directory, metrics, stop, serving: Some(serving) };
        // A first request is answered when everything is subscribed.
        let answer = world.exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
        world
    }

    /// Processing that answers each call with what `script` says.
    pub(crate) async fn processing(
        &self,
        script: impl Fn(&Envelope) -> Reply + Send + Sync + 'static,
    ) -> Processing {
        Processing::start(&self.bus, Topic::Calls, script).await
    }

    /// A worker that gives signs of life, and answers with `{}` what comes to it alone. It competes for nothing.
    pub(crate) async fn living(&self) -> (Processing, Beating) {
        let inbox = ByteString::from_static("calls-of-living");
        let processing =
            Processing::start(&self.bus, Topic::Inbox(inbox.clone()), |_| Reply::payload("{}")).await;
        let bus = self.bus.clone();
        let beating = tokio::spawn(async move {
            let facts = Facts { inbox: Some(inbox), ..Facts::default() };
            loop {
                introduce(&bus, "living", &facts).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        (processing, Beating(beating.abort_handle()))
    }

    /// Processing that answers each call with `{}`.
    pub(crate) async fn obliging(&self) -> Processing {
        self.processing(|_| Reply::payload("{}")).await
    }

    /// A worker says that it is there, with nothing in hand.
    pub(crate) async fn sign_of_life(&self, worker: &'static str) {
        self.introduces_itself(worker, &Facts::default()).await;
    }

    pub(crate) async fn introduces_itself(&self, worker: &'static str, facts: &Facts) {
        introduce(&self.bus, worker, facts).await;
    }

    pub(crate) async fn commander(&self) -> Commander {
        let locations = Locations::new(Arc::<Moody>::clone(&self.directory) as _);
        let inbox = format!("caller-{}", uuid::Uuid::new_v4());
        Commander::new(Arc::new(self.bus.clone()), inbox, Arc::new(locations)).await.unwrap()
    }

    pub(crate) async fn register(&self, station: &str, password: Option<&[u8]>) {
        let account = Account {
            key: key(station),
            password: password.map(|password| password::hash(password).unwrap()),
            created_ms: 0,
        };
        self.directory.put_account(account).await.unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address)
    }

    /// A station that speaks 1.6 and has been let in.
    pub(crate) async fn station(&self, id: &str) -> Station {
        Station::connect(&self.url(&format!("/ocpp/{id}")), &["ocpp1.6"], &[]).await.unwrap()
    }

    pub(crate) async fn station_with(&self, id: &str, protocol: &str) -> Station {
        Station::connect(&self.url(&format!("/ocpp/{id}")), &[protocol], &[]).await.unwrap()
    }

    /// Sends bytes on a socket of its own and reads until the gateway closes it.
    pub(crate) async fn exchange(&self, request: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        within("an answer", socket.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// A raw upgrade; what the gateway answers up to the empty line, and the socket.
    pub(crate) async fn upgrade(&self, path: &str, headers: &str) -> (String, TcpStream) {
        self.upgrade_with(path, headers, b"").await
    }

    pub(crate) async fn upgrade_with(&self, path: &str, headers: &str, early: &[u8]) -> (String, TcpStream) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        socket.write_all(&[request.as_bytes(), early].concat()).await.unwrap();
        let mut head = Vec::new();
        within("the head of an answer", async {
            while !head.ends_with(b"\r\n\r\n") {
                head.push(socket.read_u8().await.unwrap());
            }
        })
        .await;
        (String::from_utf8(head).unwrap(), socket)
    }

    /// The value of a metric, given the beginning of its line.
    pub(crate) fn metric(&self, line: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics).unwrap();
        text.lines()
            .filter_map(|text| text.strip_prefix("switchboard_gateway_")?.strip_prefix(line))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        within("the gateway ends", self.serving.take().unwrap()).await.unwrap();
    }
}

async fn introduce(bus: &InProcess, worker: &'static str, facts: &Facts) {
    let mut metadata = Metadata::new(Kind::Presence);
    metadata.worker = Some(worker.into());
    let envelope = Envelope::new(metadata, presence::body_with(facts, []));
    bus.publish(Address::Presence, envelope).await.unwrap();
}

/// Signs of life, until it is dropped.
pub(crate) struct Beating(AbortHandle);

impl Drop for Beating {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) fn key(station: &str) -> StationKey {
    StationKey { tenant: ByteString::from_static("default"), station: id(station) }
}

pub(crate) fn id(station: &str) -> StationId {
    StationId::new(station.to_owned(), 255).unwrap()
}

pub(crate) fn basic(user: &str, password: &[u8]) -> String {
    format!("Basic {}", BASE64_STANDARD.encode([user.as_bytes(), b":", password].concat()))
}

/// What the scripted processing side does with a call.
pub(crate) enum Reply {
    /// CALLRESULT with this payload.
    Payload(String, Option<Registration>),
    /// This text, whatever it is.
    Text(String),
    /// Nothing, now or ever.
    Nothing,
    /// It goes back: it cannot be dealt with now.
    Later,
}

impl Reply {
    pub(crate) fn payload(payload: &str) -> Self {
        Self::Payload(payload.to_owned(), None)
    }
}

/// A scripted processing side, until it is dropped.
pub(crate) struct Processing {
    pub(crate) calls: Arc<Mutex<Vec<Envelope>>>,
    _subscribed: Subscribed,
}

struct Script<F> {
    bus: InProcess,
    calls: Arc<Mutex<Vec<Envelope>>>,
    script: F,
}

impl<F: Fn(&Envelope) -> Reply + Send + Sync + 'static> Consumer for Script<F> {
    fn deliver(&self, envelope: Envelope, _done: Done) {
        self.calls.lock().unwrap().push(envelope.clone());
        let (text, registration) = match (self.script)(&envelope) {
            Reply::Nothing => return,
            Reply::Later => {
                let mut metadata = envelope.metadata.returned(OutcomeKind::Busy);
                metadata.worker = Some(ByteString::from_static("script"));
                let inbox = Address::Inbox(envelope.metadata.reply_to.clone().unwrap());
                drop(self.bus.publish(inbox, Envelope::new(metadata, "")));
                return;
            }
            Reply::Text(text) => (text, None),
            Reply::Payload(payload, registration) => {
                (format!("[3,{},{payload}]", message_id(&envelope.body)), registration)
            }
        };
        answer(&self.bus, &envelope, text, registration);
    }
}

/// Publishes an answer to a call.
pub(crate) fn answer(bus: &InProcess, call: &Envelope, text: String, registration: Option<Registration>) {
    let mut metadata = Metadata::new(Kind::Answer);
    metadata.station = call.metadata.station.clone();
    metadata.connection = call.metadata.connection.clone();
    metadata.seq = call.metadata.seq;
    metadata.attempt = call.metadata.attempt;
    metadata.journal = call.metadata.journal;
    metadata.worker = Some(ByteString::from_static("script"));
    metadata.registration = registration;
    let inbox = Address::Inbox(call.metadata.reply_to.clone().unwrap());
    // Published before the future is made.
    drop(bus.publish(inbox, Envelope::new(metadata, text)));
}

/// The id of a frame as JSON text. Ids in these tests hold no commas.
pub(crate) fn message_id(frame: &Bytes) -> String {
    std::str::from_utf8(frame).unwrap().split(',').nth(1).unwrap().trim().to_owned()
}

impl Processing {
    pub(crate) async fn start(
        bus: &InProcess,
        topic: Topic,
        script: impl Fn(&Envelope) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let calls = Arc::<Mutex<Vec<Envelope>>>::default();
        let consumer = Arc::new(Script { bus: bus.clone(), calls: Arc::clone(&calls), script });
        let subscription = Subscription { topic, in_hand_max: NonZeroU32::MAX };
        let subscribed = bus.subscribe(subscription, consumer).await.unwrap();
        Self { calls, _subscribed: subscribed }
    }

    pub(crate) fn count(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    pub(crate) fn call(&self, index: usize) -> Envelope {
        self.calls.lock().unwrap()[index].clone()
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        let text = |call: &Envelope| String::from_utf8(call.body.to_vec()).unwrap();
        self.calls.lock().unwrap().iter().map(text).collect()
    }
}

/// Everything that is told on a topic, until it is dropped.
pub(crate) struct Heard {
    envelopes: Arc<Mutex<Vec<Envelope>>>,
    _subscribed: Subscribed,
}

struct Recorder(Arc<Mutex<Vec<Envelope>>>);

impl Consumer for Recorder {
    fn deliver(&self, envelope: Envelope, _done: Done) {
        self.0.lock().unwrap().push(envelope);
    }
}

impl Heard {
    pub(crate) async fn on(bus: &InProcess, topic: Topic) -> Self {
        let envelopes = Arc::<Mutex<Vec<Envelope>>>::default();
        let recorder = Arc::new(Recorder(Arc::clone(&envelopes)));
        let subscription = Subscription { topic, in_hand_max: NonZeroU32::MAX };
        let subscribed = bus.subscribe(subscription, recorder).await.unwrap();
        Self { envelopes, _subscribed: subscribed }
    }

    pub(crate) fn all(&self) -> Vec<Envelope> {
        self.envelopes.lock().unwrap().clone()
    }
}

/// A station over tungstenite's client.
pub(crate) struct Station {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    pub(crate) protocol: Option<String>,
}

impl Station {
    /// Connects; or the status that refused.
    pub(crate) async fn connect(
        url: &str,
        protocols: &[&str],
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let mut request = url.into_client_request().unwrap();
        if !protocols.is_empty() {
            let list = protocols.join(", ").parse().unwrap();
            request.headers_mut().insert("sec-websocket-protocol", list);
        }
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match within("a handshake", connect_async(request)).await {
            Ok((socket, response)) => {
                let protocol = response.headers().get("sec-websocket-protocol");
                let protocol = protocol.map(|protocol| protocol.to_str().unwrap().to_owned());
                Ok(Self { socket, protocol })
            }
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        within("sending", self.socket.send(Message::text(text))).await.unwrap();
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        within("sending", self.socket.send(message)).await.unwrap();
    }

    /// The next text.
    pub(crate) async fn receive(&mut self) -> String {
        loop {
            match within("a message", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return text.as_str().to_owned(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("instead of a text: {other:?}"),
            }
        }
    }

    /// The next message that is no text.
    pub(crate) async fn receive_message(&mut self) -> Message {
        within("a message", self.socket.next()).await.unwrap().unwrap()
    }

    pub(crate) async fn ask(&mut self, text: &str) -> String {
        self.send(text).await;
        self.receive().await
    }

    /// The close code and reason that come next; none if the network just ends.
    pub(crate) async fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            match within("a close", self.socket.next()).await {
                Some(Ok(Message::Close(frame))) => {
                    return frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("instead of a close: {other:?}"),
                Some(Err(_)) | None => return None,
            }
        }
    }

    pub(crate) async fn close(mut self) {
        within("closing", self.socket.close(None)).await.unwrap();
        while let Some(Ok(_)) = within("the other side of a close", self.socket.next()).await {}
    }
}
