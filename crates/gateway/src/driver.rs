//! One task per socket: it moves texts between the socket and the core, and calls between the core and the desk.
//!
//! What OCPP demands is decided in `switchboard_rpc`, what becomes of a call in [`Desk`], when a station is gone in
//! [`Liveness`]; here is only who is asked when. Everything is polled in one place, so that a call that is processed in
//! this process goes from the read to the write in one turn, without another task and with one look at the clock.

use crate::{
    classes::{self, EMPTY_ANSWER},
    commands::{self, Commands, Open, Outbox},
    desk::{self, Action, Desk, Holding, Published},
    liveness::{Liveness, Sign},
    metrics::{By, Cause},
    registry::{Handle, Parcel},
    sends::{Sends, Waiting},
    shared::{Shared, now},
    socket::{Input, Lost, Socket},
    tap::{Seen, Unprocessed},
    unrecorded::{self, Ended},
};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use switchboard_bus::{Address, Envelope, Kind, Metadata, OutcomeKind, PublishError, Registration};
use switchboard_directory::{JournalEntry, OutboxEntry};
use switchboard_rpc::{
    Connection, ErrorCode, Frame, MessageId, close,
    connection::{AnswerError, CallRefused, Called, Event, Outcome, Outgoing, Role, Sent, TransmitKind},
    frame::{json_string, write_error, write_result},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Sleep,
};

/// Why a conversation ended, and what is still to be done on the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) cause: Cause,
    /// The close code: ours if we close, else the station's.
    pub(crate) code: Option<u16>,
    pub(crate) reason: &'static str,
    pub(crate) farewell: Farewell,
}

/// How a socket is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// We close, and wait for the station's side.
    Close,
    /// We close; what the station sends makes no sense any more.
    CloseBroken,
    /// The station closed, and gets its reply.
    Reply,
    /// There is nobody to take leave of.
    None,
}

impl End {
    pub(crate) const fn ours(cause: Cause, code: u16, reason: &'static str) -> Self {
        Self { cause, code: Some(code), reason, farewell: Farewell::Close }
    }

    const fn lost(cause: Cause, reason: &'static str) -> Self {
        Self { cause, code: None, reason, farewell: Farewell::None }
    }
}

/// What came of something that took its time.
enum Finished {
    Journalled(bool),
    /// What waits in the outbox.
    Waiting(Vec<OutboxEntry>),
    /// Whether this command may be written now.
    Marked(Box<OutboxEntry>, bool),
    Nothing,
}

