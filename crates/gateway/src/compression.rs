//! Compression of messages (H14): with whom, for which messages, and what is counted.
//!
//! The work is done by `switchboard_deflate`, with state that all connections share and none holds.

use crate::{config::Config, metrics::words, socket::Input};
use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, header};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{sync::Arc, thread::available_parallelism};
use switchboard_deflate::{Agreed, InflateError, Kind, Pool, offer};
use switchboard_directory::StationKey;
use switchboard_rpc::close;

/// What the header offers that this gateway grants this station.
pub(crate) fn choose(headers: &HeaderMap, key: &StationKey, config: &Config) -> Option<Agreed> {
    if !config.compression {
        return None;
    }
    let values = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter();
    let agreed = offer::choose(values.filter_map(|value| value.to_str().ok()))?;
    let station = key.station.as_str();
    let is_refused = config.compression_refused.iter().any(|pattern| matches(pattern, station));
    (!is_refused).then_some(agreed)
}

/// Whether a pattern with `*` for any characters and `?` for one fits a whole text.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on if what follows the last star does not fit: with the star taking one character more.
    let mut retry = None;
    loop {
        let here = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                retry = Some((pattern.clone(), here.clone()));
                text = here;
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => {
                let Some((after_star, from)) = &mut retry else { return false };
                if from.next().is_none() {
                    return false;
                }
                (pattern, text) = (after_star.clone(), from.clone());
            }
        }
    }
}

/// What all compressed connections share.
#[derive(Debug)]
pub(crate) struct Compression {
    pool: Pool,
    counters: Counters,
    /// Smaller messages are sent as they are.
    bytes_min: usize,
    /// Bytes of a message, after decompression.
    bytes_max: usize,
}

impl Compression {
    pub(crate) fn new(config: &Config, counters: Counters) -> Self {
        Self {
            // Nobody waits while they hold one, so that there is never a need for more.
            pool: Pool::new(available_parallelism().map_or(1, usize::from)),
            counters,
            bytes_min: config.compression_bytes_min,
            bytes_max: config.message_bytes_max,
        }
    }

    /// Lets go of what nobody needs. To be called now and then.
    pub(crate) fn tidy(&self) {
        self.pool.tidy();
    }
}

/// The compression of one connection.
#[derive(Debug)]
pub(crate) struct Compressed {
    shared: Arc<Compression>,
    window_bits: u8,
}

impl Compressed {
    pub(crate) fn new(shared: &Arc<Compression>, agreed: Agreed) -> Self {
        shared.counters.connections.inc();
        Self { shared: Arc::clone(shared), window_bits: agreed.window_bits() }
    }

    /// What came as this payload.
    pub(crate) fn inflate(&self, kind: Kind, payload: &[u8]) -> Input {
        let Compression { pool, counters, bytes_max, .. } = &*self.shared;
        counters.received_compressed.inc_by(payload.len() as u64);
        let broken = |refused, code, reason| {
            counters.refused.get_or_create(&Refused { refused }).inc();
            counters.bad_frames.inc();
            Input::Broken { code, reason }
        };
        let message = match pool.inflate(payload, *bytes_max) {
            Ok(message) => message,
            // Neither RFC has a code for it. 1007 is for what is not what its type says.
            Err(InflateError::Invalid) => {
                return broken(Why::Invalid, close::NOT_UTF8, "a compressed message cannot be decompressed");
            }
            Err(InflateError::TooBig) => {
                return broken(Why::TooBig, close::TOO_BIG, "message too big after decompression");
            }
        };
        counters.received_inflated.inc_by(message.len() as u64);
        match kind {
            Kind::CompressedBinary => Input::Binary(message),
            _ => match ByteString::try_from(message) {
                Ok(text) => Input::Text(text),
                Err(_) => broken(Why::NotUtf8, close::NOT_UTF8, "text is not UTF-8 after decompression"),
            },
        }
    }

    /// The compressed payload of a text; none if it is better sent as it is.
    pub(crate) fn deflate(&self, text: &str) -> Option<Bytes> {
        let Compression { pool, counters, bytes_min, .. } = &*self.shared;
        if text.len() < *bytes_min {
            return None;
        }
        let payload = pool.deflate(text.as_bytes(), self.window_bits)?;
        counters.sent_plain.inc_by(text.len() as u64);
        counters.sent_compressed.inc_by(payload.len() as u64);
        Some(payload)
    }
}

impl Drop for Compressed {
    fn drop(&mut self) {
        self.shared.counters.connections.dec();
    }
}

/// What is counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    connections: Gauge,
    received_compressed: Counter,
    received_inflated: Counter,
    sent_plain: Counter,
    sent_compressed: Counter,
    refused: Family<Refused, Counter>,
    /// The gateway's own.
    bad_frames: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    refused: Why,
}

/// Why a compressed message closed its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Why {
    TooBig,
    Invalid,
    NotUtf8,
}
words!(Why);

impl Counters {
    /// Makes the handles and registers them.
    pub(crate) fn register(registry: &mut Registry, bad_frames: &Counter) -> Self {
        let counters = Self { bad_frames: bad_frames.clone(), ..Self::default() };
        registry.register(
            "connections_compressed",
            "Stations that are connected with compression",
            counters.connections.clone(),
        );
        registry.register(
            "received_compressed_bytes",
            "Bytes of compressed messages of stations, as they came",
            counters.received_compressed.clone(),
        );
        registry.register(
            "received_inflated_bytes",
            "Bytes of compressed messages of stations, after decompression",
            counters.received_inflated.clone(),
        );
        registry.register(
            "sent_uncompressed_bytes",
            "Bytes of messages that were compressed to be sent, before compression",
            counters.sent_plain.clone(),
        );
        registry.register(
            "sent_compressed_bytes",
            "Bytes of messages that were compressed to be sent, as they were sent",
            counters.sent_compressed.clone(),
        );
        registry.register(
            "compressed_messages_refused",
            "Compressed messages of stations that closed the connection, by reason",
            counters.refused.clone(),
        );
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use switchboard_rpc::StationId;

    fn key() -> StationKey {
        StationKey {
            tenant: ByteString::from_static("default"),
            station: StationId::new("ACME-7", 48).unwrap(),
        }
    }

    #[test]
    fn h14_a_station_may_be_refused_by_its_id() {
        let mut headers = HeaderMap::new();
        let choose = |headers: &HeaderMap, compression, refused: &[&str]| {
            let compression_refused = refused.iter().map(|pattern| (*pattern).to_owned()).collect();
            let config = Config { compression, compression_refused, ..Config::default() };
            super::choose(headers, &key(), &config).is_some()
        };
        assert!(!choose(&headers, true, &[]), "not offered");
        // One header that nobody can read, and one that can be read.
        headers.append(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_bytes(b"\xff").unwrap());
        headers.append(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static("permessage-deflate"));
        assert!(choose(&headers, true, &[]));
        assert!(!choose(&headers, false, &[]));
        assert!(choose(&headers, true, &["OTHER-*", "ACME-8"]));
        for pattern in ["ACME-7", "ACME-*", "*", "OTHER", "*7", "A*-?"] {
            assert!(!choose(&headers, true, &["OTHER", pattern]) || pattern == "OTHER", "{pattern}");
        }
    }

    #[test]
    fn patterns_fit_whole_texts() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("?", "", false),
            ("?", "é", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "axbx", false),
            ("*ab", "aab", true),
            ("a", "ab", false),
            ("**?", "xyz", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} on {text}");
        }
    }
}
