//! Over MQTT 5, with `rumqttc`, at QoS 1.

use crate::board::{Board, Call, GATEWAY, WORKER, each_header, partition};
use anyhow::{Context, Result};
use bytes::Bytes;
use rumqttc::v5::mqttbytes::{QoS, v5::PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
use std::sync::Arc;
use std::time::Duration;
use switchboard_benches::{FIXED_ANSWER, announce};
use tokio::sync::Notify;

pub(crate) struct Line {
    client: AsyncClient,
    inbox: String,
}

fn connect(url: &str, name: &str) -> Result<(AsyncClient, EventLoop)> {
    let (host, port) = url.trim_start_matches("mqtt://").split_once(':').context("no port")?;
    let mut options = MqttOptions::new(name, host, port.parse()?);
    options.set_keep_alive(Duration::from_secs(15)).set_clean_start(true);
    options.set_outgoing_inflight_upper_limit(1024);
    let (client, mut events) = AsyncClient::new(options, 4096);
    // Without it a call takes 40 ms.
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    events.options.set_network_options(network);
    Ok((client, events))
}

impl Line {
    pub(crate) async fn open(url: &str, board: Arc<Board>) -> Result<Self> {
        let (client, mut events) = connect(url, "minimal-gateway")?;
        let inbox = format!("ocpp/v1/minimal/inbox/{GATEWAY}");
        client.subscribe(&inbox, QoS::AtLeastOnce).await?;
        let subscribed = Arc::new(Notify::new());
        let told = Arc::clone(&subscribed);
        tokio::spawn(async move {
            while let Ok(event) = events.poll().await {
                match event {
                    Event::Incoming(Incoming::SubAck(_)) => told.notify_one(),
                    Event::Incoming(Incoming::Publish(publish)) => {
                        let headers = publish.properties.unwrap_or_default().user_properties;
                        if let Some((_, station)) = headers.iter().find(|(name, _)| name == "ocpp-station") {
                            board.answered(station, publish.payload);
                        }
                    }
                    _ => {}
                }
            }
        });
        subscribed.notified().await;
        Ok(Self { client, inbox })
    }

    pub(crate) async fn publish(&self, call: &Call<'_>, body: Bytes) -> Result<()> {
        let mut headers = Vec::with_capacity(13);
        each_header(call, |name, value| headers.push((name.to_owned(), value.to_owned())))?;
        let properties = PublishProperties {
            user_properties: headers,
            message_expiry_interval: Some(25),
            response_topic: Some(self.inbox.clone()),
            ..PublishProperties::default()
        };
        let station = call.station;
        let to = format!("ocpp/v1/minimal/call/{}/default/{station}", partition(station));
        self.client.publish_with_properties(to, QoS::AtLeastOnce, false, body, properties).await?;
        Ok(())
    }
}

pub(crate) async fn work(url: &str) -> Result<()> {
    let (client, mut events) = connect(url, "minimal-worker")?;
    client.subscribe("$share/workers/ocpp/v1/minimal/call/+/+/+", QoS::AtLeastOnce).await?;
    loop {
        match events.poll().await? {
            Event::Incoming(Incoming::SubAck(_)) => announce("calls")?,
            Event::Incoming(Incoming::Publish(publish)) => {
                let properties = publish.properties.context("no headers")?;
                let to = properties.response_topic.context("no response topic")?;
                let mut headers = properties.user_properties;
                if let Some((_, kind)) = headers.iter_mut().find(|(name, _)| name == "ocpp-kind") {
                    "answer".clone_into(kind);
                }
                headers.push(("ocpp-worker".to_owned(), WORKER.to_owned()));
                let properties = PublishProperties { user_properties: headers, ..Default::default() };
                let answer = Bytes::from_static(FIXED_ANSWER.as_bytes());
                client.try_publish_with_properties(to, QoS::AtLeastOnce, false, answer, properties)?;
            }
            _ => {}
        }
    }
}
