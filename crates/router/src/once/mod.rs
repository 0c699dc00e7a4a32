//! Exactly one effect per call, though calls may come more than once.
//!
//! A gateway hands a call over again when it does not know whether the first attempt was heard. The handler asks `Once` in
//! its own transaction, before it changes anything: [`sqlite::Once`] over `rusqlite`, [`postgres::Once`] over
//! `tokio-postgres`. Both keep the same two tables and come to the same decisions.
//!
//! It recognises a call that is *handed over* again. A station that *sends* again, with a new id or on a new connection,
//! makes a new call: only the natural keys of its messages tell that.

#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use crate::Key;
use bytestring::ByteString;

/// What `Once::begin` found.
#[derive(Debug)]
#[must_use = "whether the call may have its effect depends on it"]
pub enum Begin<Token> {
    /// The call has had no effect yet. Make it and store the answer in the same transaction.
    Fresh(Token),
    /// It has had its effect. This was the payload of the answer; [`Reply::stored`](crate::Reply::stored) answers with it.
    Repeat(ByteString),
    /// A later call of the station had its effect already, so that nobody waits for an answer. Be silent.
    Stale,
}

/// A station's row: the last call that had its effect.
struct Last {
    generation: i64,
    seq: i64,
    answer: Option<String>,
    /// The keys that were the last before it, as [`packed`] one after the other.
    earlier: Vec<u8>,
    /// Whether the station has rows for journalled calls.
    any_journalled: bool,
}

/// What a station's row says about a call.
enum Verdict {
    Repeat(ByteString),
    Stale,
    /// Nothing of it is known here.
    Fresh,
    /// Nothing either, but the rows of journalled calls may know it.
    Journalled,
}

impl Last {
    fn judge(&mut self, key: &Key) -> Verdict {
        let this = (stored(key.generation), stored(key.seq));
        let last = (self.generation, self.seq);
        // A call that was answered late and then journalled is known by the last key too.
        if last == this {
            return Verdict::Repeat(self.answer.take().map_or(EMPTY, ByteString::from));
        }
        if key.journal.is_some() {
            // Or by the keys before that, if the station made other calls meanwhile. It was answered by its gateway.
            if self.earlier.chunks_exact(KEY_BYTES).any(|key| key == packed(this)) {
                return Verdict::Repeat(EMPTY);
            }
        } else if this < last {
            return Verdict::Stale;
        }
        // Also for a call that does not come from the journal: its worker may have been frozen while another one worked
        // it off.
        if self.any_journalled { Verdict::Journalled } else { Verdict::Fresh }
    }

    /// The keys before the call that is to be the last one.
    fn into_earlier(mut self) -> Vec<u8> {
        if self.generation >= 0 {
            self.earlier.truncate((EARLIER_MAX - 1) * KEY_BYTES);
            self.earlier.splice(..0, packed((self.generation, self.seq)));
        }
        self.earlier
    }
}

/// How many calls before the last one of a station are remembered, by their keys only. One of them may have had its effect
/// so late that its gateway journalled it; then it comes again after the few calls that do not wait for the journal.
const EARLIER_MAX: usize = 16;

/// How many journalled calls of a station are remembered. They are worked off one after the other, so that only the last
/// can come again; the rest is margin.
const JOURNAL_ROWS_MAX: i64 = 64;

/// A key as it stands among the earlier ones.
fn packed((generation, seq): (i64, i64)) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    let (first, second) = bytes.split_at_mut(KEY_BYTES / 2);
    first.copy_from_slice(&generation.to_be_bytes());
    second.copy_from_slice(&seq.to_be_bytes());
    bytes
}

const KEY_BYTES: usize = 16;

const EMPTY: ByteString = ByteString::from_static("{}");

/// Neither database has unsigned integers. Generations are milliseconds and counters start at zero: the top half is never
/// used.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
