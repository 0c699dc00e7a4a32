//! The limits of AWS IoT Core in front of a broker that has none.
//!
//! It reads what clients send packet by packet, passes it on, and breaks the connection of whoever goes beyond a limit,
//! as AWS does. What was wrong can be asked for.

use anyhow::Result;
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
};

/// A proxy that enforces what AWS IoT Core allows. Dropped, it cuts everything.
#[derive(Debug)]
pub struct CloudLimits {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    cut: Arc<watch::Sender<u64>>,
    accepting: JoinHandle<()>,
}

/// What went over the connections.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// What was beyond a limit, in words. Each cost a connection.
    pub violations: Vec<String>,
    /// Connections that are open.
    pub open: usize,
    /// The most subscriptions that one connection had.
    pub subscriptions_max: usize,
    /// Messages that clients published.
    pub published: usize,
    /// The most messages that one connection published within a second.
    pub per_second_max: usize,
}

#[derive(Debug, Default)]
struct Seen {
    traffic: Traffic,
    /// When each client id connected last.
    connected: HashMap<String, Instant>,
}

impl CloudLimits {
    /// Listens on a free port and connects each comer to `broker`.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn before(broker: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let cut = Arc::new(watch::Sender::new(0));
        let (shared, cuts) = (Arc::clone(&seen), Arc::clone(&cut));
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(broker) = TcpStream::connect(broker).await {
                    let mut cuts = cuts.subscribe();
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        // Otherwise small packets wait for one another on the way through.
                        drop((client.set_nodelay(true), broker.set_nodelay(true)));
                        cuts.mark_unchanged();
                        lock(&shared).traffic.open += 1;
                        tokio::select! {
                            () = serve(client, broker, &shared) => {}
                            _ = cuts.changed() => {}
                        }
                        lock(&shared).traffic.open -= 1;
                    });
                }
            }
        });
        Ok(Self { address, seen, cut, accepting })
    }

    /// Where to connect instead of to the broker.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has gone over it so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        lock(&self.seen).traffic.clone()
    }

    /// Cuts all connections that there are. New ones are let through.
    pub fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

impl Drop for CloudLimits {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn serve(client: TcpStream, broker: TcpStream, seen: &Mutex<Seen>) {
    let (from_client, mut to_client) = client.into_split();
    let (mut from_broker, to_broker) = broker.into_split();
    tokio::select! {
        violation = watch_client(from_client, to_broker, seen) => {
            if let Some(violation) = violation {
                lock(seen).traffic.violations.push(violation);
            }
        }
        _ = tokio::io::copy(&mut from_broker, &mut to_client) => {}
    }
}

/// Passes packets on; what was beyond a limit, if that is why it ended.
async fn watch_client(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, seen: &Mutex<Seen>) -> Option<String> {
    let mut read = Vec::new();
    let mut client = Client::default();
    loop {
        while let Some((head, whole)) = packet(&read) {
            let rest = read.split_off(whole);
            let packet = std::mem::replace(&mut read, rest);
            if let Err(violation) = client.look_at(packet[0], &packet[head..], seen) {
                return Some(violation);
            }
            if to.write_all(&packet).await.is_err() {
                return None;
            }
        }
        match from.read_buf(&mut read).await {
            Ok(count) if count > 0 => {}
            _ => return None,
        }
    }
}

/// Where the body of the first packet begins, and where it ends; none if it is not all here.
fn packet(read: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (place, digit) in read.iter().skip(1).take(4).enumerate() {
        length |= usize::from(digit & 0x7f) << (7 * place);
        if digit & 0x80 == 0 {
            let head = 2 + place;
            return (read.len() >= head + length).then_some((head, head + length));
        }
    }
    None
}

/// One connection.
#[derive(Default)]
struct Client {
    is_five: bool,
    subscriptions: std::collections::BTreeSet<String>,
    /// When it published, within the last second.
    published: VecDeque<Instant>,
}

impl Client {
    fn look_at(&mut self, first: u8, body: &[u8], seen: &Mutex<Seen>) -> Result<(), String> {
        let mut body = Reading(body);
        match first >> 4 {
            1 => self.connects(&mut body, seen),
            3 => self.publishes(first, &mut body, seen),
            8 => self.subscribes(&mut body, seen),
            10 => {
                body.number();
                self.skip_properties(&mut body);
                while let Some(filter) = body.text() {
                    self.subscriptions.remove(&filter);
                }
                Ok(())
            }
            5..=7 => Err("quality of service 2".to_owned()),
            _ => Ok(()),
        }
    }

    fn connects(&mut self, body: &mut Reading<'_>, seen: &Mutex<Seen>) -> Result<(), String> {
        let protocol = body.text();
        let level = body.byte();
        body.take(3);
        self.is_five = level == Some(5);
        if protocol.as_deref() != Some("MQTT") || !matches!(level, Some(4 | 5)) {
            return Err(format!("a protocol {protocol:?} of level {level:?}"));
        }
        self.skip_properties(body);
        let id = body.text().unwrap_or_default();
        if id.len() > CLIENT_ID_BYTES_MAX {
            return Err(format!("a client id of {} bytes", id.len()));
        }
        let now = Instant::now();
        let before = lock(seen).connected.insert(id.clone(), now);
        match before.map(|before| now - before) {
            Some(ago) if ago < Duration::from_secs(1) => {
                Err(format!("{id} connects again after {} ms", ago.as_millis()))
            }
            _ => Ok(()),
        }
    }

