//! The public port: accepts sockets, answers handshakes, and starts a task for each station that is let in.

use crate::{
    connection::{self, Admitted, Begun},
    driver::{End, Farewell},
    handshake::{self, Choice, Offer, Proof, Refusal, Standing},
    metrics::Cause,
    shared::{Shared, now, within},
    socket::Socket,
    tap::{Record, Seen},
};
use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};
use switchboard_directory::password::VerifyError;
use switchboard_rpc::close;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

/// Accepts sockets until the token is cancelled.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) {
    // A closed semaphore or none: both would be faults of ours, and nobody closes it.
    let handshakes = Arc::new(Semaphore::new(shared.config.handshakes_max.clamp(1, Semaphore::MAX_PERMITS)));
    // More wait for their turn here than the kernel keeps: what it has no room for it forgets, although the station has seen
    // its connection made, and resets seconds later when the station's request comes once more.
    let waiting = Arc::new(Semaphore::new(WAITING_MAX));
    let inherits_nodelay = listener_is_without_delay(&listener);
    let mut stopped = pin!(stop.cancelled());
    loop {
        let next = async {
            let place = Arc::clone(&waiting).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, waits) = tokio::select! {
            () = &mut stopped => return,
            next = next => next,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Usually: no file descriptors left. Those that end give theirs back.
                tracing::error!(%error, "a socket could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Answers are small and waited for.
        if !inherits_nodelay && let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a socket ended before it was served");
            continue;
        }
        let serving = Arc::clone(&shared);
        let turn = Arc::clone(&handshakes).acquire_owned();
        // In a box of its own each: that of the handshake carries all of HTTP with it, and its memory goes when it ends; and a
        // task is moved from hand to hand a dozen times before it runs.
        let beginning = Box::pin(async move {
            // In the order in which they came. The time for the handshake begins with the turn.
            let place = turn.await;
            drop(waits);
            let shaken = {
                let shaking = pin!(shake_hands(&serving, stream, peer.ip()));
                tokio::time::timeout(serving.config.handshake_timeout, shaking).await
            };
            // Only handshakes are limited by it.
            drop(place);
            let (stream, early, outcome) = shaken.ok()??;
            let begun = begin(&serving, stream, early, outcome).await?;
            Some(Box::pin(connection::serve(serving, begun)))
        });
        shared.tasks.spawn(async move {
            if let Some(conversation) = beginning.await {
                conversation.await;
            }
        });
    }
}

/// Has the listener's sockets send at once what is written, where they inherit that: whether they do.
fn listener_is_without_delay(listener: &TcpListener) -> bool {
    cfg!(target_os = "linux") && socket2::SockRef::from(listener).set_tcp_nodelay(true).is_ok()
}

/// Sockets that wait until it is their turn to shake hands, besides those that do; further ones wait in the kernel. Each costs
/// a file descriptor and a few kilobytes.
const WAITING_MAX: usize = 16_384;

/// What the 101 promised.
enum Outcome {
    Admitted(Admitted),
    ThenClose,
}

/// Goes on with a socket after the 101; none if it has ended already.
async fn begin(
    shared: &Arc<Shared>,
    stream: TcpStream,
    early: Bytes,
    outcome: Outcome,
) -> Option<Begun<TcpStream>> {
    match outcome {
        Outcome::Admitted(admitted) => connection::begin(shared, stream, early, admitted).await,
        Outcome::ThenClose => {
            let mut socket = Socket::new(stream, &early, shared.config.message_bytes_max, None);
            let end = End {
                cause: Cause::Protocol,
                code: Some(close::PROTOCOL_ERROR),
                reason: "none of the offered subprotocols is spoken here",
                farewell: Farewell::Close,
            };
            connection::leave(&mut socket, end, shared.config.close_timeout).await;
            None
        }
    }
}

/// Answers requests on a socket until one is an upgrade that we take.
async fn shake_hands(
    shared: &Arc<Shared>,
    stream: TcpStream,
    address: IpAddr,
) -> Option<(TcpStream, Bytes, Outcome)> {
    let outcome = Arc::new(Mutex::new(None));
    let service = service_fn(|request: Request<Incoming>| {
        let shared = Arc::clone(shared);
        let outcome = Arc::clone(&outcome);
        async move {
            let head = request.into_parts().0;
            Ok::<_, Infallible>(match decide(&shared, &head, address).await {
                Ok((response, decided)) => {
                    *outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(decided);
                    response
                }
                Err(refusal) => refuse(&shared, &head, address, &refusal),
            })
        }
    });
    let mut builder = http1::Builder::new();
    builder
        // The handshake as a whole has its time.
        .header_read_timeout(None)
        // There is one buffer to write, for which a list of buffers costs the kernel more.
        .writev(false)
        // Hyper's own least.
        .max_buf_size(shared.config.head_bytes_max.max(8192));
    // With keep-alive off hyper would say `Connection: Upgrade, close` in the 101, which clients refuse that compare the
    // header as a whole. Refusals say `close` themselves.
    let serving = builder.serve_connection(TokioIo::new(stream), service).without_shutdown();
    let parts = match Box::pin(serving).await {
        Ok(parts) => parts,
        Err(error) => {
            tracing::debug!(%error, %address, "a handshake was not completed");
            return None;
        }
    };
    let mut stream = parts.io.into_inner();
    let decided = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    match decided {
        Some(outcome) => Some((stream, parts.read_buf, outcome)),
        None => {
            part(&mut stream).await;
            None
        }
    }
}

