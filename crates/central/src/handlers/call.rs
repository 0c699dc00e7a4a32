//! What every handler does alike: the call's key and bytes at hand, one effect per call, warnings kept.

use crate::books::{Forgiven, Ledger, local_list, query, registration, setting};
use crate::central::Central;
use crate::duty;
use crate::store::{Connection, StoreError, Transaction};
use bytestring::ByteString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use switchboard_messages::{Message, Request, Timestamp};
use switchboard_router::once::Begin;
use switchboard_router::{CallError, FromCall, Key, Parts, Reply};
use switchboard_rpc::{StationId, Version};

/// A call as far as the books need it, besides the message itself.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) tenant: ByteString,
    pub(super) station: StationId,
    pub(super) version: Version,
    /// None where nobody counts the calls: a plain function without a gateway. Then only natural keys recognise a repeat.
    key: Option<Key>,
    /// Already answered, and only worked off.
    journalled: bool,
    /// As the station sent it.
    pub(super) payload: ByteString,
    pub(super) warnings: Vec<Forgiven>,
}

impl FromCall<Central> for Call {
    fn from_call(parts: &Parts<'_>, central: &Central) -> Result<Self, CallError> {
        let context = parts.context;
        central.0.agenda.heard(&context.tenant, &context.station);
        central.0.watches.heard(&context.tenant, &context.station, parts.action);
        Ok(Self {
            tenant: context.tenant.clone(),
            station: context.station.clone(),
            version: context.version,
            // Directories give generations from the clock; 0 is a context that nobody filled in. A SEND has no key.
            key: (context.keyed && (context.generation != 0 || context.journal.is_some()))
                .then(|| context.key()),
            journalled: context.journal.is_some(),
            payload: parts.payload.clone(),
            warnings: parts
                .warnings
                .iter()
                .map(|warning| Forgiven {
                    pointer: warning.pointer.clone(),
                    kind: format!("{:?}", warning.kind),
                    expected: warning.expected.clone().into_owned(),
                })
                .collect(),
        })
    }
}

/// What a handler of `Q` gives: a response, one that was given before, or silence.
pub(super) type Answered<Q> = Result<Reply<<Q as Request>::Response>, CallError>;

/// What became of a call in the books.
enum Kept {
    Answer(ByteString),
    Stale,
    Unregistered,
}

/// Which calls of a station that is not accepted are served (`OCPP-J.md` section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Only those of accepted stations.
    Accepted,
    /// Also while the registration is pending: answers to what we asked (B02.FR.02).
    Pending,
    /// Also when there never was a registration: money hangs on it.
    NeverBooted,
    /// All: the boot itself.
    Open,
}

impl Gate {
    fn lets_through(self, registration: Option<&str>) -> bool {
        match registration {
            Some("Accepted") => true,
            Some("Pending") => matches!(self, Self::Pending | Self::Open),
            Some(_) => self == Self::Open,
            None => matches!(self, Self::NeverBooted | Self::Open),
        }
    }
}