    fn publishes(&mut self, first: u8, body: &mut Reading<'_>, seen: &Mutex<Seen>) -> Result<(), String> {
        let topic = body.text().unwrap_or_default();
        let quality = first >> 1 & 0b11;
        if quality > 0 {
            body.number();
        }
        self.skip_properties(body);
        let now = Instant::now();
        self.published.push_back(now);
        while self.published.front().is_some_and(|at| now - *at >= Duration::from_secs(1)) {
            self.published.pop_front();
        }
        {
            let traffic = &mut lock(seen).traffic;
            traffic.published += 1;
            traffic.per_second_max = traffic.per_second_max.max(self.published.len());
        }
        topic_fits(&topic)?;
        match (quality, body.0.len(), self.published.len()) {
            (2.., _, _) => Err("quality of service 2".to_owned()),
            (_, bytes, _) if bytes > PAYLOAD_BYTES_MAX => Err(format!("a payload of {bytes} bytes")),
            (_, _, count) if count > PUBLISHED_PER_SECOND_MAX => {
                Err(format!("{count} messages within a second"))
            }
            _ => Ok(()),
        }
    }

    fn subscribes(&mut self, body: &mut Reading<'_>, seen: &Mutex<Seen>) -> Result<(), String> {
        body.number();
        self.skip_properties(body);
        let mut count = 0;
        while let Some(filter) = body.text() {
            body.byte();
            count += 1;
            topic_fits(&filter)?;
            self.subscriptions.insert(filter);
        }
        let all = self.subscriptions.len();
        {
            let traffic = &mut lock(seen).traffic;
            traffic.subscriptions_max = traffic.subscriptions_max.max(all);
        }
        match (count, all) {
            (SUBSCRIPTIONS_PER_PACKET_MAX.., _) if count > SUBSCRIPTIONS_PER_PACKET_MAX => {
                Err(format!("{count} subscriptions in one packet"))
            }
            (_, all) if all > SUBSCRIPTIONS_MAX => Err(format!("{all} subscriptions on one connection")),
            _ => Ok(()),
        }
    }

    fn skip_properties(&self, body: &mut Reading<'_>) {
        if self.is_five {
            let mut length = 0;
            for place in 0..4 {
                let Some(digit) = body.byte() else { return };
                length |= usize::from(digit & 0x7f) << (7 * place);
                if digit & 0x80 == 0 {
                    break;
                }
            }
            body.take(length);
        }
    }
}

fn topic_fits(topic: &str) -> Result<(), String> {
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(format!("a topic of {} bytes", topic.len()));
    }
    match topic.matches('/').count() + 1 {
        levels if levels > TOPIC_LEVELS_MAX => Err(format!("a topic of {levels} levels")),
        _ => Ok(()),
    }
}

/// What is left of a packet.
struct Reading<'a>(&'a [u8]);

impl Reading<'_> {
    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken.to_vec())
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn number(&mut self) -> Option<usize> {
        let bytes = self.take(2)?;
        Some(usize::from(bytes[0]) << 8 | usize::from(bytes[1]))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()?;
        String::from_utf8(self.take(length)?).ok()
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

const CLIENT_ID_BYTES_MAX: usize = 128;
const PAYLOAD_BYTES_MAX: usize = 128 * 1024;
const PUBLISHED_PER_SECOND_MAX: usize = 100;
const SUBSCRIPTIONS_MAX: usize = 50;
const SUBSCRIPTIONS_PER_PACKET_MAX: usize = 8;
const TOPIC_BYTES_MAX: usize = 256;
const TOPIC_LEVELS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client says, and the violation that it is, if it is one.
    fn judged(packets: &[(u8, Vec<u8>)]) -> Option<String> {
        let seen = Mutex::default();
        let mut client = Client::default();
        packets.iter().find_map(|(first, body)| client.look_at(*first, body, &seen).err())
    }

    fn text(text: &str) -> Vec<u8> {
        [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
    }

    fn publish(topic: &str, bytes: usize) -> (u8, Vec<u8>) {
        (0x32, [text(topic), vec![0, 1], vec![b'x'; bytes]].concat())
    }

    fn subscribe(filters: &[String]) -> (u8, Vec<u8>) {
        let filters = filters.iter().flat_map(|filter| [text(filter), vec![1]].concat());
        (0x82, [0, 1].into_iter().chain(filters).collect())
    }

    #[test]
    fn what_is_within_the_limits_passes_and_what_is_beyond_is_named() {
        let connect = |id: &str| (0x10, [text("MQTT"), vec![4, 2, 0, 15], text(id)].concat());
        let names = |count: usize| (0..count).map(|name| format!("{name}/out")).collect::<Vec<_>>();
        let many = |count| names(count).chunks(8).map(subscribe).collect::<Vec<_>>();
        for (packets, violation) in [
            (vec![connect(&"i".repeat(128))], None),
            (vec![connect(&"i".repeat(129))], Some("a client id of 129 bytes")),
            (vec![publish("1/2/3/4/5/6/7/8", 128 * 1024)], None),
            (vec![publish("1/2/3/4/5/6/7/8/9", 1)], Some("a topic of 9 levels")),
            (vec![publish("a", 128 * 1024 + 1)], Some("a payload of 131073 bytes")),
            (vec![publish("a", 1); 100], None),
            (vec![publish("a", 1); 101], Some("101 messages within a second")),
            (many(50), None),
            (many(51), Some("51 subscriptions on one connection")),
            (vec![subscribe(&names(9))], Some("9 subscriptions in one packet")),
        ] {
            assert_eq!(judged(&packets).as_deref(), violation);
        }
    }
}
