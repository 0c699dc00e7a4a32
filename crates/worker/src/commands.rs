//! Commands of handlers, and what became of them.

use crate::{calls::Calls, reply::Missing};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::sync::{Arc, Weak};
use switchboard_bus::{
    Commander, Consumer, Done, Envelope, Kind, Lane, OutcomeKind,
    command::{Options, Outcome as Reported, object},
};
use switchboard_messages::{Mode, response_faults};
use switchboard_router::{Caller, Command, Context, Ended, Outcome};
use switchboard_rpc::{ErrorCode, Frame, Version};
use tokio::sync::Semaphore;

/// How many outcomes are handled at once.
pub(crate) const OUTCOMES_MAX: u32 = 256;

/// What is wrong with a station's answer to a command, read leniently: the code and the words in which 2.1 tells the
/// station so (C12). None if it can be read. For [`Commander::judging`]; a worker's commander is given it.
#[must_use]
pub fn unfit_answer(version: Version, action: &str, payload: &[u8]) -> Option<(ErrorCode, String)> {
    let violations = response_faults(version, action, payload, Mode::Lenient)?;
    Some((violations.code(), violations.to_string()))
}

/// The way from handlers to stations: over the bus.
pub(crate) struct Way {
    pub(crate) commander: Commander,
    pub(crate) calls: Weak<Calls>,
    /// Bounds the commands whose outcome a handler of outcomes gets.
    pub(crate) room: Arc<Semaphore>,
}

impl Way {
    pub(crate) fn new(commander: Commander, calls: Weak<Calls>) -> Self {
        let commander = commander.judging(unfit_answer);
        Self { commander, calls, room: Arc::new(Semaphore::new(Commander::IN_FLIGHT_MAX)) }
    }
}

impl Caller for Way {
    fn call(&self, command: Command) -> BoxFuture<'static, Outcome> {
        let commander = self.commander.clone();
        Box::pin(async move { run(&commander, command, None).await })
    }

    fn send(&self, command: Command, context: ByteString) -> BoxFuture<'static, Result<(), Outcome>> {
        let Some(calls) = self.calls.upgrade() else {
            return Box::pin(std::future::ready(Err(Outcome::NotSent)));
        };
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            return Box::pin(std::future::ready(Err(Outcome::Busy)));
        };
        let commander = self.commander.clone();
        let task = calls.clone();
        calls.tasks.spawn_on(
            async move {
                let mut about = Context::new(command.station.clone(), command.version);
                about.tenant = command.tenant.clone();
                about.caller.clone_from(&task.caller);
                let action = command.action.clone();
                let id = uuid::Uuid::new_v4().to_string();
                let id = command.options.key.clone().unwrap_or_else(|| id.into());
                let outcome = run(&commander, command, Some(id.clone())).await;
                task.metrics.outcomes.inc();
                task.router.outcome(&about, Ended::new(id, action, context, outcome)).await;
                drop(room);
            },
            &calls.runtime,
        );
        Box::pin(std::future::ready(Ok(())))
    }
}

async fn run(commander: &Commander, command: Command, id: Option<ByteString>) -> Outcome {
    let defaults = Options::default();
    let options = Options {
        timeout: command.options.timeout.unwrap_or(defaults.timeout),
        time_to_live: command.options.time_to_live.unwrap_or_default(),
        lane: if command.options.urgent { Lane::Urgent } else { Lane::Normal },
        key: command.options.key,
        id,
        ..defaults
    };
    match commander
        .command(&command.tenant, &command.station, &command.action, command.payload, options)
        .await
    {
        Ok(Reported::Answered(payload)) => Outcome::Answered(payload),
        Ok(Reported::Refused { code, description, details }) => {
            Outcome::Refused { code, description, details }
        }
        Ok(other) => plain(other.kind()),
        Err(error) => {
            // Whatever it was, the command went nowhere.
            tracing::warn!(station = %command.station, error = &error as &dyn std::error::Error, "a command was not sent");
            Outcome::NotSent
        }
    }
}

/// The outcomes that say everything by their name.
const fn plain(kind: OutcomeKind) -> Outcome {
    match kind {
        OutcomeKind::Offline => Outcome::Offline,
        OutcomeKind::Busy => Outcome::Busy,
        OutcomeKind::Expired => Outcome::Expired,
        OutcomeKind::Cancelled => Outcome::Cancelled,
        OutcomeKind::NotSent => Outcome::NotSent,
        // What a later version adds says nothing that this one could rely on.
        _ => Outcome::Unknown,
    }
}

/// The consumer of the worker's inbox: outcomes of commands that somebody sent with it as the address.
pub(crate) struct Inbox(pub(crate) Arc<Calls>);

impl Consumer for Inbox {
    fn deliver(&self, envelope: Envelope, done: Done) {
        let calls = &self.0;
        object(&calls.bus, unfit_answer, &envelope);
        match ended(envelope) {
            Ok((mut context, ended)) => {
                calls.metrics.outcomes.inc();
                context.caller.clone_from(&calls.caller);
                let task = calls.clone();
                calls.tasks.spawn_on(
                    async move {
                        task.router.outcome(&context, ended).await;
                        drop(done);
                    },
                    &calls.runtime,
                );
            }
            Err(missing) => {
                calls.metrics.unreadable.inc();
                tracing::warn!(%missing, "a worker's inbox was given an envelope that it cannot handle");
            }
        }
    }
}

fn ended(envelope: Envelope) -> Result<(Context, Ended), Missing> {
    let Envelope { metadata, body } = envelope;
    let (Kind::Outcome, Some(kind)) = (metadata.kind, metadata.outcome) else {
        return Err(Missing("it is no outcome"));
    };
    let station = metadata.station.ok_or(Missing("the station is missing"))?;
    // The frames that occur here look the same in all versions.
    let version = metadata.version.unwrap_or(Version::V201);
    let frame = || {
        let text = ByteString::try_from(body).map_err(|_| Missing("its body is not UTF-8"))?;
        Frame::parse(&text, version).map_err(|_| Missing("its body is no frame"))
    };
    let outcome = match kind {
        OutcomeKind::Answered => match frame()? {
            Frame::Result { payload, .. } => Outcome::Answered(payload),
            _ => return Err(Missing("its body is no CALLRESULT")),
        },
        OutcomeKind::Refused => match frame()? {
            Frame::Error { code, description, details, .. } => {
                Outcome::Refused { code, description, details }
            }
            _ => return Err(Missing("its body is no CALLERROR")),
        },
        other => plain(other),
    };
    let mut context = Context::new(station, version);
    context.tenant = metadata.tenant;
    let ended = Ended::new(
        metadata.command_id.ok_or(Missing("the command's id is missing"))?,
        metadata.action.unwrap_or_default(),
        metadata.context.unwrap_or_default(),
        outcome,
    );
    Ok((context, ended))
}