/// The conversation on one connection.
pub(crate) struct Conversation<'a, S> {
    shared: &'a Shared,
    handle: &'a Handle,
    socket: Box<Socket<S>>,
    connection: Connection,
    desk: Desk,
    liveness: Liveness,
    /// The call that the desk has in hand.
    called: Option<Called>,
    /// When the call in hand was handed over for the first time, if how long its answer takes tells how long processing
    /// takes: not if nobody was there to take it, or something died meanwhile.
    timed: Option<Instant>,
    publishing: Option<(u32, BoxFuture<'a, Result<(), PublishError>>)>,
    /// Requests to the directory, one after another.
    errands: VecDeque<BoxFuture<'a, Finished>>,
    /// Not acknowledged yet. Boxed, as few stations ever send one.
    sends: Option<Box<Sends>>,
    commands: Commands,
    registration: Option<Registration>,
    /// The station's first call was answered, so that commands may go out.
    released: bool,
    /// Since when the station has not read what we write.
    blocked: Option<Instant>,
    /// When we must have ended.
    drain_until: Option<Instant>,
    armed: Option<Instant>,
    end: Option<End>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Conversation<'a, S> {
    pub(crate) fn new(
        shared: &'a Shared,
        handle: &'a Handle,
        socket: Box<Socket<S>>,
        registration: Option<Registration>,
    ) -> Self {
        let now = now();
        let mut connection = Connection::new(Role::Csms, handle.version, Arc::clone(&shared.rpc), now);
        if let Some(registration) = registration {
            connection.set_registration(core_registration(registration));
        }
        Self {
            shared,
            handle,
            socket,
            connection,
            desk: Desk::new(),
            liveness: Liveness::new(now, Shared::share(&handle.key), &shared.liveness),
            called: None,
            timed: None,
            publishing: None,
            errands: VecDeque::new(),
            sends: None,
            commands: Commands::default(),
            registration,
            released: false,
            blocked: None,
            drain_until: None,
            armed: None,
            end: None,
        }
    }

    /// Does what can be done, until the conversation has ended.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<End> {
        let now = now();
        self.socket.begin_turn();
        self.handle_timeouts(now);
        // Once there is nothing to be read, the socket wakes this task when there is.
        let mut all_read = false;
        for _ in 0..TURNS_MAX {
            let mut progress = self.handle_events(now);
            progress |= self.do_actions(now);
            progress |= self.poll_publishing(context, now);
            while let Some(parcel) = self.handle.mailbox().take() {
                self.handle_parcel(parcel, now);
                progress = true;
            }
            progress |= self.poll_errands(context, now);
            progress |= self.transmit(now);
            self.flush(context, now);
            if let Some(end) = self.end {
                return Poll::Ready(end);
            }
            if !all_read && self.may_read() {
                if let Poll::Ready(input) = self.socket.poll_read(context) {
                    self.handle_input(input, now);
                    continue;
                }
                all_read = true;
            }
            if progress {
                continue;
            }
            if let Poll::Ready(parcel) = self.handle.mailbox().poll_take(context) {
                self.handle_parcel(parcel, now);
                continue;
            }
            if let Some(until) = self.drain_until
                && (self.is_idle() || now >= until)
            {
                self.end(End::ours(Cause::Shutdown, close::GOING_AWAY, "the gateway is shutting down"));
                continue;
            }
            self.handle.waits_for_bus.store(self.desk.waits_for_bus(), Ordering::Relaxed);
            self.socket.slim();
            self.arm(context, timer, now);
            return Poll::Pending;
        }
        // A flood: others want their turn too.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends all that is open and hands out what must still be waited for.
    pub(crate) fn wind_up(mut self) -> (Box<Socket<S>>, BoxFuture<'a, ()>) {
        let now = now();
        self.publishing = None;
        self.connection.handle_close(now);
        self.handle_events(now);
        for parcel in self.handle.mailbox().close() {
            match parcel {
                Parcel::Answer { .. } => {
                    self.shared.metrics.answers_late.inc();
                }
                Parcel::Command(command) if !command.body.is_empty() => {
                    self.shared.tell_outcome(command.metadata, OutcomeKind::NotSent, Bytes::new());
                }
                _ => {}
            }
        }
        if let Some(sends) = &self.sends {
            // They were handed over, and their worker may well have them. Nobody will ask again.
            self.lose_sends(sends.len());
        }
        self.shared.metrics.add(&self.connection.take_stats());
        let Self { shared, handle, mut errands, socket, .. } = self;
        let rest = Box::pin(async move {
            while let Some(errand) = errands.pop_front() {
                // The directory was told that a command is about to be written, and it never was.
                if let Finished::Marked(entry, true) = errand.await {
                    put_back(shared, handle, &entry.id).await;
                }
            }
        });
        (socket, rest)
    }

    fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    fn is_idle(&self) -> bool {
        self.desk.in_hand().is_none() && self.connection.is_idle() && self.errands.is_empty()
    }

    fn may_read(&self) -> bool {
        self.blocked.is_none()
            && self.connection.wants_input()
            // While we drain only answers to our commands are of interest.
            && (self.drain_until.is_none() || !self.commands.is_empty())
    }

    fn handle_input(&mut self, input: Input, now: Instant) {
        match input {
            Input::Text(text) => self.handle_text(text, now),
            Input::Binary(bytes) => match ByteString::try_from(bytes) {
                Ok(text) if self.shared.config.binary_as_text => self.handle_text(text, now),
                _ => {
                    self.end(End::ours(Cause::Protocol, close::UNSUPPORTED, "binary messages are not taken"));
                }
            },
            Input::Ping => self.liveness.heard(now),
            Input::Pong => {
                self.liveness.heard(now);
                self.liveness.pong();
            }
            Input::Closed { code } => self.end(End {
                cause: Cause::Station,
                code,
                reason: "the station closed",
                farewell: Farewell::Reply,
            }),
            Input::Broken { code, reason } => {
                tracing::warn!(station = %self.handle.key.station, code, reason, "the station breaks the protocol");
                self.end(End {
                    cause: Cause::Protocol,
                    code: Some(code),
                    reason,
                    farewell: Farewell::CloseBroken,
                });
            }
            Input::Lost => self.end(End::lost(Cause::Lost, "the network connection was lost")),
        }
    }

    fn handle_text(&mut self, text: ByteString, now: Instant) {
        self.liveness.heard(now);
        if self.shared.tap.is_open() {
            self.shared.show(self.handle, Seen::Received(text.clone()));
        }
        self.connection.handle_text(text, now);
    }

    fn handle_timeouts(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if due(self.connection.poll_timeout()) {
            self.connection.handle_timeout(now);
        }
        if due(self.desk.poll_timeout()) {
            let presence = Named { shared: self.shared, handle: self.handle };
            self.desk.handle_timeout(now, &presence, &self.shared.rules);
        }
        if due(self.sends.as_ref().and_then(|sends| sends.poll_timeout())) {
            self.send_again(now);
        }
        match self.liveness.handle_timeout(now, &self.shared.liveness) {
            // A station that does not read would only collect pings.
            Some(Sign::Ping) if self.blocked.is_none() => {
                if let Err(Lost) = self.socket.ping() {
                    self.end(End::lost(Cause::Lost, "the network connection was lost"));
                }
            }
            Some(Sign::Gone(reason)) => self.end(End::ours(Cause::Silent, close::POLICY, reason)),
            Some(Sign::Ping) | None => {}
        }
        if due(self.blocked.map(|since| since + self.shared.config.write_timeout)) {
            self.end(End::lost(Cause::Slow, "the station does not read"));
        }
    }

    fn handle_events(&mut self, now: Instant) -> bool {
        let mut progress = false;
        while let Some(event) = self.connection.poll_event() {
            progress = true;
            match event {
                Event::Called(called) => self.take_call(called, now),
                Event::Sent(sent) => self.take_send(sent, now),
                Event::ResultError { id, code, description, .. } => {
                    self.shared.metrics.result_errors.inc();
                    tracing::warn!(
                        station = %self.handle.key.station, %code, %description,
                        "the station could not read an answer of ours"
                    );
                    self.shared.tell_event(self.handle, result_error_event(&id, &code, &description));
                }
                Event::Ended { key, outcome } => {
                    if matches!(outcome, Outcome::TimedOut) && self.shared.tap.is_open() {
                        self.shared.show(self.handle, Seen::Unanswered);
                    }
                    if let Some(open) = self.commands.ended(key) {
                        let (outcome, frame) = commands::told(outcome);
                        self.command_ended(open, outcome, frame);
                    }
                }
                Event::Close { code, reason } => {
                    self.end(End::ours(Cause::Protocol, code, reason));
                }
                Event::Ignored { reason } => {
                    tracing::debug!(station = %self.handle.key.station, ?reason, "a frame was dropped");
                }
                Event::Refused { fault } => {
                    tracing::debug!(station = %self.handle.key.station, ?fault, "a frame was refused");
                }
                _ => {}
            }
        }
        progress
    }

    fn take_call(&mut self, called: Called, now: Instant) {
        self.shared.metrics.calls.inc();
        let class = classes::class(self.handle.version, &called.action, &called.payload);
        let journal_first = self.shared.journal.holds(&self.handle.key);
        self.desk.take(called.seq, class, journal_first, called.received, now, &self.shared.rules);
        self.called = Some(called);
    }

    fn do_actions(&mut self, now: Instant) -> bool {
        let mut progress = false;
        while let Some(action) = self.desk.poll_action() {
            progress = true;
            match action {
                Action::HandOver { attempt, remaining, to_one } => {
                    self.hand_over(attempt, remaining, to_one, now);
                }
                Action::Journal => self.journal(now),
                Action::End(end) => self.end_call(end, now),
            }
        }
        progress
    }

    fn hand_over(&mut self, attempt: u32, remaining: Duration, to_one: bool, now: Instant) {
        let Some(called) = &self.called else { return };
        if attempt > 1 {
            self.shared.metrics.handed_over_again.inc();
            if self.shared.tap.is_open() {
                self.shared.show(self.handle, Seen::HandedOver { attempt });
            }
        }
        let mut metadata = self.metadata(Kind::Call, &called.action);
        metadata.seq = Some(called.seq);
        metadata.received_at_ms = Some(self.shared.clock.wall_ms(called.received));
        metadata.remaining = Some(remaining);
        metadata.attempt = attempt;
        let envelope = Envelope::new(metadata, called.frame.clone().into_bytes());
        if attempt == 1 {
            self.timed = Some(now);
        }
        let to = self.call_address(called.seq, to_one.then_some(attempt), now);
        self.publishing = Some((attempt, self.shared.bus.publish(to, envelope)));
    }

    fn poll_publishing(&mut self, context: &mut Context<'_>, now: Instant) -> bool {
        let Some((attempt, publishing)) = &mut self.publishing else { return false };
        let Poll::Ready(result) = publishing.as_mut().poll(context) else { return false };
        let attempt = *attempt;
        self.publishing = None;
        let how = match result {
            Ok(()) => Published::Taken,
            Err(error) => {
                if attempt == 1 {
                    tracing::debug!(station = %self.handle.key.station, %error, "a call could not be handed over");
                }
                match error {
                    PublishError::TooLarge { .. } => Published::Never,
                    // Somebody may have it.
                    PublishError::Refused(_) if !self.shared.rules.repeatable => Published::Taken,
                    error => {
                        // A function that fails, and one whose hands are full, is there.
                        if !matches!(error, PublishError::Busy | PublishError::Refused(_)) {
                            self.shared.processing_is_away(now);
                        }
                        self.timed = None;
                        Published::Later
                    }
                }
            }
        };
        self.desk.handle_published(attempt, how, self.shared.patience.current(), now);
        true
    }

    fn journal(&mut self, now: Instant) {
        let Some(called) = &self.called else { return };
        let entry = JournalEntry {
            id: 0,
            key: self.handle.key.clone(),
            version: self.handle.version,
            connection: self.shared.connection(self.handle.generation),
            seq: called.seq,
            action: called.action.clone(),
            frame: called.frame.clone().into_bytes(),
            received_ms: self.shared.clock.wall_ms(called.received.min(now)),
        };
        let shared = self.shared;
        self.errands.push_back(Box::pin(async move {
            Finished::Journalled(shared.journal.append(shared, entry).await)
        }));
    }

    /// Ends the call in hand without an answer of processing.
    fn end_call(&mut self, end: desk::End, now: Instant) {
        self.publishing = None;
        let Some(called) = self.called.take() else { return };
        let (by, unprocessed) = match end {
            desk::End::Journalled => (By::Journal, Some(Unprocessed::Journalled)),
            desk::End::Local => (By::Gateway, None),
            desk::End::Failed => (By::Error, Some(Unprocessed::Failed)),
            desk::End::Silence => (By::Silence, Some(Unprocessed::Silence)),
            desk::End::Close => (By::Close, Some(Unprocessed::Closed)),
        };
        self.shared.metrics.ended(by);
        if !matches!(end, desk::End::Local) && self.shared.workers.alive(now) == 0 {
            // A broker may hold calls for workers that are frozen or gone.
            self.shared.processing_is_away(now);
        }
        if let Some(unprocessed) = unprocessed
            && self.shared.tap.is_open()
        {
            self.shared.show(self.handle, Seen::Unprocessed(unprocessed));
        }
        if !matches!(end, desk::End::Local) {
            tracing::warn!(
                station = %self.handle.key.station, action = %called.action, ?end,
                "a call was not processed in time"
            );
        }
        let frame = match end {
            desk::End::Journalled => write_result(&called.id, EMPTY_ANSWER.as_bytes()),
            desk::End::Local => {
                let wall_ms = self.shared.clock.wall_ms(now);
                write_result(&called.id, classes::heartbeat_answer(wall_ms).as_bytes())
            }
            desk::End::Failed => self.internal_error(&called.id, "the call was not processed in time"),
            desk::End::Silence => {
                self.connection.leave_unanswered(called.seq, now);
                return;
            }
            desk::End::Close => {
                self.end(End::ours(
                    Cause::ProcessingAway,
                    close::TRY_LATER,
                    "the message cannot be processed now; keep it and try again",
                ));
                return;
            }
        };
        if let Err(error) = self.connection.answer(called.seq, frame, now) {
            tracing::error!(station = %self.handle.key.station, %error, "an answer of the gateway's own was refused");
        }
    }

    fn internal_error(&self, id: &MessageId, description: &str) -> Bytes {
        write_error(id, ErrorCode::InternalError, description, b"", self.handle.version)
    }

    fn handle_parcel(&mut self, parcel: Parcel, now: Instant) {
        match parcel {
            Parcel::Answer { seq, attempt, frame, registration } => {
                self.handle_answer(seq, attempt, frame, registration, now);
            }
            Parcel::Returned { seq, attempt } => {
                self.timed = None;
                self.desk.handle_returned(seq, attempt, now);
            }
            Parcel::Command(envelope) => self.handle_command(*envelope, now),
            Parcel::Unanswered(frame) => {
                if let Err(error) = self.connection.send_unanswered(frame) {
                    tracing::debug!(station = %self.handle.key.station, %error, "a frame was not sent");
                }
            }
            Parcel::Outbox => {
                if self.released {
                    self.look_into_outbox();
                }
            }
            Parcel::BusBack => {
                if self.shared.rules.repeatable {
                    self.publishing = None;
                }
                self.timed = None;
                self.desk.handle_bus_back(now, &self.shared.rules);
            }
            Parcel::WorkerGone => {
                self.timed = None;
                let presence = Named { shared: self.shared, handle: self.handle };
                self.desk.handle_worker_gone(now, &presence, &self.shared.rules);
            }
            Parcel::Replaced => self.end(End::ours(
                Cause::Replaced,
                close::POLICY,
                "replaced by a newer connection of this station",
            )),
            Parcel::Drain => {
                self.drain_until.get_or_insert(now + self.shared.config.drain_grace);
            }
        }
    }

    fn handle_answer(
        &mut self,
        seq: u64,
        attempt: u32,
        frame: Bytes,
        registration: Option<Registration>,
        now: Instant,
    ) {
        if !self.desk.handle_answer(seq) {
            if frame.is_empty() && self.sends.as_mut().is_some_and(|sends| sends.acknowledge(seq)) {
                self.shared.processing_is_back();
                if self.sends.as_ref().is_some_and(|sends| sends.is_empty()) {
                    self.sends = None;
                }
            } else {
                self.shared.metrics.answers_late.inc();
            }
            return;
        }
        let Some(called) = self.called.take() else { return };
        self.publishing = None;
        self.shared.processing_is_back();
        // Of a later attempt it is not known how much of the time the first one was lost for.
        if let Some(handed_over) = self.timed.filter(|_| attempt <= 1) {
            self.shared.patience.record(now.saturating_duration_since(handed_over));
        }
        self.shared.metrics.answered(now.saturating_duration_since(called.received));
        // Before the answer is written: it may release commands.
        if let Some(registration) = registration {
            self.register(registration);
        }
        match self.connection.answer(seq, frame, now) {
            Ok(()) => {}
            Err(AnswerError::NotAnAnswer) => {
                self.shared.metrics.answers_unfit.inc();
                tracing::error!(
                    station = %self.handle.key.station, action = %called.action,
                    "processing sent something that is no answer to this call"
                );
                let frame = self.internal_error(&called.id, "the call could not be processed");
                if let Err(error) = self.connection.answer(seq, frame, now) {
                    tracing::error!(%error, "an answer of the gateway's own was refused");
                }
            }
            Err(_) => {
                self.shared.metrics.answers_late.inc();
            }
        }
    }

    fn register(&mut self, registration: Registration) {
        if self.registration == Some(registration) {
            return;
        }
        self.registration = Some(registration);
        self.connection.set_registration(core_registration(registration));
        let (shared, handle) = (self.shared, self.handle);
        self.errands.push_back(Box::pin(async move {
            if let Err(error) = shared.directory.set_registration(&handle.key, registration).await {
                tracing::warn!(station = %handle.key.station, %error, "the registration could not be kept");
            }
            Finished::Nothing
        }));
        if self.released {
            self.look_into_outbox();
        }
    }

    fn handle_command(&mut self, envelope: Envelope, now: Instant) {
        let Envelope { metadata, body } = envelope;
        if body.is_empty() {
            if let Some(key) = metadata.command_id.as_ref().and_then(|id| self.commands.key_of(id)) {
                // Its end is an event.
                self.connection.cancel(key);
            }
            return;
        }
        if self.drain_until.is_some() {
            self.shared.tell_outcome(metadata, OutcomeKind::NotSent, Bytes::new());
            return;
        }
        let frame =
            ByteString::try_from(body).ok().and_then(|text| Frame::parse(&text, self.handle.version).ok());
        let Some(Frame::Call { action, payload, .. }) = frame else {
            tracing::warn!(station = %self.handle.key.station, "a command is no CALL");
            self.shared.tell_outcome(metadata, OutcomeKind::NotSent, Bytes::new());
            return;
        };
        if let Err((metadata, refused)) = self.call(metadata, action, payload.into_bytes(), now) {
            let outcome = match refused {
                CallRefused::Full => OutcomeKind::Busy,
                _ => OutcomeKind::NotSent,
            };
            self.shared.tell_outcome(metadata, outcome, Bytes::new());
        }
    }

    /// Gives the core a command.
    fn call(
        &mut self,
        metadata: Box<Metadata>,
        action: ByteString,
        payload: Bytes,
        now: Instant,
    ) -> Result<(), (Box<Metadata>, CallRefused)> {
        let key = self.commands.next_key();
        let timeout = metadata.remaining.unwrap_or(self.shared.config.command_timeout);
        let outgoing = Outgoing {
            key,
            id: MessageId::new(
                uuid::Uuid::new_v4().hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()),
            ),
            action,
            payload,
            lane: commands::lane(metadata.lane),
            answer_timeout: timeout,
            queue_timeout: timeout,
        };
        match self.connection.call(outgoing, now) {
            Ok(()) => {
                let outbox = metadata.outbox;
                self.commands.opened(Open { key, metadata, outbox });
                Ok(())
            }
            Err(refused) => Err((metadata, refused)),
        }
    }

    fn command_ended(&mut self, mut open: Open, outcome: OutcomeKind, frame: Bytes) {
        if outcome == OutcomeKind::Answered {
            // So that whoever cannot read the answer can say so, to this connection (C12).
            open.metadata.version = Some(self.handle.version);
            open.metadata.connection = Some(self.shared.connection(self.handle.generation));
        }
        if open.outbox {
            let (shared, handle) = (self.shared, self.handle);
            let id = open.metadata.command_id.clone().unwrap_or_default();
            self.errands.push_back(Box::pin(async move {
                if matches!(outcome, OutcomeKind::NotSent | OutcomeKind::Expired) {
                    // Only this connection's patience is over; how long it may wait says the outbox (S09).
                    put_back(shared, handle, &id).await;
                } else {
                    let key = handle.key.clone();
                    unrecorded::record(shared, Ended { key, id, outcome, frame: frame.clone() }).await;
                    shared.tell_outcome(open.metadata, outcome, frame);
                }
                Finished::Nothing
            }));
            if let Some(outbox) = &mut self.commands.outbox {
                outbox.busy = false;
            }
        } else {
            self.shared.tell_outcome(open.metadata, outcome, frame);
        }
        self.advance_outbox();
    }

    /// Asks the directory what waits for this station.
    fn look_into_outbox(&mut self) {
        if let Some(outbox) = &mut self.commands.outbox {
            outbox.again = true;
            return;
        }
        self.commands.outbox = Some(Box::new(Outbox { busy: true, ..Outbox::default() }));
        let (shared, handle) = (self.shared, self.handle);
        self.errands.push_back(Box::pin(async move {
            let now_ms = shared.clock.wall_ms(now());
            match shared.directory.outbox_waiting(&handle.key, now_ms, OUTBOX_PAGE).await {
                Ok(waiting) => Finished::Waiting(waiting),
                Err(error) => {
                    tracing::warn!(station = %handle.key.station, %error, "the outbox could not be read");
                    Finished::Waiting(Vec::new())
                }
            }
        }));
    }

    /// Sends the next command of the outbox, if none of ours is under way: then it is written as soon as the directory
    /// knows of it.
    fn advance_outbox(&mut self) {
        if !self.commands.is_empty() || self.end.is_some() || self.drain_until.is_some() {
            return;
        }
        let registration = self.connection.registration();
        let version = self.handle.version;
        let Some(outbox) = &mut self.commands.outbox else { return };
        if outbox.busy {
            return;
        }
        while let Some(entry) = outbox.waiting.pop_front() {
            if !registration.allows(version, &entry.action) {
                // It stays in the directory until the station is accepted.
                continue;
            }
            outbox.busy = true;
            let (shared, handle) = (self.shared, self.handle);
            self.errands.push_back(Box::pin(async move {
                let marking = shared.directory.outbox_sending(&handle.key, &entry.id, handle.generation);
                let may = marking.await.unwrap_or_else(|error| {
                    tracing::warn!(station = %handle.key.station, %error, "a command must wait in the outbox");
                    false
                });
                Finished::Marked(Box::new(entry), may)
            }));
            return;
        }
        let again = outbox.again;
        self.commands.outbox = None;
        if again {
            self.look_into_outbox();
        }
    }

    fn poll_errands(&mut self, context: &mut Context<'_>, now: Instant) -> bool {
        let mut progress = false;
        while let Some(errand) = self.errands.front_mut()
            && let Poll::Ready(finished) = errand.as_mut().poll(context)
        {
            progress = true;
            self.errands.pop_front();
            match finished {
                Finished::Nothing => {}
                Finished::Journalled(written) => self.desk.handle_journalled(written, &self.shared.rules),
                Finished::Waiting(waiting) => {
                    if let Some(outbox) = &mut self.commands.outbox {
                        outbox.busy = false;
                        // As many as one page holds: there may be more, once some of these are gone.
                        outbox.again |= waiting.len() >= OUTBOX_PAGE
                            && waiting.iter().any(|entry| {
                                self.connection.registration().allows(self.handle.version, &entry.action)
                            });
                        outbox.waiting = waiting.into();
                    }
                    self.advance_outbox();
                }
                Finished::Marked(entry, may) => self.send_kept(*entry, may, now),
            }
        }
        if progress && self.errands.is_empty() {
            self.errands = VecDeque::new();
        }
        progress
    }

    fn send_kept(&mut self, entry: OutboxEntry, may: bool, now: Instant) {
        if let Some(outbox) = &mut self.commands.outbox {
            outbox.busy = false;
        }
        if may {
            let metadata = commands::metadata(&entry);
            match self.call(Box::new(metadata), entry.action.clone(), entry.payload.clone(), now) {
                Ok(()) => {
                    if let Some(outbox) = &mut self.commands.outbox {
                        outbox.busy = true;
                    }
                }
                Err((_, refused)) => {
                    let (shared, handle) = (self.shared, self.handle);
                    self.errands.push_back(Box::pin(async move {
                        match refused {
                            CallRefused::PayloadNotObject => {
                                end_of_kept(shared, entry, OutcomeKind::NotSent, Bytes::new()).await;
                            }
                            _ => put_back(shared, handle, &entry.id).await,
                        }
                        Finished::Nothing
                    }));
                }
            }
        }
        self.advance_outbox();
    }

    /// Hands on what nobody answers, and keeps it until processing says that it was dealt with.
    fn take_send(&mut self, sent: Sent, now: Instant) {
        let Sent { seq, action, frame, received, .. } = sent;
        self.publish_send(seq, &action, frame.clone(), received, 1, now);
        if !self.sends.get_or_insert_default().take(seq, action, frame, received, now) {
            self.shared.metrics.sends_lost.inc();
            tracing::debug!(station = %self.handle.key.station, "more SENDs than processing takes; the oldest goes");
        }
    }

    fn publish_send(
        &self,
        seq: u64,
        action: &ByteString,
        frame: ByteString,
        received: Instant,
        attempt: u32,
        now: Instant,
    ) {
        let mut metadata = self.metadata(Kind::Send, action);
        metadata.seq = Some(seq);
        metadata.attempt = attempt;
        metadata.received_at_ms = Some(self.shared.clock.wall_ms(received));
        let deadline = received + self.shared.rules.answer_deadline;
        metadata.remaining = Some(deadline.saturating_duration_since(now));
        // As with calls, every other one is for one worker.
        let to = self.call_address(seq, attempt.is_multiple_of(2).then_some(attempt), now);
        self.shared.tell(to, Envelope::new(metadata, frame.into_bytes()));
    }

    fn send_again(&mut self, now: Instant) {
        let Some(sends) = &mut self.sends else { return };
        let presence = Named { shared: self.shared, handle: self.handle };
        let (again, lost) = sends.handle_timeout(now, &presence, self.shared.rules.answer_deadline);
        if sends.is_empty() {
            self.sends = None;
        }
        if lost > 0 {
            self.lose_sends(lost);
        }
        for waiting in again {
            self.shared.metrics.handed_over_again.inc();
            let Waiting { seq, action, frame, received, attempt, .. } = waiting;
            self.publish_send(seq, &action, frame, received, attempt, now);
        }
    }

    fn lose_sends(&self, lost: usize) {
        self.shared.metrics.sends_lost.inc_by(u64::try_from(lost).unwrap_or(u64::MAX));
        tracing::warn!(station = %self.handle.key.station, lost, "SENDs were not processed in time, and are gone");
    }

    fn metadata(&self, kind: Kind, action: &ByteString) -> Metadata {
        let mut metadata = Metadata::new(kind);
        metadata.tenant = self.handle.key.tenant.clone();
        metadata.station = Some(self.handle.key.station.clone());
        metadata.version = Some(self.handle.version);
        metadata.action = Some(action.clone());
        metadata.connection = Some(self.shared.connection(self.handle.generation));
        metadata.reply_to = Some(self.shared.name.clone());
        metadata
    }

    /// Where a call goes: to all who take them; or, where this attempt is for one, to a worker that gave a sign of life just
    /// now. One that is frozen may be given its share of calls for minutes, until the broker notices.
    fn call_address(&self, seq: u64, to_one: Option<u32>, now: Instant) -> Address {
        let inbox = to_one
            .and_then(|attempt| self.shared.workers.inbox_of_one(self.handle.call_key(seq), attempt, now));
        if let Some(inbox) = inbox {
            return Address::Inbox(inbox);
        }
        Address::Call { tenant: self.handle.key.tenant.clone(), station: self.handle.key.station.clone() }
    }

    fn transmit(&mut self, now: Instant) -> bool {
        let mut progress = false;
        // While the station does not read, what waits stays in the core, whose queues are bounded.
        while self.blocked.is_none()
            && let Some(transmit) = self.connection.poll_transmit(now)
        {
            progress = true;
            if self.shared.tap.is_open() {
                self.shared.show(self.handle, Seen::Sent(transmit.text.clone()));
            }
            if matches!(transmit.kind, TransmitKind::Answer { .. }) && !self.released {
                self.released = true;
                self.look_into_outbox();
            }
            if let Err(Lost) = self.socket.write(transmit.text) {
                self.end(End::lost(Cause::Lost, "the network connection was lost"));
                break;
            }
        }
        progress
    }

    fn flush(&mut self, context: &mut Context<'_>, now: Instant) {
        if !self.socket.is_unflushed() {
            return;
        }
        match self.socket.poll_flush(context) {
            Poll::Ready(Ok(())) => self.blocked = None,
            Poll::Ready(Err(Lost)) => self.end(End::lost(Cause::Lost, "the network connection was lost")),
            Poll::Pending => {
                self.blocked.get_or_insert(now);
            }
        }
    }

    /// Has the task woken when something is due. A timer that goes off too early costs less than moving it each time.
    fn arm(&mut self, context: &mut Context<'_>, mut timer: Pin<&mut Sleep>, now: Instant) {
        let blocked = self.blocked.map(|since| since + self.shared.config.write_timeout);
        let sends = self.sends.as_ref().and_then(|sends| sends.poll_timeout());
        let next =
            [self.connection.poll_timeout(), self.desk.poll_timeout(), sends, blocked, self.drain_until]
                .into_iter()
                .flatten()
                .fold(self.liveness.poll_timeout(&self.shared.liveness), Instant::min);
        if self.armed.is_none_or(|armed| next < armed || armed <= now) {
            timer.as_mut().reset(next.into());
            self.armed = Some(next);
            if timer.poll(context).is_ready() {
                self.armed = None;
                context.waker().wake_by_ref();
            }
        }
    }
}

