//! The limits of a connection.

use std::time::Duration;

/// The limits of a connection. One value is shared by many connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many of the peer's CALLs may wait behind the one in hand. At the bound
    /// [`Connection::wants_input`](super::Connection::wants_input) says no. Default 16.
    pub inbound_calls_max: usize,
    /// How many bytes of the peer's CALLs may wait; once there are more, no more is read. Default 256 KiB.
    pub inbound_bytes_max: usize,
    /// How many answers may wait to be written before no more is read. Default 32.
    pub transmits_max: usize,
    /// How many of our CALLs may wait in each lane. At the bound a further one is refused. Default 64.
    pub outgoing_calls_max: usize,
    /// How many events may wait to be polled before no more is read. Default 64.
    pub events_max: usize,
    /// How many bad frames within [`bad_frames_window`](Self::bad_frames_window) are borne; one more closes the
    /// connection with 1002 (F15). Default 20.
    pub bad_frames_max: usize,
    /// See [`bad_frames_max`](Self::bad_frames_max). Default 60 s.
    pub bad_frames_window: Duration,
    /// How long our CALLs wait for the station's first CALL and for the answer to its BootNotification (L06). Zero
    /// lets them go at once. Only as [`Role::Csms`](super::Role::Csms). Default 30 s.
    pub hold_max: Duration,
    /// How long an answer is kept for a CALL that is sent again (C09). Zero keeps none. Default 60 s.
    pub replay_window: Duration,
    /// How many bytes of answers are kept for that. Default 1 KiB.
    pub replay_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inbound_calls_max: 16,
            inbound_bytes_max: 256 * 1024,
            transmits_max: 32,
            outgoing_calls_max: 64,
            events_max: 64,
            bad_frames_max: 20,
            bad_frames_window: Duration::from_secs(60),
            hold_max: Duration::from_secs(30),
            replay_window: Duration::from_secs(60),
            replay_bytes_max: 1024,
        }
    }
}