/// Ends a socket whose request was refused. Bytes that nobody read would reset it, and the answer with it.
async fn part(stream: &mut TcpStream) {
    let parting = async {
        stream.shutdown().await?;
        let mut waste = [0; 512];
        for _ in 0..128 {
            if stream.read(&mut waste).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    // Whoever stays longer is left.
    drop(tokio::time::timeout(Duration::from_secs(1), parting).await);
}

/// Decides on one request.
async fn decide(
    shared: &Shared,
    head: &Parts,
    address: IpAddr,
) -> Result<(Response<Full<Bytes>>, Outcome), Refusal> {
    let config = &shared.config;
    let offer = handshake::read(head, config)?;
    if shared.draining.load(Ordering::Relaxed) {
        return Err(Refusal::Draining);
    }
    let now = now();
    if config.refuse_upgrades_after.is_some_and(|limit| shared.processing_away_for(now) > limit)
        && !shared.may_try(now)
    {
        return Err(Refusal::ProcessingAway);
    }
    let place = shared.limits.enter(address, &offer.key.tenant, now)?;
    // Leaves time to say so.
    let patience = config.handshake_timeout * 3 / 4;
    within(patience, admit(shared, &offer)).await.map_err(|_| Refusal::LookUp)??;
    let choice = handshake::choose(&offer, config)?;
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, offer.accept);
    let outcome = match choice {
        Choice::Speak { version, named } => {
            if named {
                response = response.header(header::SEC_WEBSOCKET_PROTOCOL, version.subprotocol());
            }
            let compression = offer.compression;
            if let Some(agreed) = compression {
                response = response.header(header::SEC_WEBSOCKET_EXTENSIONS, &*agreed.answer());
            }
            Outcome::Admitted(Admitted { key: offer.key.detached(), version, compression, place })
        }
        Choice::ThenClose => Outcome::ThenClose,
    };
    let response = response
        .body(Full::default())
        .map_err(|_| Refusal::Malformed("The header Sec-WebSocket-Key cannot be used."))?;
    Ok((response, outcome))
}

/// Whether the one who knocks is let in.
async fn admit(shared: &Shared, offer: &Offer) -> Result<(), Refusal> {
    let account = match shared.directory.account(&offer.key).await {
        Ok(account) => account,
        Err(error) => {
            tracing::warn!(station = %offer.key.station, %error, "an account could not be looked up");
            return Err(Refusal::LookUp);
        }
    };
    let standing = account.as_ref().map_or(Standing::Unknown, Standing::Registered);
    let proof = handshake::admit(offer, standing, &shared.config)?;
    match (proof, &account) {
        (Proof::Password(password), Some(account)) => {
            match shared.verifier.verify(account, &password).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Refusal::CredentialsWrong),
                Err(VerifyError::Busy) => Err(Refusal::Busy),
                Err(error) => {
                    tracing::error!(station = %offer.key.station, %error, "a password could not be checked");
                    Err(Refusal::LookUp)
                }
            }
        }
        _ => {
            if shared.config.keep_old && is_connected(shared, offer).await? {
                return Err(Refusal::Taken);
            }
            Ok(())
        }
    }
}

/// Whether the station has a connection, here or at another gateway.
async fn is_connected(shared: &Shared, offer: &Offer) -> Result<bool, Refusal> {
    if shared.registry.find(&offer.key).is_some() {
        return Ok(true);
    }
    let now_ms = shared.clock.wall_ms(now());
    let located = shared.directory.locate(&offer.key, now_ms).await.map_err(|_| Refusal::LookUp)?;
    // One of ours that we do not know has ended.
    Ok(located.is_some_and(|location| location.connection.gateway != shared.name))
}

/// The answer to a request that gets no 101.
fn refuse(shared: &Shared, head: &Parts, address: IpAddr, refusal: &Refusal) -> Response<Full<Bytes>> {
    shared.metrics.refused(refusal);
    if shared.tap.is_open() {
        show_refusal(shared, head, address, refusal);
    }
    let status = refusal.status();
    if refusal.is_passing() {
        tracing::debug!(path = head.uri.path(), status = status.as_u16(), ?refusal, "refused");
    } else {
        let offered = head.headers.get(header::SEC_WEBSOCKET_PROTOCOL);
        tracing::info!(path = head.uri.path(), status = status.as_u16(), ?refusal, ?offered, "refused");
    }
    let mut response = Response::new(Full::from(refusal.sentence(&shared.config) + "\n"));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    match status {
        StatusCode::UNAUTHORIZED => {
            let realm: String =
                shared.config.realm.chars().filter(|c| !c.is_control() && *c != '"').collect();
            if let Ok(value) = HeaderValue::try_from(format!("Basic realm=\"{realm}\"")) {
                headers.insert(header::WWW_AUTHENTICATE, value);
            }
        }
        StatusCode::UPGRADE_REQUIRED => {
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        _ if refusal.is_passing() => {
            let after = shared.config.retry_after.mul_f64(0.5 + fastrand::f64()).as_secs().max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
        }
        _ => {}
    }
    response
}

/// Shows a refused request to whoever follows the traffic.
fn show_refusal(shared: &Shared, head: &Parts, address: IpAddr, refusal: &Refusal) {
    let key = handshake::station(head.uri.path(), &shared.config);
    let at = now();
    shared.tap.show(Record {
        tenant: key.as_ref().map_or_else(|| ByteString::from_static("default"), |key| key.tenant.clone()),
        station: key.map(|key| key.station),
        generation: 0,
        version: None,
        at,
        time_ms: shared.clock.wall_ms(at),
        seen: Seen::Refused {
            address,
            path: head.uri.path().into(),
            status: refusal.status().as_u16(),
            reason: refusal.sentence(&shared.config).into(),
        },
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_are_sent_without_delay_also_where_the_listener_says_so_for_all() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inherits = listener_is_without_delay(&listener);
        let _station = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.nodelay().unwrap(), inherits);
    }
}
