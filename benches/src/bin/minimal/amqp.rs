//! Over RabbitMQ, with `lapin`.

use crate::board::{Board, Call, GATEWAY, REMAINING_MS, WORKER, each_header, partition};
use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use std::sync::Arc;
use switchboard_benches::{FIXED_ANSWER, announce};

const EXCHANGE: &str = "minimal.call";
const QUEUE: &str = "minimal.workers";
/// As many as our own workers take at once.
const PREFETCH: u16 = 1024;

pub(crate) struct Line {
    _connection: Connection,
    channel: Channel,
    inbox: String,
}

async fn connect(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let exchange = ExchangeDeclareOptions::default();
    let kind = ExchangeKind::Direct;
    channel.exchange_declare(EXCHANGE.into(), kind, exchange, FieldTable::default()).await?;
    Ok((connection, channel))
}

impl Line {
    pub(crate) async fn open(url: &str, board: Arc<Board>) -> Result<Self> {
        let (connection, channel) = connect(url).await?;
        let inbox = format!("minimal.inbox.{GATEWAY}");
        let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
        channel.queue_declare(inbox.as_str().into(), exclusive, FieldTable::default()).await?;
        let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let tag = "answers".into();
        let mut answers =
            channel.basic_consume(inbox.as_str().into(), tag, no_ack, FieldTable::default()).await?;
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = answers.next().await {
                let headers = delivery.properties.headers().as_ref().map(FieldTable::inner);
                let station = headers.and_then(|headers| headers.get("ocpp-station"));
                if let Some(AMQPValue::LongString(station)) = station {
                    board.answered(&String::from_utf8_lossy(station.as_bytes()), delivery.data.into());
                }
            }
        });
        Ok(Self { _connection: connection, channel, inbox })
    }

    pub(crate) async fn publish(&self, call: &Call<'_>, body: Bytes) -> Result<()> {
        let mut headers = FieldTable::default();
        each_header(call, |name, value| {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        })?;
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_reply_to(self.inbox.as_str().into())
            .with_expiration(REMAINING_MS.into());
        let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
        let key = partition(call.station).to_string();
        let publishing =
            self.channel.basic_publish(EXCHANGE.into(), key.into(), mandatory, &body, properties);
        publishing.await?;
        Ok(())
    }
}

pub(crate) async fn work(url: &str) -> Result<()> {
    let (_connection, channel) = connect(url).await?;
    let queue = QueueDeclareOptions { auto_delete: true, ..Default::default() };
    channel.queue_declare(QUEUE.into(), queue, FieldTable::default()).await?;
    for partition in 0..256 {
        let key = partition.to_string();
        let options = QueueBindOptions::default();
        channel.queue_bind(QUEUE.into(), EXCHANGE.into(), key.into(), options, FieldTable::default()).await?;
    }
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut calls =
        channel.basic_consume(QUEUE.into(), "calls".into(), options, FieldTable::default()).await?;
    announce("calls")?;
    while let Some(delivery) = calls.next().await {
        let delivery = delivery?;
        let mut headers = delivery.properties.headers().clone().context("no headers")?;
        headers.insert("ocpp-kind".into(), AMQPValue::LongString("answer".into()));
        headers.insert("ocpp-worker".into(), AMQPValue::LongString(WORKER.into()));
        let properties = BasicProperties::default().with_headers(headers);
        let to = delivery.properties.reply_to().clone().context("no reply-to")?;
        let options = BasicPublishOptions::default();
        channel.basic_publish("".into(), to, options, FIXED_ANSWER.as_bytes(), properties).await?;
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