impl Central {
    /// Does `work` once for this call, in the books and with the answer, and answers when all of it is on the disk.
    pub(super) async fn keep<Q: Request>(
        &self,
        gate: Gate,
        call: Call,
        work: impl Fn(&Ledger<'_>, &Call) -> Result<Q::Response, StoreError> + Send + 'static,
    ) -> Answered<Q> {
        let answer = self
            .keep_payload(gate, ByteString::from_static(Q::ACTION), call, move |ledger, call| {
                encoded(&work(ledger, call)?)
            })
            .await?;
        Ok(answer.map_or(Reply::Silence, Reply::stored))
    }

    /// As [`keep`](Self::keep), where the answer is bytes. None: silence.
    pub(super) async fn keep_payload(
        &self,
        gate: Gate,
        action: ByteString,
        call: Call,
        work: impl Fn(&Ledger<'_>, &Call) -> Result<ByteString, StoreError> + Send + 'static,
    ) -> Result<Option<ByteString>, CallError> {
        let (now_ms, rules) = (self.0.clock.now_ms(), self.rules());
        let gated = gate != Gate::Open && !call.journalled && self.gates(call.version);
        let kept = self
            .0
            .store
            .write(move |transaction| {
                let token = match call.key.as_ref().map(|key| transaction.once(key)).transpose()? {
                    None => None,
                    Some(Begin::Fresh(token)) => Some(token),
                    Some(Begin::Repeat(answer)) => return Ok(Kept::Answer(answer)),
                    Some(Begin::Stale) => return Ok(Kept::Stale),
                };
                let station = call.station.as_str();
                if token.is_none() {
                    transaction.lock_station(&call.tenant, station)?;
                }
                let ledger =
                    Ledger::open(transaction, &call.tenant, station, call.version.as_str(), now_ms, rules)?;
                if gated {
                    let registration = ledger.registration()?;
                    let registration = registration.as_deref();
                    let open = gate.lets_through(registration)
                        || (registration == Some("Pending") && ledger.was_asked_for(&action)?);
                    if !open {
                        return Ok(Kept::Unregistered);
                    }
                }
                let answer = work(&ledger, &call)?;
                ledger.forgiven(&action, &call.warnings)?;
                if let Some(token) = token {
                    transaction.store(token, &answer)?;
                }
                Ok(Kept::Answer(answer))
            })
            .await
            .map_err(unkept)?;
        match kept {
            Kept::Answer(answer) => Ok(Some(answer)),
            Kept::Stale => Ok(None),
            Kept::Unregistered => Err(unregistered()),
        }
    }

    /// Keeps a boot, and remembers what it was answered with.
    pub(super) async fn keep_boot<R: Message>(
        &self,
        call: Call,
        action: &'static str,
        work: impl Fn(&Ledger<'_>) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<Reply<R>, CallError> {
        let (tenant, station) = (call.tenant.clone(), call.station.clone());
        // Few boots are of a station that is owed something; the others cost no look into the books.
        let is_owed = Arc::new(AtomicBool::new(false));
        let owed = Arc::clone(&is_owed);
        let answer = self
            .keep_payload(Gate::Open, ByteString::from_static(action), call, move |ledger, call| {
                let answer = encoded(&work(ledger)?)?;
                let (at, tenant, station) = (ledger.at(), &*call.tenant, call.station.as_str());
                duty::booted(at, tenant, station)?;
                local_list::booted(at, tenant, station)?;
                setting::booted(at, tenant, station)?;
                owed.store(duty::is_owed(at.db, tenant, station)?, Ordering::Relaxed);
                Ok(answer)
            })
            .await?;
        let Some(answer) = answer else { return Ok(Reply::Silence) };
        self.0.accepted.note(&tenant, &station, &self.0.clock, answer.contains(r#""status":"Accepted""#));
        // What waited for this is looked at now that it is in the books. The gateway holds it back until the answer is
        // written.
        if is_owed.load(Ordering::Relaxed) {
            self.nudge(&tenant, &station);
        }
        Ok(Reply::stored(answer))
    }

    /// Tells the time. It leaves no trace: a repeat is told the time again, and rightly so.
    pub(super) async fn heartbeat(&self, action: &'static str, call: Call) -> Result<Timestamp, CallError> {
        if call.warnings.is_empty() {
            self.check_registration(action, &call).await?;
        } else {
            self.look_up(action, call, |_| Ok(())).await?;
        }
        Ok(Timestamp::from_unix_millis(self.0.clock.now_ms()))
    }

    /// Looks something up that leaves no trace, unless something was forgiven on the way.
    pub(super) async fn look_up<R: Send + 'static>(
        &self,
        action: &'static str,
        call: Call,
        look: impl Fn(&Ledger<'_>) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, CallError> {
        self.check_registration(action, &call).await?;
        let (now_ms, rules) = (self.0.clock.now_ms(), self.rules());
        if call.warnings.is_empty() {
            let read = move |db: &Connection| look(&Ledger::of_tenant(db, &call.tenant, now_ms, rules));
            return self.0.store.read(read).await.map_err(unkept);
        }
        let write = move |transaction: &Transaction<'_>| {
            let (station, version) = (call.station.as_str(), call.version.as_str());
            transaction.lock_station(&call.tenant, station)?;
            let ledger = Ledger::open(transaction, &call.tenant, station, version, now_ms, rules)?;
            ledger.forgiven(action, &call.warnings)?;
            look(&ledger)
        };
        self.0.store.write(write).await.map_err(unkept)
    }

    fn gates(&self, version: Version) -> bool {
        match version {
            Version::V16 => self.0.config.refuse_unregistered_16,
            Version::V201 | Version::V21 => self.0.config.refuse_unregistered_2x,
        }
    }

    /// Refuses a call that touches no books when its station is not accepted.
    pub(super) async fn check_registration(
        &self,
        action: &'static str,
        call: &Call,
    ) -> Result<(), CallError> {
        if !self.gates(call.version) || self.0.accepted.contains(&call.tenant, &call.station, &self.0.clock) {
            return Ok(());
        }
        let (tenant, station, now_ms) = (call.tenant.clone(), call.station.clone(), self.0.clock.now_ms());
        let (registration, asked) = self
            .0
            .store
            .read(move |db| {
                let Some((number, registration)) = query::registration(db, &tenant, station.as_str())? else {
                    return Ok((None, false));
                };
                let asked = registration.as_deref() == Some("Pending")
                    && registration::was_asked_for(db, number, action, now_ms)?;
                Ok((registration, asked))
            })
            .await
            .map_err(unkept)?;
        if Gate::Accepted.lets_through(registration.as_deref()) {
            self.0.accepted.note(&call.tenant, &call.station, &self.0.clock, true);
            return Ok(());
        }
        if asked { Ok(()) } else { Err(unregistered()) }
    }
}

/// What becomes of a call that the books did not take. Where it is the disk's fault nothing is said: an error would be
/// the end of the message for most stations, and the disk may be well before the gateway's deadline. What is wrong with
/// the disk is told by the store's health, once for all calls.
fn unkept(error: StoreError) -> CallError {
    match error {
        StoreError::Panicked | StoreError::Invalid(_) => CallError::internal(error),
        StoreError::Sql(cause) => {
            // What ails the disk the writer tells. This is a mistake of ours, or somebody has been at the file.
            tracing::error!(
                error = &*cause as &dyn std::error::Error,
                "the books refuse a statement; the call is not answered"
            );
            CallError::later()
        }
        _ => CallError::later(),
    }
}

fn unregistered() -> CallError {
    CallError::security("the station is not accepted; send a BootNotification first")
}

/// A response as its payload.
pub(super) fn encoded(response: &impl Message) -> Result<ByteString, StoreError> {
    let mut payload = Vec::with_capacity(64);
    response
        .encode(&mut payload)
        .map_err(|violations| StoreError::Invalid(format!("our answer is not valid: {violations}")))?;
    ByteString::try_from(payload).map_err(|_| StoreError::Invalid("our answer is not UTF-8".to_owned()))
}

/// A handler of a notification that is only kept: `natural` is what recognises a repeat, `None` where nothing can.
macro_rules! notices {
    ($($name:ident($message:ident: $request:ty) { natural: $natural:expr, answer: $answer:expr $(,)? })*) => {
        $(async fn $name(
            State(central): State<Central>,
            call: Call,
            $message: $request,
        ) -> Answered<$request> {
            let natural: Option<String> = $natural;
            let keep = move |ledger: &Ledger<'_>, call: &Call| {
                ledger.notice(<$request>::ACTION, natural.as_deref(), &call.payload)?;
                Ok($answer)
            };
            central.keep::<$request>(Gate::Accepted, call, keep).await
        })*
    };
}
pub(super) use notices;

/// A handler of a part of an answer to something that we asked.
macro_rules! parts {
    ($($name:ident($message:ident: $request:ty) $gate:expr, $number:expr;)*) => {
        $(async fn $name(
            State(central): State<Central>,
            call: Call,
            $message: $request,
        ) -> Answered<$request> {
            let part = Part {
                request: $message.request_id,
                number: $number,
                last: !$message.tbc.unwrap_or(false),
            };
            let keep = move |ledger: &Ledger<'_>, call: &Call| {
                ledger.report_part(<$request>::ACTION, &part, &call.payload)?;
                Ok(<<$request as switchboard_messages::Request>::Response>::default())
            };
            central.keep::<$request>($gate, call, keep).await
        })*
    };
}
pub(super) use parts;
