//! What the station wants of its client: to call, to bill, to answer, and to be otherwise than it is configured.

use super::{Client, INTERVAL_MAX, Phase, fresh_id};
use crate::client::{
    backlog::{BillError, Receipt},
    gate::Registration,
};
use bytes::Bytes;
use bytestring::ByteString;
use std::time::{Duration, Instant};
use switchboard_rpc::{
    ErrorCode, MessageId, Version,
    connection::{AnswerError, CallRefused},
    frame,
};

/// Why a call was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotCalled {
    /// There is no connection.
    #[error("the station is offline")]
    Offline,
    /// The central system has not accepted the station, and did not ask for this.
    #[error("the central system has not accepted the station yet (registration {0:?})")]
    NotAccepted(Registration),
    /// As many calls wait as may.
    #[error("too many calls wait")]
    Full,
    /// The payload is no JSON object.
    #[error("the payload is not a JSON object")]
    NotAnObject,
    /// The message is not one that goes unanswered, or the version has none.
    #[error("the message cannot be sent without an answer in this version")]
    NotUnanswered,
}

impl From<CallRefused> for NotCalled {
    fn from(refused: CallRefused) -> Self {
        match refused {
            CallRefused::Full => Self::Full,
            CallRefused::PayloadNotObject => Self::NotAnObject,
            CallRefused::NotUnanswered => Self::NotUnanswered,
            _ => Self::Offline,
        }
    }
}

impl Client {
    /// Calls the central system, and gives the key by which [`Event::Ended`](crate::client::Event::Ended)
    /// will tell the end, exactly once.
    ///
    /// # Errors
    /// When it cannot be sent now: such calls are not kept. What must not get lost is [billed](Self::bill).
    pub fn call(
        &mut self,
        action: impl Into<ByteString>,
        payload: impl Into<Bytes>,
        now: Instant,
    ) -> Result<u64, NotCalled> {
        let action = action.into();
        if !self.is_online() {
            return Err(NotCalled::Offline);
        }
        if !self.gate.allows(&action) {
            return Err(NotCalled::NotAccepted(self.gate.registration()));
        }
        self.submit(action, payload.into(), self.config.call_wait_max, now)
    }

    /// Tells the central system something that it does not answer (SEND, 2.1).
    ///
    /// # Errors
    /// When it cannot be sent now.
    pub fn send(&mut self, action: &str, payload: &[u8]) -> Result<(), NotCalled> {
        if !self.gate.allows(action) {
            return Err(NotCalled::NotAccepted(self.gate.registration()));
        }
        if self.config.version != Version::V21 {
            return Err(NotCalled::NotUnanswered);
        }
        let frame = frame::write_send(&fresh_id(), action, payload);
        Ok(self.rpc().ok_or(NotCalled::Offline)?.send_unanswered(frame)?)
    }

    /// Tells the central system that its answer to the call with this id makes no sense (CALLRESULTERROR, 2.1). In other
    /// versions nothing is sent.
    ///
    /// # Errors
    /// When it cannot be sent now.
    pub fn result_error(
        &mut self,
        id: &MessageId,
        code: ErrorCode,
        description: &str,
    ) -> Result<(), NotCalled> {
        if self.config.version != Version::V21 {
            return Ok(());
        }
        let frame = frame::write_result_error(id, code, description, b"{}");
        Ok(self.rpc().ok_or(NotCalled::Offline)?.send_unanswered(frame)?)
    }

    /// Takes back a call. True when it had not been written.
    pub fn cancel(&mut self, key: u64) -> bool {
        self.rpc().is_some_and(|rpc| rpc.cancel(key))
    }

    /// Answers the call in hand with a whole frame.
    ///
    /// # Errors
    /// As [`switchboard_rpc::Connection::answer`].
    pub fn answer(&mut self, seq: u64, frame: Bytes, now: Instant) -> Result<(), AnswerError> {
        let Phase::Online(online) = &mut self.phase else { return Err(AnswerError::Closed) };
        let text = ByteString::try_from(frame.clone()).map_err(|_| AnswerError::NotAnAnswer)?;
        online.rpc.answer(seq, frame, now)?;
        self.gate.answered(seq, &text);
        Ok(())
    }

    /// Leaves the call in hand without an answer.
    pub fn leave_unanswered(&mut self, seq: u64, now: Instant) -> bool {
        self.rpc().is_some_and(|rpc| rpc.leave_unanswered(seq, now))
    }

    /// Takes a message that must not get lost: StartTransaction, MeterValues and StopTransaction in 1.6, TransactionEvent
    /// and MeterValues in 2.x. It is kept until it was answered, or refused too often, and sent when all earlier ones are
    /// dealt with.
    ///
    /// `transaction` is the station's own name for the transaction: in 2.x the `transactionId`, in 1.6 any text that was
    /// not used before; empty for readings outside of a transaction. The `transactionId` of 1.6 is put in by the client
    /// when it is known, whatever the payload says, as is `offline` in 2.x.
    ///
    /// # Errors
    /// When it is no such message, or the queue is full.
    pub fn bill(
        &mut self,
        transaction: &ByteString,
        action: impl Into<ByteString>,
        payload: &str,
    ) -> Result<Receipt, BillError> {
        let epoch = if self.is_online() { self.epoch } else { 0 };
        let receipt = self.backlog.add(transaction, action.into(), payload, epoch);
        self.tell_backlog();
        receipt
    }
    /// Another payload for the next BootNotification, as when a reset has a reason.
    pub fn set_boot(&mut self, payload: impl Into<ByteString>) {
        self.boot.payload = payload.into();
    }

    /// Sends Heartbeats as often as this from now on.
    pub fn set_heartbeat_interval(&mut self, interval: Duration, now: Instant) {
        if !interval.is_zero() && interval != self.heartbeat.every {
            self.heartbeat.every = interval.min(INTERVAL_MAX);
            self.heartbeat.at = Some(now + self.heartbeat.every);
        }
    }

    /// Sends billing messages so often, and with such waits, from now on: [`Config::message_attempts`] and
    /// [`Config::message_retry_interval`] of a station whose central system has changed them.
    ///
    /// [`Config::message_attempts`]: crate::client::Config::message_attempts
    /// [`Config::message_retry_interval`]: crate::client::Config::message_retry_interval
    pub fn set_message_retries(&mut self, attempts: u32, interval: Duration) {
        self.backlog.set_retries(attempts, interval);
    }

    /// Pings as often as this from now on; zero: never.
    pub fn set_ping_interval(&mut self, interval: Duration, now: Instant) {
        if interval != self.ping_interval {
            self.ping_interval = interval;
            let next = self.next_ping(now);
            if let Phase::Online(online) = &mut self.phase {
                online.ping_at = next;
                online.silent_pings = 0;
            }
        }
    }

    /// Another password from the next connection on.
    pub fn set_password(&mut self, password: Option<Vec<u8>>) {
        self.password = password;
    }
}
