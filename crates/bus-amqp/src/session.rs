//! The task of one connection: the only one that touches the socket. It reads and hands over, collects what publishers and
//! consumers left on the [`Line`], and writes all of it in one go.

use crate::connect::{Dialled, Stream};
use crate::line::{Line, OUT_BYTES_MAX, Order, Released, Shared};
use crate::publish;
use crate::subscribe::{Channel, Member, Opened, Phase, hand_over, refusal};
use crate::wire::{Content, Exchange, Frame, Header, Method, Writer, headers, heartbeat, take_frame};
use foldhash::{HashMap, HashMapExt as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use switchboard_bus::{Address, Done, Envelope, OutcomeKind, State, SubscribeError, Topic};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

/// A subscription that there is, and who waits for it to listen for the first time.
pub(crate) struct Registered {
    pub(crate) member: Arc<Member>,
    pub(crate) opened: Option<Opened>,
}

/// Why a connection ended.
pub(crate) enum End {
    /// It was closed from our side; whoever asked for it is told when the connection is gone.
    Closed(oneshot::Sender<()>),
    Lost(String),
}

/// How a connection went.
pub(crate) struct Ended {
    pub(crate) end: End,
    /// It was in use.
    pub(crate) was_up: bool,
}

/// Lives as long as the connection, and leaves the subscriptions in `members`.
pub(crate) async fn run(shared: &Arc<Shared>, dialled: Dialled, members: &mut Vec<Registered>) -> Ended {
    let now = Instant::now();
    let beat = dialled.heartbeat / 2;
    // Room for the largest frame and for what came behind it.
    let mut input = vec![0; dialled.frame_max + READ_BYTES].into_boxed_slice();
    let end = dialled.input.len().min(input.len());
    input[..end].copy_from_slice(&dialled.input[..end]);
    let mut session = Session {
        shared,
        members,
        stream: dialled.stream,
        input,
        begin: 0,
        end,
        output: Vec::new(),
        written: 0,
        write_blocked: false,
        frame_max: dialled.frame_max,
        channels_max: dialled.channels_max,
        channels: HashMap::new(),
        again: Vec::new(),
        fences: 0,
        topology: false,
        up: false,
        was_up: false,
        blocked: false,
        closing: None,
        beat,
        beat_at: now + beat,
        wrote: true,
        silent_beats: 0,
        released: Vec::new(),
        orders: Vec::new(),
        heard: false,
    };
    session.begin();
    let mut timer = Box::pin(sleep_until(session.beat_at));
    let end = std::future::poll_fn(|context| session.poll(context, timer.as_mut())).await;
    // Lost while it was being closed is closed: nobody would ask for it a second time.
    let end = match (end, session.closing.take()) {
        (End::Lost(_), Some((told, _))) => End::Closed(told),
        (end, _) => end,
    };
    Ended { end, was_up: session.was_up }
}

struct Session<'a> {
    shared: &'a Arc<Shared>,
    members: &'a mut Vec<Registered>,
    stream: Stream,
    /// What was read and not yet understood lies between `begin` and `end`.
    input: Box<[u8]>,
    begin: usize,
    end: usize,
    /// What is being written, and how much of it was.
    output: Vec<u8>,
    written: usize,
    write_blocked: bool,
    frame_max: usize,
    channels_max: u16,
    channels: HashMap<u16, Channel>,
    /// Subscriptions that are tried again. One entry each at most.
    again: Vec<(Instant, Arc<Member>)>,
    /// Questions that change nothing and are under way: what was said before one has been heard when it is answered.
    fences: u32,
    /// The exchanges are there.
    topology: bool,
    /// And all subscriptions: the bus is connected, unless it is blocked.
    up: bool,
    was_up: bool,
    blocked: bool,
    closing: Option<(oneshot::Sender<()>, Instant)>,
    beat: Duration,
    beat_at: Instant,
    /// Something was written, or read, since the last beat.
    wrote: bool,
    heard: bool,
    silent_beats: u32,
    /// Taken from the line, to be given back empty.
    released: Vec<Released>,
    orders: Vec<Order>,
}

