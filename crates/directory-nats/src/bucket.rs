//! A key-value bucket, as requests to the server.
//!
//! The streams are made by hand: what clients offer for it asks newer servers' questions, which 2.9 does not answer.

use bytes::Bytes;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use switchboard_directory::DirectoryError;
use switchboard_nats::{Line, Message, RequestError, Writer};

/// One bucket on a connection.
#[derive(Debug)]
pub(crate) struct Bucket {
    name: String,
    replicas: u8,
    /// After this a key is forgotten that nobody has written again.
    age_max: Option<Duration>,
    made: AtomicBool,
}

/// A value, and when it was written. Sequences rise over all keys of a bucket; one without a value was removed.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) value: Option<Bytes>,
    pub(crate) sequence: u64,
}

/// What came of a write that depends on the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Done,
    /// Somebody else wrote in the meantime.
    Overtaken,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the NATS server does not answer")]
    Request(#[from] RequestError),
    #[error("the NATS server keeps no streams: start it with --jetstream")]
    NoStreams,
    #[error("the NATS server refuses: {0}")]
    Refused(String),
    #[error("what the NATS server answers cannot be read")]
    Unreadable,
}

#[derive(Deserialize)]
struct Reply {
    error: Option<Refusal>,
    #[serde(default)]
    purged: u64,
    state: Option<Listing>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Listing {
    #[serde(default)]
    subjects: BTreeMap<String, u64>,
}

impl Bucket {
    pub(crate) const fn new(name: String, replicas: u8, age_max: Option<Duration>) -> Self {
        Self { name, replicas, age_max, made: AtomicBool::new(false) }
    }

    /// The value under a key; nothing and 0 if there never was one.
    pub(crate) async fn get(&self, line: &Line, key: &str) -> Result<Entry, Fault> {
        let subject = format!("$JS.API.DIRECT.GET.KV_{name}.$KV.{name}.{key}", name = self.name);
        let message = self.ask(line, Writer::new(), &subject, b"").await?;
        match message.status {
            None => {}
            Some(NOT_FOUND) => return Ok(Entry::default()),
            Some(status) => return Err(Fault::Refused(format!("status {status}"))),
        }
        let sequence = message.header("Nats-Sequence").and_then(|number| number.parse().ok());
        let removed = message.header("KV-Operation").is_some();
        Ok(Entry {
            sequence: sequence.ok_or(Fault::Unreadable)?,
            value: (!removed).then_some(message.payload),
        })
    }

    /// Writes a value whatever stands there.
    pub(crate) async fn put(&self, line: &Line, key: &str, value: &[u8]) -> Result<(), Fault> {
        self.write(line, Writer::new(), key, value).await.map(drop)
    }

    /// Writes a value if nobody has written since `sequence` was read.
    pub(crate) async fn replace(
        &self,
        line: &Line,
        key: &str,
        value: &[u8],
        sequence: u64,
    ) -> Result<Written, Fault> {
        let mut writer = Writer::new();
        writer.header("Nats-Expected-Last-Subject-Sequence", &sequence.to_string());
        self.write(line, writer, key, value).await
    }

    async fn write(&self, line: &Line, writer: Writer, key: &str, value: &[u8]) -> Result<Written, Fault> {
        let subject = format!("$KV.{}.{key}", self.name);
        match reply(&self.ask(line, writer, &subject, value).await?)?.error {
            None => Ok(Written::Done),
            Some(refusal) if refusal.err_code == WRONG_LAST_SEQUENCE => Ok(Written::Overtaken),
            Some(refusal) => Err(Fault::Refused(refusal.description)),
        }
    }

    /// Removes a key so that nothing of it stays; whether there was one.
    pub(crate) async fn remove(&self, line: &Line, key: &str) -> Result<bool, Fault> {
        let subject = format!("$JS.API.STREAM.PURGE.KV_{}", self.name);
        let filter = serde_json::json!({ "filter": format!("$KV.{}.{key}", self.name) });
        let message = self.ask(line, Writer::new(), &subject, filter.to_string().as_bytes()).await?;
        let reply = reply(&message)?;
        match reply.error {
            None => Ok(reply.purged > 0),
            Some(refusal) => Err(Fault::Refused(refusal.description)),
        }
    }

