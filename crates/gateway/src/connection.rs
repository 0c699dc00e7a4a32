//! The life of one connection from the completed upgrade on: claim, conversation, end.

use crate::{
    compression::Compressed,
    driver::{Conversation, End, Farewell},
    inbox,
    limits::Place,
    metrics::{Cause, Closed},
    registry::{Handle, Parcel, Registered},
    restore,
    shared::{Shared, now, within},
    socket::Socket,
    tap::Seen,
};
use bytes::Bytes;
use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use switchboard_bus::{Attendance, ConnectionKey, Registration, Subscribed};
use switchboard_deflate::Agreed;
use switchboard_directory::{Claim, DirectoryError, StationKey, Terms};
use switchboard_rpc::{Version, close};
use tokio::io::{AsyncRead, AsyncWrite};

/// Somebody who was let in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) key: StationKey,
    pub(crate) version: Version,
    /// What the 101 said of compression.
    pub(crate) compression: Option<Agreed>,
    /// Given back when the connection has ended.
    pub(crate) place: Place,
}

/// A connection that has begun: the station is claimed, and everybody was told.
pub(crate) struct Begun<S> {
    handle: Arc<Handle>,
    registration: Option<Registration>,
    /// What the bus gave back when it was told of the station. Boxed, as most give nothing.
    attending: Option<Box<Subscribed>>,
    /// Boxed, since a future keeps room for what it was given beside what that was moved into.
    socket: Box<Socket<S>>,
    place: Place,
}

/// Begins a connection after its 101 and before the first read (L01); none if it ended at once.
pub(crate) async fn begin<S>(
    shared: &Arc<Shared>,
    stream: S,
    early: Bytes,
    admitted: Admitted,
) -> Option<Begun<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Admitted { key, version, compression, place } = admitted;
    let compressed = compression.map(|agreed| Compressed::new(&shared.compression, agreed));
    let mut socket = Box::new(Socket::new(stream, &early, shared.config.message_bytes_max, compressed));
    match open(shared, key, Terms { version, compressed: compression.is_some() }).await {
        Ok((handle, registration, attending)) => {
            Some(Begun { handle, registration, attending, socket, place })
        }
        Err(end) => {
            shared.metrics.closed.get_or_create(&Closed { cause: end.cause }).inc();
            leave(&mut socket, end, shared.config.close_timeout).await;
            None
        }
    }
}

/// Serves a connection until its end. What it holds is what an idle station costs, so whatever happens once is boxed, or
/// was done by [`begin`] in a box of its own.
pub(crate) async fn serve<S>(shared: Arc<Shared>, begun: Begun<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Begun { handle, registration, attending, socket, place } = begun;
    let (end, mut socket) = {
        let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
        let mut conversation = Conversation::new(&shared, &handle, socket, registration);
        let end = poll_fn(|context| conversation.poll(context, timer.as_mut())).await;
        shared.registry.remove(&handle);
        drop(attending);
        // L01, L04: what is open ends first, then the socket.
        let (socket, rest) = conversation.wind_up();
        let patience = shared.config.close_timeout * 2;
        if Box::pin(tokio::time::timeout(patience, rest)).await.is_err() {
            tracing::error!(station = %handle.key.station, "the directory did not take the ends of commands");
        }
        (end, socket)
    };
    Box::pin(close_down(&shared, &handle, &mut socket, end)).await;
    drop(place);
}

/// Claims once more if the directory was lost and the clock that generations rise with was set back: the station may have had
/// any that is known, at another gateway or before we began, and a lower one is not heard by processing.
async fn beyond_the_past(
    shared: &Shared,
    key: &StationKey,
    terms: Terms,
    claim: Claim,
    now_ms: i64,
) -> Result<Claim, DirectoryError> {
    let highest = shared.generations.fetch_max(claim.generation, Ordering::Relaxed);
    if claim.generation.saturating_add(GENERATIONS_ASTRAY) >= highest {
        return Ok(claim);
    }
    if !shared.told_of_the_past.swap(true, Ordering::Relaxed) {
        tracing::error!(
            station = %key.station, given = claim.generation, known = highest,
            "the directory gives generations of the past: a clock was set back, and perhaps it was lost, too. New connections \
             get higher ones; have stations whose calls are not answered connect again"
        );
    }
    let past = ConnectionKey { gateway: shared.name.clone(), generation: highest };
    if !shared.directory.restore(key, &past, terms, now_ms).await? {
        // There is a later one meanwhile.
        return Ok(claim);
    }
    let again = shared.directory.claim(key, &shared.name, terms, now_ms).await?;
    shared.generations.fetch_max(again.generation, Ordering::Relaxed);
    Ok(Claim { previous: claim.previous, ..again })
}