impl Session<'_> {
    /// Makes the exchanges and all subscriptions, in one go.
    fn begin(&mut self) {
        let shared = Arc::clone(self.shared);
        let names = &shared.config.names;
        let mut line = shared.lock();
        line.out.clear();
        line.released.clear();
        line.frame_max = self.frame_max;
        let mut writer = Writer::new(&mut line.out, publish::CHANNEL);
        writer.channel_open();
        for exchange in [
            Exchange { name: &names.any_call, kind: "fanout", alternate: None },
            Exchange { name: &names.calls, kind: "direct", alternate: Some(&names.any_call) },
            Exchange { name: &names.presence, kind: "fanout", alternate: None },
            Exchange { name: &names.events, kind: "topic", alternate: None },
        ] {
            writer.exchange_declare(&exchange);
        }
        self.fence(&mut line);
        let members: Vec<_> = self.members.iter().map(|registered| Arc::clone(&registered.member)).collect();
        for member in members {
            self.open(member, &mut line.out);
        }
    }

    fn poll(&mut self, context: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<End> {
        self.shared.task.register(context.waker());
        for _ in 0..TURNS_MAX {
            let progress = match self.turn(context) {
                Ok(progress) => progress,
                Err(end) => return Poll::Ready(end),
            };
            if progress {
                continue;
            }
            if self.may_sleep() {
                return self.arm(context, timer.as_mut());
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// One round of everything; whether there may be more to do.
    fn turn(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = self.read(context)?;
        progress |= self.collect();
        if self.shared.lock().out.len() > 2 * OUT_BYTES_MAX {
            return Err(End::Lost("the broker talks and takes nothing".to_owned()));
        }
        self.on_time(Instant::now())?;
        progress |= self.write(context)?;
        if let Some((told, deadline)) = self.closing.take() {
            let all_written = self.output.is_empty() && self.shared.lock().out.is_empty();
            if (self.fences == 0 && all_written) || Instant::now() >= deadline {
                return Err(End::Closed(told));
            }
            self.closing = Some((told, deadline));
        }
        Ok(progress)
    }

    fn read(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        if self.input.len() - self.end < READ_BYTES {
            self.input.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        let mut buffer = ReadBuf::new(&mut self.input[self.end..]);
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(error)) => return Err(End::Lost(error.to_string())),
            Poll::Ready(Ok(())) => {}
        }
        let count = buffer.filled().len();
        if count == 0 {
            return Err(End::Lost("the broker closed the connection".to_owned()));
        }
        self.end += count;
        self.heard = true;
        // Taken out, so that a frame may lie in it while everything else is changed.
        let input = std::mem::take(&mut self.input);
        let result = self.understand(&input);
        self.input = input;
        result?;
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
        Ok(true)
    }

    fn understand(&mut self, input: &[u8]) -> Result<(), End> {
        loop {
            let lost = |fault: crate::wire::Fault| End::Lost(fault.to_string());
            let Some((frame, size)) =
                take_frame(&input[self.begin..self.end], self.frame_max).map_err(lost)?
            else {
                return Ok(());
            };
            self.begin += size;
            self.handle(frame)?;
        }
    }

    fn handle(&mut self, frame: Frame<'_>) -> Result<(), End> {
        let malformed = || End::Lost(crate::wire::Fault::Malformed.to_string());
        match frame {
            Frame::Heartbeat => Ok(()),
            Frame::Method(0, method) => self.handle_connection(method),
            Frame::Method(publish::CHANNEL, method) => self.handle_publishing(method),
            Frame::Method(number, method) => self.handle_channel(number, method),
            Frame::Header(publish::CHANNEL, header) => {
                self.handle_returned(&header);
                Ok(())
            }
            Frame::Body(publish::CHANNEL, _) => Ok(()),
            Frame::Header(number, header) => {
                let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
                let headers = headers(header.properties).ok_or_else(malformed)?;
                channel.header(headers, header.body_bytes).ok_or_else(malformed)
            }
            Frame::Body(number, part) => {
                let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
                channel.body(part).ok_or_else(malformed)
            }
        }
    }

    fn handle_connection(&mut self, method: Method<'_>) -> Result<(), End> {
        match method {
            // It waits for our word or our leaving; we leave.
            Method::Close { code, text } => {
                Err(End::Lost(format!("the broker closed the connection with {code} {text}")))
            }
            Method::Blocked { reason } => {
                tracing::warn!(
                    reason,
                    "the broker is short of resources and takes nothing from us; see its alarms"
                );
                self.set_blocked(true);
                Ok(())
            }
            Method::Unblocked => {
                tracing::info!("the broker takes messages again");
                self.set_blocked(false);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn handle_publishing(&mut self, method: Method<'_>) -> Result<(), End> {
        match method {
            Method::QosOk => {
                self.fences = self.fences.saturating_sub(1);
                self.topology = true;
                self.look_if_up();
                Ok(())
            }
            Method::ChannelClose { code, text } => Err(End::Lost(format!(
                "the broker refused what is published, or the exchanges: {code} {text}; the user needs the permissions of docs/support.md"
            ))),
            Method::ChannelFlow { active } => {
                Writer::new(&mut self.shared.lock().out, publish::CHANNEL).channel_flow_ok(active);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A message that nobody takes comes back: its sender is told, who is one of ours. Its body is of no interest.
    fn handle_returned(&mut self, header: &Header<'_>) {
        let sent = headers(header.properties).map(|headers| Content::new(headers, 0).envelope());
        let Some(Ok(Envelope { metadata, .. })) = sent else { return };
        let Some(name) = metadata.reply_to.clone() else { return };
        let envelope = Envelope::new(metadata.returned(OutcomeKind::Offline), "");
        let inbox = Topic::Inbox(name.clone());
        if let Some(registered) = self.members.iter().find(|registered| registered.member.topic == inbox) {
            hand_over(&registered.member, envelope, Done::noop());
        } else if let Err(error) = publish::publish(self.shared, &Address::Inbox(name), &envelope) {
            tracing::debug!(%error, "a return was lost");
        }
    }

    fn handle_channel(&mut self, number: u16, method: Method<'_>) -> Result<(), End> {
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        match method {
            Method::Deliver { .. } if self.closing.is_some() => {
                // Not acknowledged, so that another is given it.
                self.channels.remove(&number);
            }
            Method::Deliver { tag } => channel.begin(tag),
            Method::ConsumeOk if channel.phase == Phase::Opening => {
                channel.phase = Phase::Open;
                let id = channel.member.id;
                self.tell(id, Ok(()));
                self.look_if_up();
            }
            Method::CancelOk if channel.phase == Phase::Leaving => channel.phase = Phase::Draining,
            Method::ChannelCloseOk => {
                self.channels.remove(&number);
            }
            // Somebody deleted the queue, or the node that it was on is gone.
            Method::Cancel if channel.phase == Phase::Open => {
                channel.phase = Phase::Closing;
                let member = Arc::clone(&channel.member);
                Writer::new(&mut self.shared.lock().out, number).channel_close();
                self.try_again(member, "its queue was deleted");
            }
            Method::ChannelClose { code, text } => {
                Writer::new(&mut self.shared.lock().out, number).channel_close_ok();
                if let Some(channel) = self.channels.remove(&number) {
                    self.refused(channel, code, text);
                }
            }
            Method::ChannelFlow { active } => {
                Writer::new(&mut self.shared.lock().out, number).channel_flow_ok(active);
            }
            _ => {}
        }
        Ok(())
    }

    fn refused(&mut self, channel: Channel, code: u16, text: String) {
        if matches!(channel.phase, Phase::Leaving | Phase::Draining | Phase::Closing) {
            return;
        }
        let is_new = self
            .members
            .iter()
            .any(|registered| registered.member.id == channel.member.id && registered.opened.is_some());
        let reason = format!("{code} {text}");
        match refusal(&channel.member, code, text) {
            Some(error) if is_new => self.tell(channel.member.id, Err(error)),
            // One that listened before, or that came at the wrong moment, is to listen (again).
            _ => self.try_again(channel.member, &reason),
        }
    }

    fn try_again(&mut self, member: Arc<Member>, reason: &str) {
        tracing::debug!(topic = ?member.topic, reason, "a subscription is made again");
        self.again.push((Instant::now() + AGAIN_AFTER, member));
    }

    /// Tells whoever waits for a subscription, and forgets one that is refused.
    fn tell(&mut self, id: u64, result: Result<(), SubscribeError>) {
        let Some(place) = self.members.iter().position(|registered| registered.member.id == id) else {
            return;
        };
        let opened = self.members[place].opened.take();
        if result.is_err() {
            self.members.swap_remove(place);
        }
        if let Some(opened) = opened {
            // Whoever no longer waits has ended the subscription.
            drop(opened.send(result));
        }
    }

    /// Takes what others have left: deliveries dealt with, subscriptions begun and ended.
    fn collect(&mut self) -> bool {
        let shared = Arc::clone(self.shared);
        let (mut released, mut orders) =
            (std::mem::take(&mut self.released), std::mem::take(&mut self.orders));
        {
            let mut line = shared.lock();
            std::mem::swap(&mut line.released, &mut released);
            std::mem::swap(&mut line.orders, &mut orders);
        }
        let progress = !released.is_empty() || !orders.is_empty();
        for order in orders.drain(..) {
            self.obey(order);
        }
        let any_released = !released.is_empty();
        for Released { channel, instance, tag } in released.drain(..) {
            if let Some(channel) = self.channels.get_mut(&channel)
                && channel.instance == instance
            {
                channel.release(tag);
            }
        }
        if any_released {
            // Hands that were filled before a reconnection are empty now.
            self.channels.values_mut().filter(|channel| channel.has_ready()).for_each(Channel::deliver);
        }
        (self.released, self.orders) = (released, orders);
        let mut line = None;
        for channel in self.channels.values_mut().filter(|channel| channel.is_unsettled()) {
            channel.settle(&mut line.get_or_insert_with(|| shared.lock()).out);
        }
        progress
    }

    fn obey(&mut self, order: Order) {
        let shared = Arc::clone(self.shared);
        match order {
            Order::Subscribe(member, opened) => {
                if let Some(opened) = unless_taken(self.members, &member, opened) {
                    self.members.push(Registered { member: Arc::clone(&member), opened: Some(opened) });
                    self.open(member, &mut shared.lock().out);
                }
            }
            Order::Unsubscribe(id) => {
                self.members.retain(|registered| registered.member.id != id);
                self.again.retain(|(_, member)| member.id != id);
                // There may be two of them: one whose queue was deleted, and the one that was made instead.
                for channel in self.channels.values_mut().filter(|channel| channel.member.id == id) {
                    channel.leave(&mut shared.lock().out);
                }
                self.look_if_up();
            }
            Order::Close(told) => {
                self.closing = Some((told, Instant::now() + CLOSING_MAX));
                // Whatever was said before it has been heard when it is answered.
                let mut line = shared.lock();
                for channel in self.channels.values_mut() {
                    channel.settle(&mut line.out);
                }
                self.fence(&mut line);
            }
        }
    }

    /// Opens a channel for a subscription.
    fn open(&mut self, member: Arc<Member>, out: &mut Vec<u8>) {
        let first = publish::CHANNEL + 1;
        let Some(number) = (first..=self.channels_max).find(|number| !self.channels.contains_key(number))
        else {
            tracing::error!(topic = ?member.topic, "there are more subscriptions than the broker allows");
            self.again.push((Instant::now() + AGAIN_AFTER, member));
            return;
        };
        let names = &self.shared.config.names;
        self.channels.insert(number, Channel::open(number, member, names, out));
    }

    fn on_time(&mut self, now: Instant) -> Result<(), End> {
        let shared = Arc::clone(self.shared);
        let mut line = shared.lock();
        while let Some(place) = self.again.iter().position(|(at, _)| now >= *at) {
            let (_, member) = self.again.swap_remove(place);
            self.open(member, &mut line.out);
        }
        if now >= self.beat_at {
            self.beat_at = now + self.beat;
            self.silent_beats = if self.heard { 0 } else { self.silent_beats + 1 };
            if self.silent_beats >= SILENT_BEATS_MAX {
                return Err(End::Lost("nothing was heard from the broker for two heartbeats".to_owned()));
            }
            self.heard = false;
            if !std::mem::replace(&mut self.wrote, false) && line.out.is_empty() {
                heartbeat(&mut line.out);
            }
        }
        Ok(())
    }

    fn fence(&mut self, line: &mut Line) {
        Writer::new(&mut line.out, publish::CHANNEL).qos(0);
        self.fences += 1;
    }

    fn write(&mut self, context: &mut Context<'_>) -> Result<bool, End> {
        let mut progress = false;
        self.write_blocked = false;
        loop {
            if self.output.is_empty() {
                if self.output.capacity() > OUTPUT_KEPT {
                    self.output = Vec::new();
                }
                std::mem::swap(&mut self.shared.lock().out, &mut self.output);
                if self.output.is_empty() {
                    break;
                }
            }
            let writing = Pin::new(&mut self.stream).poll_write(context, &self.output[self.written..]);
            match writing {
                Poll::Ready(Ok(0)) => return Err(End::Lost("the connection takes no more bytes".to_owned())),
                Poll::Ready(Ok(count)) => {
                    (progress, self.wrote) = (true, true);
                    self.written += count;
                    if self.written == self.output.len() {
                        self.output.clear();
                        self.written = 0;
                    }
                }
                Poll::Ready(Err(error)) => return Err(End::Lost(error.to_string())),
                Poll::Pending => {
                    self.write_blocked = true;
                    break;
                }
            }
        }
        if let Poll::Ready(Err(error)) = Pin::new(&mut self.stream).poll_flush(context) {
            return Err(End::Lost(error.to_string()));
        }
        Ok(progress)
    }

    /// Whether nothing was left on the line; whoever leaves something from now on wakes us.
    fn may_sleep(&self) -> bool {
        let mut line = self.shared.lock();
        let is_idle =
            (line.out.is_empty() || self.write_blocked) && line.released.is_empty() && line.orders.is_empty();
        line.awake = !is_idle;
        is_idle
    }

    fn arm(&self, context: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<End> {
        let times = self.again.iter().map(|(at, _)| *at).chain(self.closing.iter().map(|(_, at)| *at));
        let next = times.fold(self.beat_at, Instant::min);
        if timer.deadline() != next {
            timer.as_mut().reset(next);
        }
        ready!(timer.poll(context));
        // It is time already; once more.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// The bus is connected when the exchanges and all subscriptions are there.
    fn look_if_up(&mut self) {
        let is_opening = self.channels.values().any(|channel| channel.phase == Phase::Opening);
        if !self.up && self.topology && !is_opening && self.again.is_empty() {
            (self.up, self.was_up) = (true, true);
            if !self.blocked {
                self.shared.set_state(State::Connected);
            }
        }
    }

    fn set_blocked(&mut self, blocked: bool) {
        self.blocked = blocked;
        if blocked {
            self.shared.set_state(State::Away);
        } else if self.up {
            self.shared.set_state(State::Connected);
        }
    }
}

/// An inbox has one owner, also within one connection, which the broker would not mind.
pub(crate) fn unless_taken(members: &[Registered], member: &Member, opened: Opened) -> Option<Opened> {
    match &member.topic {
        Topic::Inbox(name) if members.iter().any(|registered| registered.member.topic == member.topic) => {
            // Whoever no longer waits needs no answer.
            drop(opened.send(Err(SubscribeError::InboxTaken(name.clone()))));
            None
        }
        _ => Some(opened),
    }
}

/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;
/// A buffer for writing that is larger is not kept.
const OUTPUT_KEPT: usize = 256 * 1024;
/// Rounds of work before other tasks have their turn.
const TURNS_MAX: u32 = 16;
/// Half a heartbeat each.
const SILENT_BEATS_MAX: u32 = 4;
/// How long a subscription waits until it is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long closing waits for the broker to have heard everything.
const CLOSING_MAX: Duration = Duration::from_secs(2);
