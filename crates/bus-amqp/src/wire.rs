//! AMQP 0-9-1 as bytes: what this driver says of it, and what it has to understand. No I/O, no clock.
//!
//! Our own rather than a client library's, for four things that the one at hand (lapin) cannot do: tell of a returned
//! message when it comes, without a confirm for every message; write our headers into the buffer that goes to the socket, and read them
//! out of the one that came from it, without a table in between; leave by dropping the TCP connection; and keep payloads
//! out of the log, where it writes each message that is returned.

mod read;
mod write;

pub(crate) use read::{Content, Fault, Frame, Header, Method, headers, take_frame};
pub(crate) use write::{Declare, Exchange, Publish, Writer, heartbeat};

/// What a client says first.
pub(crate) const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// The size of a frame beyond its payload: kind, channel, size, and the end.
pub(crate) const FRAME_OVERHEAD: usize = 8;
/// The frames that are made and accepted before both sides have agreed on more.
pub(crate) const FRAME_MIN: usize = 4096;

const FRAME_METHOD: u8 = 1;
const FRAME_HEADER: u8 = 2;
const FRAME_BODY: u8 = 3;
const FRAME_HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xce;

/// Class and method of each method that is written or read here.
pub(crate) mod id {
    pub(crate) type Id = (u16, u16);
    pub(crate) const CONNECTION_START: Id = (10, 10);
    pub(crate) const CONNECTION_START_OK: Id = (10, 11);
    pub(crate) const CONNECTION_TUNE: Id = (10, 30);
    pub(crate) const CONNECTION_TUNE_OK: Id = (10, 31);
    pub(crate) const CONNECTION_OPEN: Id = (10, 40);
    pub(crate) const CONNECTION_OPEN_OK: Id = (10, 41);
    pub(crate) const CONNECTION_CLOSE: Id = (10, 50);
    pub(crate) const CONNECTION_CLOSE_OK: Id = (10, 51);
    pub(crate) const CONNECTION_BLOCKED: Id = (10, 60);
    pub(crate) const CONNECTION_UNBLOCKED: Id = (10, 61);
    pub(crate) const CHANNEL_OPEN: Id = (20, 10);
    pub(crate) const CHANNEL_FLOW: Id = (20, 20);
    pub(crate) const CHANNEL_FLOW_OK: Id = (20, 21);
    pub(crate) const CHANNEL_CLOSE: Id = (20, 40);
    pub(crate) const CHANNEL_CLOSE_OK: Id = (20, 41);
    pub(crate) const EXCHANGE_DECLARE: Id = (40, 10);
    pub(crate) const QUEUE_DECLARE: Id = (50, 10);
    pub(crate) const QUEUE_BIND: Id = (50, 20);
    pub(crate) const BASIC_QOS: Id = (60, 10);
    pub(crate) const BASIC_QOS_OK: Id = (60, 11);
    pub(crate) const BASIC_CONSUME: Id = (60, 20);
    pub(crate) const BASIC_CONSUME_OK: Id = (60, 21);
    pub(crate) const BASIC_CANCEL: Id = (60, 30);
    pub(crate) const BASIC_CANCEL_OK: Id = (60, 31);
    pub(crate) const BASIC_PUBLISH: Id = (60, 40);
    pub(crate) const BASIC_RETURN: Id = (60, 50);
    pub(crate) const BASIC_DELIVER: Id = (60, 60);
    pub(crate) const BASIC_ACK: Id = (60, 80);
    pub(crate) const BASIC_NACK: Id = (60, 120);
}

/// The bits that say which properties of a message follow.
mod property {
    pub(super) const CONTENT_TYPE: u16 = 1 << 15;
    pub(super) const CONTENT_ENCODING: u16 = 1 << 14;
    pub(super) const HEADERS: u16 = 1 << 13;
    pub(super) const REPLY_TO: u16 = 1 << 9;
    pub(super) const EXPIRATION: u16 = 1 << 8;
}

#[cfg(test)]
mod tests;
