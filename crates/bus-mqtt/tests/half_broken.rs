//! A broker that does what no good one does.

use std::time::Duration;
use switchboard_bus::{Address, Bus as _, Connect, Envelope, Kind, Metadata, PublishError, State};
use switchboard_bus_mqtt::Mqtt;
use switchboard_testkit::servers::Mosquitto;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(40);

/// Lets us in and is alive, and answers nothing else.
async fn evade(mut comer: TcpStream) {
    const CONNECT: u8 = 0x10;
    const PINGREQ: u8 = 0xc0;
    loop {
        // Nothing that is said to it has 128 bytes.
        let (Ok(kind), Ok(length)) = (comer.read_u8().await, comer.read_u8().await) else { return };
        let mut body = vec![0; length.into()];
        if comer.read_exact(&mut body).await.is_err() {
            return;
        }
        let answer: &[u8] = match kind {
            CONNECT => &[0x20, 3, 0, 0, 0],
            PINGREQ => &[0xd0, 0],
            _ => &[],
        };
        if comer.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// Who publishes would else wait for good, and another broker would never be tried.
#[tokio::test]
async fn a_broker_that_is_alive_and_answers_nothing_is_left() {
    let evasive = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let urls = format!("mqtt://{},{}", evasive.local_addr().unwrap(), other.local_addr().unwrap());
    let _bus = Mqtt::connect(Connect::to(urls)).unwrap();
    let comer = timeout(DEADLINE, evasive.accept()).await.unwrap().unwrap().0;
    let evading = tokio::spawn(evade(comer));
    timeout(DEADLINE, other.accept()).await.expect("it goes to another").unwrap();
    evading.abort();
}

/// The name of an inbox may be what somebody else said; a packet that is not whole would end the connection.
#[tokio::test]
async fn a_topic_that_mqtt_cannot_carry_is_refused_here() {
    let Some(broker) = Mosquitto::start("a topic that is too long").await.unwrap() else { return };
    let bus = Mqtt::connect(Connect::to(broker.url())).unwrap();
    let mut state = bus.state();
    drop(timeout(DEADLINE, state.wait_for(|state| *state == State::Connected)).await.unwrap().unwrap());
    let answer = || Envelope::new(Metadata::new(Kind::Answer), "[3,\"1\",{}]");
    let refused = bus.publish(Address::Inbox("x".repeat(70_000).into()), answer()).await;
    assert!(matches!(refused, Err(PublishError::TooLarge { bytes: 70_022, limit: 65_535 })), "{refused:?}");
    let nobody = bus.publish(Address::Inbox("gateway-1".into()), answer()).await;
    assert!(matches!(nobody, Err(PublishError::NobodyListens)), "{nobody:?}");
}
