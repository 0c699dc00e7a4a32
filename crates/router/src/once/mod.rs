//! Exactly one effect per call, though calls may come more than once.
//!
//! A gateway hands a call over again when it does not know whether the first attempt was heard. The handler asks `Once` in
//! its own transaction, before it changes anything: [`sqlite::Once`] over `rusqlite`, [`postgres::Once`] over
//! `tokio-postgres`. Both keep the same two tables and come to the same decisions.
//!
//! It recognises a call that is *handed over* again. A station that *sends* again, with a new id or on a new connection,
//! makes a new call: only the natural keys of its messages tell that.

mod earlier;
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
    /// The keys that were the last before it, as [`earlier`] writes them.
    earlier: Vec<u8>,
    /// Whether the station has rows for journalled calls.
    any_journalled: bool,
}

impl Default for Last {
    /// Nothing yet, lower than every key.
    fn default() -> Self {
        Self { generation: -1, seq: -1, answer: None, earlier: Vec::new(), any_journalled: false }
    }
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
            if earlier::keys(last, &self.earlier).any(|key| key == this) {
                return Verdict::Repeat(EMPTY);
            }
        } else if this < last {
            return Verdict::Stale;
        }
        // Also for a call that does not come from the journal: its worker may have been frozen while another one worked
        // it off.
        if self.any_journalled { Verdict::Journalled } else { Verdict::Fresh }
    }

    /// The keys before this call, which is to be the last one.
    fn into_earlier(self, key: &Key) -> Vec<u8> {
        if self.generation < 0 {
            return Vec::new();
        }
        let this = (stored(key.generation), stored(key.seq));
        earlier::before(this, (self.generation, self.seq), &self.earlier)
    }
}

/// How many journalled calls of a station are remembered. They are worked off one after the other, so that only the last
/// can come again; the rest is margin.
const JOURNAL_ROWS_MAX: i64 = 64;

const EMPTY: ByteString = ByteString::from_static("{}");

/// Neither database has unsigned integers. Generations are milliseconds and counters start at zero: the top half is never
/// used.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
