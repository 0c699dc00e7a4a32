//! Over NATS, with `async-nats`.

use crate::board::{Board, Call, GATEWAY, WORKER, each_header, partition};
use anyhow::Result;
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures_util::StreamExt;
use std::sync::Arc;
use switchboard_benches::{FIXED_ANSWER, announce};

pub(crate) struct Line {
    client: Client,
    inbox: String,
}

impl Line {
    pub(crate) async fn open(url: &str, board: Arc<Board>) -> Result<Self> {
        let client = async_nats::connect(url).await?;
        let inbox = format!("ocpp.v1.minimal.inbox.{GATEWAY}");
        let mut answers = client.subscribe(inbox.clone()).await?;
        client.flush().await?;
        tokio::spawn(async move {
            while let Some(message) = answers.next().await {
                if let Some(station) =
                    message.headers.as_ref().and_then(|headers| headers.get("ocpp-station"))
                {
                    board.answered(station.as_str(), message.payload);
                }
            }
        });
        Ok(Self { client, inbox })
    }

    pub(crate) async fn publish(&self, call: &Call<'_>, body: Bytes) -> Result<()> {
        let mut headers = HeaderMap::new();
        each_header(call, |name, value| headers.insert(name, value))?;
        let station = call.station;
        let subject = format!("ocpp.v1.minimal.call.{}.default.{station}", partition(station));
        self.client.publish_with_reply_and_headers(subject, self.inbox.clone(), headers, body).await?;
        Ok(())
    }
}

pub(crate) async fn work(url: &str) -> Result<()> {
    let client = async_nats::connect(url).await?;
    let mut calls = client.queue_subscribe("ocpp.v1.minimal.call.>", "workers".to_owned()).await?;
    client.flush().await?;
    announce("calls")?;
    while let Some(message) = calls.next().await {
        let (Some(reply), Some(mut headers)) = (message.reply, message.headers) else { continue };
        headers.insert("ocpp-kind", "answer");
        headers.insert("ocpp-worker", WORKER);
        client.publish_with_headers(reply, headers, Bytes::from_static(FIXED_ANSWER.as_bytes())).await?;
    }
    Ok(())
}
