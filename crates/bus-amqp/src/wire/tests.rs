//! What is written is read as it was, and what others write is read or refused.

use super::*;
use proptest::prelude::*;
use switchboard_bus::{Kind, Metadata};

fn frames(input: &[u8], frame_max: usize) -> Vec<Frame<'_>> {
    let mut rest = input;
    let mut frames = Vec::new();
    while let Some((frame, size)) = take_frame(rest, frame_max).unwrap() {
        frames.push(frame);
        rest = &rest[size..];
    }
    assert!(rest.is_empty());
    frames
}

fn published(metadata: &Metadata, body: &[u8], frame_max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let to = Publish {
        exchange: "x",
        key: "7",
        mandatory: true,
        reply_to: Some("inbox"),
        expiration_ms: Some(25_000),
    };
    let headers = |put: &mut dyn FnMut(&'static str, &str)| {
        metadata.encode_headers(&mut |name, value| put(name, value));
    };
    Writer::new(&mut out, 3).publish(&to, headers, body, frame_max).unwrap();
    out
}

/// As a broker would give it to a consumer: header and body frames unchanged.
fn received(input: &[u8], frame_max: usize) -> switchboard_bus::Envelope {
    let mut content = None;
    for frame in frames(input, frame_max) {
        match frame {
            Frame::Header(3, header) => {
                let headers = headers(header.properties).unwrap();
                content = Some(Content::new(headers, usize::try_from(header.body_bytes).unwrap()));
            }
            Frame::Body(3, part) => content.as_mut().unwrap().add(part).unwrap(),
            Frame::Method(3, Method::Other) => {}
            other => panic!("{other:?}"),
        }
    }
    let content = content.unwrap();
    assert!(content.is_whole());
    content.envelope().unwrap()
}

fn call() -> Metadata {
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = Some(switchboard_rpc::StationId::new("CP \u{1f50c}", 48).unwrap());
    metadata.action = Some("Heartbeat".into());
    metadata.seq = Some(u64::MAX);
    metadata
}

#[test]
fn what_is_published_is_what_is_received_however_it_is_cut_into_frames() {
    for size in [0, 1, 503, 504, 505, 2000] {
        let body = vec![b'x'; size];
        let bytes = published(&call(), &body, 512);
        let envelope = received(&bytes, 512);
        assert_eq!((&*envelope.metadata, &envelope.body[..]), (&call(), &body[..]));
    }
}

#[test]
fn properties_that_fit_into_no_frame_are_not_written() {
    let mut out = b"before".to_vec();
    let to = Publish { exchange: "", key: "k", mandatory: false, reply_to: None, expiration_ms: None };
    let long = "x".repeat(4096);
    let written = Writer::new(&mut out, 1).publish(&to, |put| put("ocpp-context", &long), b"[]", 4096);
    assert_eq!(written, Err(4140));
    assert_eq!(out, b"before");
}

#[test]
fn a_frame_is_taken_when_all_of_it_is_there() {
    let bytes = published(&call(), b"[2]", 4096);
    let first = take_frame(&bytes, 4096).unwrap().unwrap().1;
    for end in 0..first {
        assert!(take_frame(&bytes[..end], 4096).unwrap().is_none(), "{end}");
    }
    assert!(take_frame(&bytes[..first], 4096).unwrap().is_some());
}

#[test]
fn what_is_no_frame_is_a_fault() {
    let mut heart = Vec::new();
    heartbeat(&mut heart);
    assert_eq!(take_frame(&heart, 4096).unwrap().unwrap().0, Frame::Heartbeat);
    let mut bad_end = heart.clone();
    *bad_end.last_mut().unwrap() = 0;
    let cases: [(&[u8], Fault); 5] = [
        (PROTOCOL_HEADER, Fault::Protocol),
        (b"HTTP/1.1 400 Bad Request\r\n", Fault::Protocol),
        (&bad_end, Fault::Malformed),
        (b"\x01\0\0\0\x01\0\0\0", Fault::FrameTooLarge { bytes: 65_544, limit: 4096 }),
        (b"\x01\0\0\0\0\0\x03\0\x0a\0\xce", Fault::Malformed),
    ];
    for (input, fault) in cases {
        assert_eq!(take_frame(input, 4096).unwrap_err(), fault, "{input:?}");
    }
}

#[test]
fn numbers_that_foreign_workers_write_as_such_are_read() {
    let mut headers = Vec::new();
    for (name, kind, value) in [
        ("ocpp-kind", b'S', [&6_u32.to_be_bytes()[..], b"answer"].concat()),
        ("ocpp-station", b'S', [&3_u32.to_be_bytes()[..], b"CP1"].concat()),
        ("x-death", b'A', [&2_u32.to_be_bytes()[..], b"V\0"].concat()),
        ("ocpp-seq", b'I', 7_i32.to_be_bytes().to_vec()),
        ("ocpp-generation", b'l', 1_795_341_600_000_i64.to_be_bytes().to_vec()),
        ("ocpp-gateway", b'S', [&1_u32.to_be_bytes()[..], b"g"].concat()),
        ("ocpp-outbox", b't', vec![1]),
    ] {
        headers.push(u8::try_from(name.len()).unwrap());
        headers.extend_from_slice(name.as_bytes());
        headers.push(kind);
        headers.extend_from_slice(&value);
    }
    let metadata = Content::new(&headers, 0).envelope().unwrap().metadata;
    assert_eq!((metadata.kind, metadata.seq, metadata.outbox), (Kind::Answer, Some(7), true));
    assert_eq!(metadata.connection.unwrap().generation, 1_795_341_600_000);
}

#[test]
fn no_more_body_is_taken_than_was_announced() {
    let mut content = Content::new(b"", 3);
    assert_eq!(content.add(b"ab"), Some(()));
    assert_eq!(content.add(b"cd"), None);
}

proptest! {
    #[test]
    fn whatever_arrives_is_a_frame_or_a_fault(input in proptest::collection::vec(any::<u8>(), 0..200), kind in 1_u8..4) {
        let mut framed = vec![kind, 0, 1];
        framed.extend_from_slice(&u32::try_from(input.len()).unwrap().to_be_bytes());
        framed.extend_from_slice(&input);
        framed.push(FRAME_END);
        if let Ok(Some((Frame::Header(_, header), _))) = take_frame(&framed, 4096)
            && let Some(headers) = headers(header.properties)
        {
            drop(Content::new(headers, 0).envelope());
        }
        drop(take_frame(&input, 4096));
        drop(Content::new(&input, 0).envelope());
    }
}
