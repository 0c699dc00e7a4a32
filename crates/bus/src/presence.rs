//! What a worker says in its sign of life: which calls it has had in hand for longer than one beat.
//!
//! The body of a presence envelope is text, one call a line: tenant, station, generation and seq, with a tab between
//! them. Neither tenants nor identities hold control characters. The worker's name is `ocpp-worker`. A worker that stops
//! of its own will says so with the one line `end`, so that nobody waits for its next beat.
//!
//! In front of the calls it may say something of itself, in lines of two fields: [`Facts`].

use bytes::{BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;
use std::time::Duration;

/// How often a worker gives a sign of life, unless an installation says otherwise.
pub const BEAT_DEFAULT: Duration = Duration::from_millis(500);

/// The calls of one sign of life beyond which the rest is not named. A call that is not named is handed over again,
/// which costs work and no more.
pub const CALLS_MAX: usize = 4096;

/// The key of a call: which call of which connection of whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallKey<'a> {
    /// Whose station.
    pub tenant: &'a str,
    /// Which station.
    pub station: &'a str,
    /// Which connection.
    pub generation: u64,
    /// Which call of it.
    pub seq: u64,
}

/// What a worker says of itself, so that others notice when an installation is put together wrongly. All of it may be
/// left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Which books it writes: all workers of a namespace share one set.
    pub books: Option<ByteString>,
    /// Which directory it asks: gateways and workers of a namespace share one.
    pub directory: Option<ByteString>,
    /// The highest generation of a call that its books know, or 0. No later connection may have a lower one.
    pub generation: u64,
    /// An inbox at which it takes calls beside those that it competes for: where a call goes whose first taker came to
    /// nothing. Most transports would go on giving that one its share.
    pub inbox: Option<ByteString>,
}

impl Facts {
    /// Those that a body states. What is not understood is passed over.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let mut facts = Self::default();
        for line in body.split(|byte| *byte == b'\n').take(LINES_MAX) {
            let Some((name, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once('\t'))
            else {
                break;
            };
            if value.contains('\t') {
                // The first of the calls.
                break;
            }
            match name {
                "books" => facts.books = Some(value.into()),
                "inbox" => facts.inbox = Some(value.into()),
                "directory" => facts.directory = Some(value.into()),
                "generation" => {
                    // What JSON cannot carry is no generation of ours.
                    facts.generation = value.parse().ok().filter(|known| *known < 1 << 53).unwrap_or(0);
                }
                _ => {}
            }
        }
        facts
    }
}

/// The body that names these calls; at most [`CALLS_MAX`] of them.
pub fn body<'a>(calls: impl IntoIterator<Item = CallKey<'a>>) -> Bytes {
    body_with(&Facts::default(), calls)
}

/// The same with what the worker says of itself.
pub fn body_with<'a>(facts: &Facts, calls: impl IntoIterator<Item = CallKey<'a>>) -> Bytes {
    let mut body = BytesMut::new();
    let mut number = itoa::Buffer::new();
    let generation = (facts.generation > 0).then(|| number.format(facts.generation));
    for (name, value) in [
        ("books", facts.books.as_deref()),
        ("directory", facts.directory.as_deref()),
        ("generation", generation),
        ("inbox", facts.inbox.as_deref()),
    ] {
        if let Some(value) = value {
            body.put_slice(name.as_bytes());
            body.put_u8(b'\t');
            body.put_slice(value.as_bytes());
            body.put_u8(b'\n');
        }
    }
    for call in calls.into_iter().take(CALLS_MAX) {
        body.put_slice(call.tenant.as_bytes());
        body.put_u8(b'\t');
        body.put_slice(call.station.as_bytes());
        body.put_u8(b'\t');
        body.put_slice(number.format(call.generation).as_bytes());
        body.put_u8(b'\t');
        body.put_slice(number.format(call.seq).as_bytes());
        body.put_u8(b'\n');
    }
    body.freeze()
}

/// The body of the last sign of a worker that stops of its own will.
#[must_use]
pub const fn end() -> Bytes {
    Bytes::from_static(END)
}

/// Whether this is the last sign of a worker.
#[must_use]
pub fn is_end(body: &[u8]) -> bool {
    body == END
}

/// The calls that a body names. Lines that name none are passed over.
pub fn calls(body: &[u8]) -> impl Iterator<Item = CallKey<'_>> {
    body.split(|byte| *byte == b'\n').take(LINES_MAX + CALLS_MAX).filter_map(|line| {
        let mut fields = std::str::from_utf8(line).ok()?.split('\t');
        Some(CallKey {
            tenant: fields.next()?,
            station: fields.next()?,
            generation: fields.next()?.parse().ok()?,
            seq: fields.next()?.parse().ok()?,
        })
    })
}

const END: &[u8] = b"end\n";
/// Lines in front of the calls.
const LINES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_names_is_what_a_gateway_reads() {
        let named = [
            CallKey { tenant: "default", station: "CP 1", generation: u64::MAX, seq: 0 },
            CallKey { tenant: "ü", station: "RDAM|1", generation: 1, seq: u64::MAX },
        ];
        let body = body(named);
        assert_eq!(calls(&body).collect::<Vec<_>>(), named);
        assert!(!is_end(&body) && is_end(&end()));
    }

    #[test]
    fn lines_that_name_no_call_are_passed_over() {
        let body = b"\n\xff\na\tb\tc\td\na\tb\t1\na\tb\t1\t2\nend\n";
        let call = CallKey { tenant: "a", station: "b", generation: 1, seq: 2 };
        assert_eq!(calls(body).collect::<Vec<_>>(), [call]);
        assert_eq!(calls(&end()).count(), 0);
    }

    #[test]
    fn no_more_calls_are_named_than_may() {
        let call = CallKey { tenant: "a", station: "b", generation: 1, seq: 2 };
        assert_eq!(calls(&body(std::iter::repeat_n(call, CALLS_MAX + 1))).count(), CALLS_MAX);
    }

    #[test]
    fn what_a_worker_says_of_itself_is_read_and_is_no_call() {
        let facts = Facts {
            books: Some("b1".into()),
            directory: Some("d1".into()),
            generation: 1_700_000_000_000,
            inbox: Some("calls-of-w1".into()),
        };
        let call = CallKey { tenant: "books", station: "CP1", generation: 5, seq: 9 };
        let body = body_with(&facts, [call]);
        assert_eq!(Facts::read(&body), facts);
        assert_eq!(calls(&body).collect::<Vec<_>>(), [call]);
        for nothing in [super::body([call]), end(), Bytes::new(), Bytes::from_static(b"generation\t-1\n")] {
            assert_eq!(Facts::read(&nothing), Facts::default(), "{nothing:?}");
        }
    }
}
