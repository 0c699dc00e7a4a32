//! What others post to us: calls for the workers of this process, what is for its inboxes, and commands of those who have no
//! inbox.

use crate::bus::Inner;
use crate::calls::DisplayChain;
use crate::headers;
use crate::place::{COMMANDS_PATH, INBOX_PATH};
use crate::server::{Answer, empty, is_allowed, said};
use crate::waits::Awaited;
use bytes::Bytes;
use bytestring::ByteString;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use switchboard_bus::command::Options;
use switchboard_bus::{
    Address, Bus as _, Envelope, Kind, Metadata, Outcome, OutcomeKind, PublishError, percent,
};
use switchboard_rpc::{Frame, MessageId, StationId, Version, frame};

/// What a path is for.
enum Way {
    Commands,
    Inbox(ByteString),
    Calls,
}

impl Inner {
    /// Answers one request.
    ///
    /// - `/gateway/v1/commands`: the envelope of a command, `[2,"id","Action",{…}]` with `ocpp-station` among its headers, of
    ///   which none but that is needed. The response comes with the outcome: its `ocpp-outcome` says what became of it, and
    ///   its body is the station's frame if there is one. An empty body takes the command of that `ocpp-command-id` back.
    /// - `/gateway/v1/inbox/{name}`: what is for an inbox of this process. The response to a command is its outcome.
    /// - Anything else: a call. The response is its answer.
    pub(crate) async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let Some(way) = Way::of(request.uri().path()) else { return empty(StatusCode::NOT_FOUND) };
        if matches!(way, Way::Calls) && matches!(*request.method(), Method::GET | Method::HEAD) {
            let takes_calls = self.takers.load(Ordering::Relaxed) > 0;
            return empty(if takes_calls { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE });
        }
        if request.method() != Method::POST {
            return empty(StatusCode::METHOD_NOT_ALLOWED);
        }
        if !is_allowed(request.headers(), peer, self.config.authorization.as_ref()) {
            return said(StatusCode::UNAUTHORIZED, "the credentials of the bus are missing\n");
        }
        let head = request.headers().clone();
        let Ok(body) = headers::body(request.into_body()).await else {
            return empty(StatusCode::PAYLOAD_TOO_LARGE);
        };
        let metadata = match (headers::read(&head), &way) {
            (Ok(metadata), _) => metadata,
            // Who posts a command by hand need not say that it is one.
            (Err(_), Way::Commands) if headers::text(&head, "ocpp-kind").is_none() => match by_hand(&head) {
                Some(metadata) => metadata,
                None => return said(StatusCode::BAD_REQUEST, "ocpp-station holds no identity\n"),
            },
            (Err(error), _) => return said(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        let envelope = Envelope::new(metadata, body);
        match way {
            Way::Commands => self.command(envelope).await,
            Way::Inbox(name) => self.put(name, envelope).await,
            Way::Calls => self.call(envelope).await,
        }
    }

    /// Gives a call to a worker, and waits for its answer.
    async fn call(&self, call: Envelope) -> Answer {
        let metadata = &call.metadata;
        let (true, Some(station)) =
            (matches!(metadata.kind, Kind::Call | Kind::Send), metadata.station.clone())
        else {
            return said(StatusCode::BAD_REQUEST, "only calls of stations are answered here\n");
        };
        let limit = metadata.remaining.unwrap_or(ANSWER_MAX);
        let to = Address::Call { tenant: metadata.tenant.clone(), station };
        self.hand_over(to, call, limit, StatusCode::SERVICE_UNAVAILABLE).await
    }

    /// Puts something into an inbox, and waits for the outcome if it is a command.
    async fn put(&self, name: ByteString, envelope: Envelope) -> Answer {
        let limit = envelope.metadata.remaining.unwrap_or(ANSWER_MAX).saturating_mul(2) + OUTCOME_GRACE;
        match envelope.metadata.kind {
            Kind::Command => {
                self.hand_over(Address::Inbox(name), envelope, limit, StatusCode::NOT_FOUND).await
            }
            // Whoever asked may wait at a request that was made here.
            _ => match self.waits.give(&name, envelope) {
                Ok(()) => empty(StatusCode::ACCEPTED),
                Err(envelope) => {
                    self.hand_over(Address::Inbox(name), envelope, limit, StatusCode::NOT_FOUND).await
                }
            },
        }
    }

    async fn hand_over(
        &self,
        to: Address,
        envelope: Envelope,
        limit: Duration,
        nobody: StatusCode,
    ) -> Answer {
        let awaited = Awaited::by(&envelope.metadata, envelope.body.is_empty());
        // Only what has an end of its own: a command, or what was posted as a call.
        let awaited = awaited.filter(|awaited| {
            matches!((&to, awaited), (Address::Call { .. }, _) | (_, Awaited::Outcome { .. }))
        });
        let waiting = awaited.map(|awaited| self.waits.begin(awaited));
        match self.local.publish(to, envelope).await {
            Ok(()) => {}
            Err(PublishError::NobodyListens) => return empty(nobody),
            Err(PublishError::Busy) => return empty(StatusCode::TOO_MANY_REQUESTS),
            Err(PublishError::TooLarge { .. }) => return empty(StatusCode::PAYLOAD_TOO_LARGE),
            Err(_) => return empty(StatusCode::SERVICE_UNAVAILABLE),
        }
        let Some(mut waiting) = waiting else { return empty(StatusCode::ACCEPTED) };
        match tokio::time::timeout(limit, waiting.ended()).await {
            Ok(Some(end)) if end.metadata.kind == Kind::Returned => empty(match end.metadata.outcome {
                Some(OutcomeKind::Busy) => StatusCode::TOO_MANY_REQUESTS,
                _ => nobody,
            }),
            Ok(Some(end)) => envelope_of(&end.metadata, end.body),
            _ => empty(StatusCode::GATEWAY_TIMEOUT),
        }
    }

    /// Finds the station of a command and sends it there.
    async fn command(&self, envelope: Envelope) -> Answer {
        let Some(commander) = self.commander() else {
            return said(StatusCode::SERVICE_UNAVAILABLE, "commands are posted to a gateway\n");
        };
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
            return match commander.cancel(&metadata.tenant, &station, id).await {
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
        let sent = commander.command(&metadata.tenant, &station, &action, payload, options).await;
        match sent {
            Ok(outcome) => told(*metadata, &action, &id, &outcome),
            // It went nowhere.
            Err(error) => said(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", DisplayChain(&error))),
        }
    }
}

impl Way {
    fn of(path: &str) -> Option<Self> {
        if path == COMMANDS_PATH {
            return Some(Self::Commands);
        }
        match path.strip_prefix(INBOX_PATH) {
            Some(name) => percent::decode_token(name).map(Self::Inbox),
            None => Some(Self::Calls),
        }
    }
}

fn by_hand(head: &HeaderMap) -> Option<Metadata> {
    let mut metadata = Metadata::new(Kind::Command);
    let station = headers::text(head, "ocpp-station")?;
    metadata.station = Some(StationId::new(station, STATION_CHARACTERS_MAX).ok()?);
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
    envelope_of(&metadata, body)
}

fn envelope_of(metadata: &Metadata, body: Bytes) -> Answer {
    let mut response = said(StatusCode::OK, body);
    headers::write(metadata, response.headers_mut());
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
/// How long an answer is waited for where nobody says.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How much longer an outcome is waited for than its sender says; less than the sender waits.
const OUTCOME_GRACE: Duration = Duration::from_secs(5);
