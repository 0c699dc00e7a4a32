//! What a worker says in its sign of life: which calls it has had in hand for longer than one beat.
//!
//! The body of a presence envelope is text, one call a line: tenant, station, generation and seq, with a tab between
//! them. Neither tenants nor identities hold control characters. The worker's name is `ocpp-worker`. A worker that stops
//! of its own will says so with the one line `end`, so that nobody waits for its next beat.

use bytes::{BufMut as _, Bytes, BytesMut};
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

/// The body that names these calls; at most [`CALLS_MAX`] of them.
pub fn body<'a>(calls: impl IntoIterator<Item = CallKey<'a>>) -> Bytes {
    let mut body = BytesMut::new();
    let mut number = itoa::Buffer::new();
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
    body.split(|byte| *byte == b'\n').take(CALLS_MAX).filter_map(|line| {
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
}