/// Claims the station for this connection and tells everybody.
async fn open(
    shared: &Arc<Shared>,
    key: StationKey,
    terms: Terms,
) -> Result<(Arc<Handle>, Option<Registration>, Option<Box<Subscribed>>), End> {
    let now_ms = shared.clock.wall_ms(now());
    let claiming = async {
        let mut claim = shared.directory.claim(&key, &shared.name, terms, now_ms).await?;
        let known = shared.registry.find(&key).filter(|known| known.generation >= claim.generation);
        // The usual reason is that a still newer connection was faster. Then the directory knows of that.
        if let Some(known) = known
            && restore::restore(shared, &known).await?
        {
            tracing::error!(
                station = %key.station, given = claim.generation, known = known.generation,
                "the directory gave a generation again: it was lost or restored from a copy, and its clock was set back"
            );
            claim = shared.directory.claim(&key, &shared.name, terms, now_ms).await?;
        }
        claim = beyond_the_past(shared, &key, terms, claim, now_ms).await?;
        // Its calls must not overtake what another gateway has journalled.
        shared.journal.look_up(shared, &key).await?;
        Ok::<_, DirectoryError>(claim)
    };
    let claim = match within(shared.config.handshake_timeout, claiming).await {
        Ok(Ok(claim)) => claim,
        other => {
            if let Ok(Err(error)) = other {
                tracing::warn!(station = %key.station, %error, "a connection could not be recorded");
            }
            return Err(End::ours(
                Cause::Directory,
                close::TRY_LATER,
                "the directory is away; try again later",
            ));
        }
    };
    let Terms { version, compressed } = terms;
    let handle = Arc::new(Handle::new(key, claim.generation, terms));
    let outdated =
        End::ours(Cause::Replaced, close::POLICY, "replaced by a newer connection of this station");
    let before = match shared.registry.insert(&handle) {
        Registered::Latest(before) => before,
        Registered::Outdated => return Err(outdated),
    };
    let replaced = match (before, claim.previous) {
        (Some(before), _) => {
            // It may have ended by itself in the same moment.
            drop(before.post(Parcel::Replaced));
            true
        }
        (None, Some(previous)) if previous.gateway != shared.name => {
            inbox::tell_replaced(shared, &handle.key, previous);
            true
        }
        _ => false,
    };
    if replaced {
        shared.metrics.replaced.inc();
        shared.count_replacement(&handle.key);
    }
    if shared.draining.load(Ordering::Relaxed) {
        drop(handle.post(Parcel::Drain));
    }
    shared.metrics.opened.inc();
    shared.metrics.connections.inc();
    tracing::info!(station = %handle.key.station, generation = handle.generation, %version, compressed, "connected");
    if shared.tap.is_open() {
        shared.show(&handle, Seen::Connected);
    }
    shared.tell_event(&handle, r#"{"event":"connected"}"#);
    let who = Attendance {
        tenant: handle.key.tenant.clone(),
        station: handle.key.station.clone(),
        version,
        connection: shared.connection(handle.generation),
    };
    Ok((handle, claim.registration, shared.bus.attend(who).map(Box::new)))
}

/// Tells everybody that the connection has ended, and leaves the socket.
async fn close_down<S>(shared: &Shared, handle: &Handle, socket: &mut Socket<S>, end: End)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    shared.metrics.connections.dec();
    shared.metrics.closed.get_or_create(&Closed { cause: end.cause }).inc();
    tracing::info!(
        station = %handle.key.station, generation = handle.generation, reason = end.reason, code = end.code,
        "disconnected"
    );
    if shared.tap.is_open() {
        let replaced = end.cause == Cause::Replaced;
        shared.show(handle, Seen::Disconnected { reason: end.reason.into(), code: end.code, replaced });
    }
    // Reasons are our own texts, without anything that JSON would have to escape.
    let code = end.code.map_or_else(|| "null".to_owned(), |code| code.to_string());
    shared.tell_event(
        handle,
        format!(r#"{{"event":"disconnected","reason":"{}","closeCode":{code}}}"#, end.reason),
    );
    let now_ms = shared.clock.wall_ms(now());
    let releasing = async {
        let released = shared.directory.release(&handle.key, handle.generation, now_ms);
        match within(shared.config.handshake_timeout, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(station = %handle.key.station, %error, "the end of a connection could not be recorded");
            }
            Err(_) => {
                tracing::warn!(station = %handle.key.station, "the end of a connection could not be recorded in time");
            }
        }
    };
    futures_util::future::join(releasing, leave(socket, end, shared.config.close_timeout)).await;
}

/// Takes leave of a socket, within a time.
pub(crate) async fn leave<S>(socket: &mut Socket<S>, end: End, within: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let leaving = async {
        match end.farewell {
            Farewell::None => return,
            Farewell::Reply => {}
            Farewell::Close | Farewell::CloseBroken => {
                socket.close(end.code.unwrap_or(close::NORMAL), end.reason);
                if poll_fn(|context| socket.poll_flush(context)).await.is_err() {
                    return;
                }
            }
        }
        if end.farewell == Farewell::CloseBroken {
            poll_fn(|context| socket.poll_drained(context)).await;
        } else {
            poll_fn(|context| socket.poll_closed(context)).await;
        }
    };
    // Who does not take part is left without.
    drop(tokio::time::timeout(within, leaving).await);
}

/// By how much generations of different stations may go against each other, in milliseconds: the clocks of several gateways
/// are not quite the same. Setting one back by less takes less time than losing a directory does.
const GENERATIONS_ASTRAY: u64 = 2_000;