    /// The names of all keys of this form, in no order that means anything.
    pub(crate) async fn keys(&self, line: &Line, form: &str) -> Result<Vec<String>, Fault> {
        let subject = format!("$JS.API.STREAM.INFO.KV_{}", self.name);
        let prefix = format!("$KV.{}.", self.name);
        let mut keys: Vec<String> = Vec::new();
        loop {
            let page =
                serde_json::json!({ "subjects_filter": format!("{prefix}{form}"), "offset": keys.len() });
            let message = self.ask(line, Writer::new(), &subject, page.to_string().as_bytes()).await?;
            let reply = reply(&message)?;
            if let Some(refusal) = reply.error {
                return Err(Fault::Refused(refusal.description));
            }
            let before = keys.len();
            let subjects = reply.state.map(|state| state.subjects).unwrap_or_default();
            keys.extend(
                subjects.keys().filter_map(|subject| Some(subject.strip_prefix(&prefix)?.to_owned())),
            );
            if keys.len() - before < KEYS_PAGE {
                return Ok(keys);
            }
        }
    }

    async fn ask(
        &self,
        line: &Line,
        writer: Writer,
        subject: &str,
        payload: &[u8],
    ) -> Result<Message, Fault> {
        if !self.made.load(Ordering::Relaxed) {
            self.make(line).await?;
            self.made.store(true, Ordering::Relaxed);
        }
        match line.request(writer, subject, payload, ANSWER_MAX).await {
            Err(error @ (RequestError::NobodyListens(_) | RequestError::NoAnswer)) => {
                // The stream may be gone: a server that lost its disk. Then it is made anew with the next request.
                self.made.store(false, Ordering::Relaxed);
                Err(error.into())
            }
            other => Ok(other?),
        }
    }

    /// Makes the stream, if it is not there.
    async fn make(&self, line: &Line) -> Result<(), Fault> {
        let name = &self.name;
        let age_max_ns = self.age_max.map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
        let config = serde_json::json!({
            "name": format!("KV_{name}"),
            "subjects": [format!("$KV.{name}.>")],
            "retention": "limits",
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": age_max_ns,
            "max_msgs_per_subject": 1,
            "max_msg_size": -1,
            "discard": "new",
            "storage": "file",
            "num_replicas": self.replicas,
            "allow_rollup_hdrs": true,
            "deny_delete": true,
            "allow_direct": true,
        });
        let subject = format!("$JS.API.STREAM.CREATE.KV_{name}");
        let made = line.request(Writer::new(), &subject, config.to_string().as_bytes(), MAKE_MAX).await;
        let message = match made {
            Err(RequestError::NobodyListens(_)) => return Err(Fault::NoStreams),
            other => other?,
        };
        match reply(&message)?.error {
            None => Ok(()),
            // Made by somebody else with other settings, which are theirs to choose.
            Some(refusal) if refusal.err_code == STREAM_IN_USE => Ok(()),
            Some(refusal) => Err(Fault::Refused(refusal.description)),
        }
    }
}

fn reply(message: &Message) -> Result<Reply, Fault> {
    serde_json::from_slice(&message.payload).map_err(|_| Fault::Unreadable)
}

impl From<Fault> for DirectoryError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unreadable => Self::Damaged { detail: fault.to_string() },
            fault => Self::Away(Box::new(fault)),
        }
    }
}

const NOT_FOUND: u16 = 404;
const WRONG_LAST_SEQUENCE: u32 = 10_071;
const STREAM_IN_USE: u32 = 10_058;
/// How many names the server gives at once.
const KEYS_PAGE: usize = 100_000;
/// How long an answer may take: less than a station waits at the door.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const MAKE_MAX: Duration = Duration::from_secs(10);