/// What the workers say of the calls of one connection.
struct Named<'a> {
    shared: &'a Shared,
    handle: &'a Handle,
}

impl desk::Presence for Named<'_> {
    fn holding(&self, seq: u64, since: Instant, now: Instant) -> Holding {
        self.shared.workers.holding(self.handle.call_key(seq), since, now)
    }
}

async fn end_of_kept(shared: &Shared, entry: OutboxEntry, outcome: OutcomeKind, frame: Bytes) {
    let (key, id) = (entry.key.clone(), entry.id.clone());
    unrecorded::record(shared, Ended { key, id, outcome, frame: frame.clone() }).await;
    shared.tell_outcome(Box::new(commands::metadata(&entry)), outcome, frame);
}

/// Gives a command back to the outbox that certainly was not written.
async fn put_back(shared: &Shared, handle: &Handle, id: &ByteString) {
    if let Err(error) = shared.directory.outbox_put_back(&handle.key, id, handle.generation).await {
        tracing::warn!(station = %handle.key.station, %error, "a command could not be put back into the outbox");
        return;
    }
    // A newer connection may have looked before this one was there again.
    if let Some(newer) = shared.registry.find(&handle.key)
        && newer.generation != handle.generation
    {
        drop(newer.post(Parcel::Outbox));
    }
}

