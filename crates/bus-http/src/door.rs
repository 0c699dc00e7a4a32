//! What others post to a gateway: commands to stations, and what its peers have for an inbox of its process.

use crate::function::COMMANDS_PATH;
use crate::gateway::{DisplayChain, Http, INBOX_PATH, Inner};
use crate::headers;
use crate::server::{Answer, empty, is_allowed, said, serve};
use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use switchboard_bus::command::Options;
use switchboard_bus::{
    Address, Bus as _, Commander, Envelope, Kind, Metadata, Outcome, PublishError, percent,
};
use switchboard_rpc::{Frame, MessageId, StationId, Version, frame};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Answers `POST /gateway/v1/…`.
///
/// - `/gateway/v1/commands`: the envelope of a command, `[2,"id","Action",{…}]` with `ocpp-station` among its headers, of
///   which none but that is needed. The response comes with the outcome: its `ocpp-outcome` says what became of it, and
///   its body is the station's frame if there is one. An empty body takes the command of that `ocpp-command-id` back.
/// - `/gateway/v1/inbox/{name}`: for gateways among each other.
///
/// With credentials in the URL of the bus requests must carry them; without, only this host may make any.
#[derive(Clone)]
pub struct Door {
    inner: Arc<Inner>,
    commander: Commander,
}

impl Door {
    /// The door of the process that has this bus; `commander` sends its commands.
    #[must_use]
    pub fn new(bus: &Http, commander: Commander) -> Self {
        Self { inner: Arc::clone(&bus.0), commander }
    }

    /// Answers whoever comes until told otherwise.
    pub async fn serve(self, listener: TcpListener, closed: CancellationToken) {
        serve(listener, closed, move |request, peer| {
            let door = self.clone();
            async move { door.answer(request, peer).await }
        })
        .await;
    }

    /// Answers one request, whose path begins with `/gateway/v1/`.
    pub async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        if !is_allowed(request.headers(), peer, self.inner.config.authorization.as_ref()) {
            return said(StatusCode::UNAUTHORIZED, "the credentials of the bus are missing\n");
        }
        let inbox = request.uri().path().strip_prefix(INBOX_PATH).and_then(percent::decode_token);
        if request.uri().path() != COMMANDS_PATH && inbox.is_none() {
            return empty(StatusCode::NOT_FOUND);
        }
        if request.method() != Method::POST {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        let head = request.headers().clone();
        let Ok(body) = headers::body(request.into_body()).await else {
            return empty(StatusCode::PAYLOAD_TOO_LARGE);
        };
        let envelope = match (headers::read(&head), headers::text(&head, "ocpp-station")) {
            (Ok(metadata), _) => Envelope::new(metadata, body),
            // Who posts a command by hand need not say that it is one.
            (Err(_), Some(station)) if inbox.is_none() && headers::text(&head, "ocpp-kind").is_none() => {
                match by_hand(&head, station) {
                    Some(metadata) => Envelope::new(metadata, body),
                    None => return said(StatusCode::BAD_REQUEST, "ocpp-station holds no identity\n"),
                }
            }
            (Err(error), _) => return said(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        match inbox {
            Some(name) => self.put(name, envelope).await,
            None => self.command(envelope).await,
        }
    }

    async fn put(&self, name: ByteString, envelope: Envelope) -> Answer {
        empty(match self.inner.local.publish(Address::Inbox(name), envelope).await {
            Ok(()) => StatusCode::ACCEPTED,
            Err(PublishError::NobodyListens) => StatusCode::NOT_FOUND,
            Err(PublishError::Busy) => StatusCode::TOO_MANY_REQUESTS,
            Err(PublishError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        })
    }

    async fn command(&self, envelope: Envelope) -> Answer {
        let Envelope { metadata, body } = envelope;
        let Some(station) = metadata.station.clone().filter(|_| metadata.kind == Kind::Command) else {
            return said(StatusCode::BAD_REQUEST, "it is no command to a station\n");
        };
        if body.is_empty() {
            let Some(id) = &metadata.command_id else {
                return said(
                    StatusCode::BAD_REQUEST,
                    "the body is empty; to take a command back, name its id\n",
                );
            };
            return match self.commander.cancel(&metadata.tenant, &station, id).await {
                Ok(()) => empty(StatusCode::ACCEPTED),
                Err(error) => said(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", DisplayChain(&error))),
            };
        }
        let version = metadata.version.unwrap_or(Version::V16);
        let text = ByteString::try_from(body).unwrap_or_default();
        let Ok(Frame::Call { id, action, payload }) = Frame::parse(&text, version) else {
            return said(StatusCode::BAD_REQUEST, "the body is no CALL: [2,\"id\",\"Action\",{}]\n");
        };
        let mut options = Options::default();
        if let Some(timeout) = metadata.remaining {
            options.timeout = timeout;
        }
        options.lane = metadata.lane;
        options.id.clone_from(&metadata.command_id);
        options.context.clone_from(&metadata.context);
        let payload = payload.into_bytes();
        let sent = self.commander.command(&metadata.tenant, &station, &action, payload, options).await;
        match sent {
            Ok(outcome) => told(*metadata, &action, &id, &outcome),
            // It went nowhere.
            Err(error) => said(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", DisplayChain(&error))),
        }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Door").finish_non_exhaustive()
    }
}

fn by_hand(head: &http::HeaderMap, station: ByteString) -> Option<Metadata> {
    let mut metadata = Metadata::new(Kind::Command);
    metadata.station = StationId::new(station, STATION_CHARACTERS_MAX).ok();
    metadata.station.as_ref()?;
    if let Some(tenant) = headers::text(head, "ocpp-tenant").filter(|tenant| !tenant.is_empty()) {
        metadata.tenant = tenant;
    }
    metadata.command_id = headers::text(head, "ocpp-command-id");
    Some(metadata)
}

/// The outcome as an envelope in a response.
fn told(command: Metadata, action: &ByteString, id: &MessageId, outcome: &Outcome) -> Answer {
    let body = match outcome {
        Outcome::Answered(payload) => frame::write_result(id, payload.as_bytes()),
        Outcome::Refused { code, description, details } => refusal(id, code, description, details),
        _ => Bytes::new(),
    };
    let metadata = Metadata {
        tenant: command.tenant,
        station: command.station,
        action: Some(action.clone()),
        command_id: command.command_id,
        context: command.context,
        outcome: Some(outcome.kind()),
        traceparent: command.traceparent,
        tracestate: command.tracestate,
        ..Metadata::new(Kind::Outcome)
    };
    let mut response = said(StatusCode::OK, body);
    headers::write(&metadata, response.headers_mut());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The station's refusal, in its own words, as the answer to the command's frame.
fn refusal(id: &MessageId, code: &str, description: &str, details: &str) -> Bytes {
    let details = if details.is_empty() { "{}" } else { details };
    let (code, description) = (serde_json::Value::from(code), serde_json::Value::from(description));
    format!("[4,{},{code},{description},{details}]", id.as_json()).into()
}

/// What an identity may have at most; who may connect is decided at another door.
const STATION_CHARACTERS_MAX: usize = 255;
