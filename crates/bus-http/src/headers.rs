//! Envelopes as HTTP messages: each of our headers is one of HTTP's, with its value percent-encoded where HTTP needs it.

use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use switchboard_bus::{HeaderError, Metadata, percent};

/// Writes the metadata among the headers.
pub(crate) fn write(metadata: &Metadata, headers: &mut HeaderMap) {
    metadata.encode_headers(&mut |name, value| {
        // What is percent-encoded is visible ASCII.
        if let Ok(value) = HeaderValue::from_str(&percent::encode_value(value)) {
            headers.insert(HeaderName::from_static(name), value);
        }
    });
}

/// Reads the metadata. What is no header of ours is passed over.
pub(crate) fn read(headers: &HeaderMap) -> Result<Metadata, HeaderError> {
    Metadata::decode_headers(texts(headers))
}

/// One header's text; none if it is not there or is none.
pub(crate) fn text(headers: &HeaderMap, name: &str) -> Option<ByteString> {
    percent::decode_value(headers.get(name)?.to_str().ok()?)
}

fn texts(headers: &HeaderMap) -> impl Iterator<Item = (&str, ByteString)> {
    headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), percent::decode_value(value.to_str().ok()?)?)))
}

/// Reads a body that is not too large.
pub(crate) async fn body(incoming: Incoming) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Limited::new(incoming, crate::BODY_BYTES_MAX).collect().await?.to_bytes())
}
