//! Changes as bytes: each one a length, a checksum and a line of JSON.

use super::{Change, Kind, Open, Record};
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a queue's file begins with. The number rises when the form of the entries changes.
pub(super) const HEADER: &[u8] = b"switchboard station queue 1\n";
/// Length and checksum in front of each entry.
const PREFIX: usize = 8;
/// No entry is longer: a length beyond it is damage. The largest messages of OCPP are far below.
const ENTRY_MAX: usize = 16 << 20;

#[derive(Serialize, Deserialize)]
enum Entry<'text> {
    #[serde(rename = "add")]
    Add {
        #[serde(rename = "n")]
        number: u64,
        #[serde(rename = "t", borrow)]
        transaction: Cow<'text, str>,
        #[serde(rename = "k")]
        kind: Name,
        #[serde(rename = "a", borrow)]
        action: Cow<'text, str>,
        #[serde(rename = "p", borrow)]
        payload: &'text RawValue,
    },
    #[serde(rename = "done")]
    Done(u64),
    #[serde(rename = "open")]
    Open {
        #[serde(rename = "t", borrow)]
        transaction: Cow<'text, str>,
        #[serde(rename = "id", default, skip_serializing_if = "Option::is_none")]
        id: Option<i64>,
        #[serde(rename = "ended", default)]
        ended: bool,
        #[serde(rename = "seq", default, skip_serializing_if = "Option::is_none")]
        seq_no: Option<u64>,
    },
    #[serde(rename = "closed")]
    Closed(#[serde(borrow)] Cow<'text, str>),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Start,
    Update,
    Reading,
    Stop,
}

/// Appends a change.
pub(super) fn write(out: &mut Vec<u8>, change: &Change) -> Result<(), serde_json::Error> {
    let begin = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    let written = match change {
        Change::Added(record) => serde_json::from_str(&record.payload).and_then(|payload| {
            let entry = Entry::Add {
                number: record.number,
                transaction: Cow::Borrowed(&*record.transaction),
                kind: match record.kind {
                    Kind::Start => Name::Start,
                    Kind::Update => Name::Update,
                    Kind::Reading => Name::Reading,
                    Kind::Stop => Name::Stop,
                },
                action: Cow::Borrowed(&*record.action),
                payload,
            };
            serde_json::to_writer(&mut *out, &entry)
        }),
        Change::Done(number) => serde_json::to_writer(&mut *out, &Entry::Done(*number)),
        Change::Open(open) => serde_json::to_writer(
            &mut *out,
            &Entry::Open {
                transaction: Cow::Borrowed(&*open.transaction),
                id: open.id,
                ended: open.ended,
                seq_no: open.seq_no,
            },
        ),
        Change::Closed(transaction) => {
            serde_json::to_writer(&mut *out, &Entry::Closed(Cow::Borrowed(&**transaction)))
        }
    };
    if let Err(error) = written {
        out.truncate(begin);
        return Err(error);
    }
    // For whoever looks at the file with the tools of every day.
    out.push(b'\n');
    let body = out.get(begin + PREFIX..).unwrap_or_default();
    let (length, sum) = (u32::try_from(body.len()).unwrap_or(u32::MAX), crc32fast::hash(body));
    if let Some(prefix) = out.get_mut(begin..begin + PREFIX) {
        prefix[..4].copy_from_slice(&length.to_le_bytes());
        prefix[4..].copy_from_slice(&sum.to_le_bytes());
    }
    Ok(())
}

/// Reads all whole changes after the header, and says how many bytes of `bytes` they fill.
pub(super) fn read(bytes: &[u8]) -> (Vec<Change>, usize) {
    let (mut changes, mut at) = (Vec::new(), 0);
    while let Some((change, length)) = bytes.get(at..).and_then(first) {
        changes.push(change);
        at += length;
    }
    (changes, at)
}

fn first(bytes: &[u8]) -> Option<(Change, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok().filter(|length| *length <= ENTRY_MAX)?;
    let body = rest.get(..length)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return None;
    }
    let change = match serde_json::from_slice(body).ok()? {
        Entry::Add { number, transaction, kind, action, payload } => Change::Added(Record {
            number,
            transaction: ByteString::from(&*transaction),
            kind: match kind {
                Name::Start => Kind::Start,
                Name::Update => Kind::Update,
                Name::Reading => Kind::Reading,
                Name::Stop => Kind::Stop,
            },
            action: ByteString::from(&*action),
            payload: ByteString::from(payload.get()),
        }),
        Entry::Done(number) => Change::Done(number),
        Entry::Open { transaction, id, ended, seq_no } => {
            Change::Open(Open { transaction: ByteString::from(&*transaction), id, ended, seq_no })
        }
        Entry::Closed(transaction) => Change::Closed(ByteString::from(&*transaction)),
    };
    Some((change, PREFIX + length))
}