/// What others are told of a CALLRESULTERROR.
fn result_error_event(id: &MessageId, code: &str, description: &str) -> String {
    format!(
        r#"{{"event":"result-error","id":{},"code":{},"description":{}}}"#,
        id.as_json(),
        json_string(code),
        json_string(description)
    )
}

const fn core_registration(registration: Registration) -> switchboard_rpc::Registration {
    match registration {
        Registration::Accepted => switchboard_rpc::Registration::Accepted,
        Registration::Pending => switchboard_rpc::Registration::Pending,
        Registration::Rejected => switchboard_rpc::Registration::Rejected,
    }
}

/// Rounds of work before other tasks have their turn.
const TURNS_MAX: usize = 64;
/// Commands of the outbox that are read at once.
const OUTBOX_PAGE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{Begun, serve};
    use tokio::net::TcpStream;

    /// What every idle connection holds: the task, and what it keeps in boxes. The limit is a little above what it is
    /// now, so that a field too many is noticed.
    #[test]
    fn an_idle_connection_is_small() {
        const fn future<F>(_: &impl Fn(Arc<Shared>, Begun<TcpStream>) -> F) -> usize {
            size_of::<F>()
        }
        let sizes = [future(&serve::<TcpStream>), size_of::<Socket<TcpStream>>(), size_of::<Handle>()];
        assert!(sizes.iter().sum::<usize>() <= 2_100, "{sizes:?}");
    }
}
