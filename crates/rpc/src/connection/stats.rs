//! What a connection counts.

/// Plain counters of a connection. The shell takes them now and then with
/// [`Connection::take_stats`](super::Connection::take_stats) and adds them to its metrics, hence 32 bits are enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// CALLs of the peer.
    pub calls_received: u32,
    /// Answers to them that were handed out for writing.
    pub answers_sent: u32,
    /// CALLs of ours that were handed out for writing.
    pub calls_sent: u32,
    /// CALLs of ours that were answered, with a CALLRESULT or a CALLERROR.
    pub calls_answered: u32,
    /// CALLs of ours that nobody answered in time.
    pub calls_timed_out: u32,
    /// SENDs of the peer (2.1).
    pub sends_received: u32,
    /// Texts that are no frames.
    pub bad_frames: u32,
    /// Empty texts (F08).
    pub empty_frames: u32,
    /// Frames of a type that this version does not know and ignores (F03).
    pub unknown_types: u32,
    /// CALLERRORs that we wrote about bad frames.
    pub errors_sent: u32,
    /// Answers of the peer that belong to no CALL of ours: unknown, late or second (C04).
    pub answers_unmatched: u32,
    /// Answers of the peer to a CALL of ours that could not be read (C06).
    pub answers_malformed: u32,
    /// Answers of our side that came too late or twice, or after the end (C11).
    pub answers_late: u32,
    /// CALLs that were sent again and got the same answer again (C09).
    pub calls_repeated: u32,
    /// CALLs with an id that was used before for something else (C09).
    pub ids_reused: u32,
    /// CALLs of the peer and CALLERRORs about its bad frames that were dropped because a bound was reached: input came
    /// although none was wanted.
    pub overflowed: u32,
    /// Events that were dropped because nobody polled; never the end of a CALL of ours.
    pub events_lost: u32,
}
