//! The table of handlers.

use crate::{
    Answer, Answering, Call, CallError, Context, Ended, Fault, Faults, Handler, IntoAnswer, IntoPayload,
    Parts, Raw, Unhandled, Unreadable,
    endpoint::{Bytewise, Endpoint, Incoming, Special, Typed, WithState, unhandled, unreadable},
    outcome::{Noted, Noting, Outcomes},
    raw::refusal,
    service::Mounted,
};
use bytestring::ByteString;
use foldhash::HashMap;
use std::{fmt, sync::Arc};
use switchboard_messages::{Message, Mode, Request, Sender, ViolationKind, Violations};
use switchboard_rpc::{ErrorCode, Frame, Version};
use tower_layer::Layer;
use tower_service::Service;

/// Brings each message to its handler and the handler's response back as a frame.
///
/// `S` is the state that its handlers still miss; [`with_state`](Self::with_state) gives it. A router that misses nothing
/// answers calls: as a function with [`answer`](Self::answer), as a [`tower_service::Service`], or through a worker.
///
/// # Which handler
/// 1. [`on`](Self::on) and [`on_raw`](Self::on_raw), by version and action, case-sensitively;
/// 2. [`on_any`](Self::on_any);
/// 3. [`fallback`](Self::fallback);
/// 4. none: `NotSupported` for an action that the version has, `NotImplemented` for one that it has not (V01).
///
/// Two handlers for the same are a mistake: the first one stays, an error is logged, and [`check`](Self::check) tells it —
/// a worker refuses to serve such a router. To replace some handlers of a ready-made router on purpose, see
/// [`otherwise`](Self::otherwise).
///
/// Cloning is cheap.
#[must_use = "a router does nothing unless it is asked"]
pub struct Router<S = ()> {
    pub(crate) inner: Arc<Inner<S>>,
}

pub(crate) struct Inner<S> {
    actions: [HashMap<ByteString, Arc<dyn Endpoint<S>>>; 3],
    any: Option<Arc<dyn Endpoint<S>>>,
    fallback: Option<Arc<dyn Special<Unhandled, S>>>,
    unreadable: Option<Arc<dyn Special<Unreadable, S>>>,
    outcomes: Option<Arc<dyn Outcomes<S>>>,
    faults: Vec<Fault>,
}

const fn slot(version: Version) -> usize {
    match version {
        Version::V16 => 0,
        Version::V201 => 1,
        Version::V21 => 2,
    }
}

/// Never refused for their content once a JSON object arrived, since a station throws billing data away after some
/// refusals (V10; C16 4.7, 4.8, 4.10).
const NEVER_REFUSED: [&str; 4] = ["StartTransaction", "StopTransaction", "MeterValues", "TransactionEvent"];

impl<S: Send + Sync + 'static> Router<S> {
    /// A router without handlers.
    pub fn new() -> Self {
        Self { inner: Arc::new(Inner::default()) }
    }

    /// Handles a request. The type of the handler's last argument says which version and action.
    ///
    /// A SEND (2.1) is handled the same way; what its handler returns goes nowhere. It may come twice, and has no
    /// [`Key`](crate::Key) to tell that:
    ///
    /// ```
    /// use switchboard_messages::{NoResponse, v21::NotifyPeriodicEventStreamRequest};
    /// use switchboard_router::{Context, Router};
    /// use switchboard_rpc::{StationId, Version};
    ///
    /// async fn samples(stream: NotifyPeriodicEventStreamRequest) -> NoResponse {
    ///     assert_eq!(stream.data[0].v, "230.1");
    ///     NoResponse
    /// }
    ///
    /// let router = Router::new().on(samples);
    /// router.check()?;
    ///
    /// let context = Context::new(StationId::new("CP001", 48)?, Version::V21);
    /// let data = r#"{"id":1,"pending":0,"basetime":"2026-11-23T10:00:00Z","data":[{"t":0,"v":"230.1"}]}"#;
    /// let answering = router.answer(&context, format!(r#"[6,"1","NotifyPeriodicEventStream",{data}]"#).into());
    /// let answer = futures_util::FutureExt::now_or_never(answering).unwrap_or_default();
    /// assert!(answer.frame.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A request that only the central system sends does not compile:
    ///
    /// ```compile_fail,E0080
    /// # use switchboard_messages::v16;
    /// # use switchboard_router::{CallError, Router};
    /// async fn reset(_: v16::ResetRequest) -> Result<v16::ResetResponse, CallError> {
    ///     Err(CallError::not_supported())
    /// }
    /// let router = Router::<()>::new().on(reset);
    /// ```
    ///
    /// Nor does a response of another action:
    ///
    /// ```compile_fail,E0277
    /// # use switchboard_messages::v16;
    /// # use switchboard_router::Router;
    /// async fn heartbeat(_: v16::HeartbeatRequest) -> v16::MeterValuesResponse {
    ///     v16::MeterValuesResponse {}
    /// }
    /// let router = Router::<()>::new().on(heartbeat);
    /// ```
    pub fn on<M, H>(self, handler: H) -> Self
    where
        M: 'static,
        H: Handler<M, S>,
        H::Input: Request,
        H::Output: IntoAnswer<<H::Input as Request>::Response>,
    {
        const {
            assert!(
                !matches!(<H::Input as Request>::SENDER, Sender::Csms),
                "a station never sends this request"
            );
        }
        self.typed(handler)
    }

    /// Handles a command, a request of the central system: for a router that answers in a station. Otherwise as
    /// [`on`](Self::on); a request that only stations send does not compile.
    pub fn on_command<M, H>(self, handler: H) -> Self
    where
        M: 'static,
        H: Handler<M, S>,
        H::Input: Request,
        H::Output: IntoAnswer<<H::Input as Request>::Response>,
    {
        const {
            assert!(
                !matches!(<H::Input as Request>::SENDER, Sender::Station),
                "the central system never sends this request"
            );
        }
        self.typed(handler)
    }

    fn typed<M, H>(self, handler: H) -> Self
    where
        M: 'static,
        H: Handler<M, S>,
        H::Input: Request,
        H::Output: IntoAnswer<<H::Input as Request>::Response>,
    {
        let endpoint: Arc<dyn Endpoint<S>> = Arc::new(Typed::new(handler));
        self.change(|inner| {
            inner.add(H::Input::VERSION, ByteString::from_static(H::Input::ACTION), endpoint);
        })
    }

    /// Handles an action of every version by its bytes, also one that OCPP does not have.
    pub fn on_raw<M, H>(self, action: impl Into<ByteString>, handler: H) -> Self
    where
        M: 'static,
        H: Handler<M, S, Input = Raw>,
        H::Output: IntoPayload,
    {
        let action = action.into();
        let endpoint: Arc<dyn Endpoint<S>> = Arc::new(Bytewise::new(handler));
        self.change(|inner| {
            for version in Version::ALL {
                inner.add(version, action.clone(), endpoint.clone());
            }
        })
    }

    /// Handles an action of one version by its bytes.
    pub fn on_raw_of<M, H>(self, version: Version, action: impl Into<ByteString>, handler: H) -> Self
    where
        M: 'static,
        H: Handler<M, S, Input = Raw>,
        H::Output: IntoPayload,
    {
        self.change(|inner| inner.add(version, action.into(), Arc::new(Bytewise::new(handler))))
    }

    /// Handles by its bytes every message, known to OCPP or not, that has no handler of its own.
    pub fn on_any<M, H>(self, handler: H) -> Self
    where
        M: 'static,
        H: Handler<M, S, Input = Raw>,
        H::Output: IntoPayload,
    {
        self.change(|inner| inner.any.set_once("on_any", Arc::new(Bytewise::new(handler)), &mut inner.faults))
    }

    /// Decides about what nothing handles, in place of the refusal with `NotImplemented` or `NotSupported`.
    pub fn fallback<M, H>(self, handler: H) -> Self
    where
        M: 'static,
        H: Handler<M, S, Input = Unhandled>,
        H::Output: IntoPayload,
    {
        self.change(|inner| {
            inner.fallback.set_once("fallback", Arc::new(Bytewise::new(handler)), &mut inner.faults);
        })
    }

    /// Stores what must not be refused and cannot be read: StartTransaction, StopTransaction, MeterValues and
    /// TransactionEvent, in lenient mode, whose payload is a JSON object and yet not their type (V10).
    ///
    /// The handler keeps the bytes, raises an alarm and answers as if all were well: an empty object, or for
    /// StartTransaction a response with a real transaction id.
    ///
    /// Without such a handler these calls are answered with `InternalError`, and an error is logged. It is no code about
    /// the content, so that stations try again, and nothing is acknowledged that nobody keeps.
    pub fn on_unreadable<M, H>(self, handler: H) -> Self
    where
        M: 'static,
        H: Handler<M, S, Input = Unreadable>,
        H::Output: IntoPayload,
    {
        self.change(|inner| {
            inner.unreadable.set_once("on_unreadable", Arc::new(Bytewise::new(handler)), &mut inner.faults);
        })
    }

    /// Takes the outcomes of commands that were sent without waiting ([`Station::send`](crate::Station::send)), with the
    /// context that was sent along. The handler returns nothing, or a `Result` whose error is logged.
    pub fn on_outcome<M, H>(self, handler: H) -> Self
    where
        M: 'static,
        H: Handler<M, S, Input = Ended>,
        H::Output: Noted,
    {
        self.change(|inner| {
            inner.outcomes.set_once("on_outcome", Arc::new(Noting::new(handler)), &mut inner.faults);
        })
    }

    /// Adds all handlers of another router. What both handle is a fault.
    #[expect(clippy::needless_pass_by_value, reason = "routers are put together by value, as in axum")]
    pub fn merge(self, other: Self) -> Self {
        self.join(&other, true)
    }

    /// Adds those handlers of another router that this one lacks: `mine.otherwise(ready_made)`.
    #[expect(clippy::needless_pass_by_value, reason = "routers are put together by value, as in axum")]
    pub fn otherwise(self, other: Self) -> Self {
        self.join(&other, false)
    }

    fn join(self, other: &Self, strict: bool) -> Self {
        self.change(|inner| {
            for (version, actions) in Version::ALL.into_iter().zip(&other.inner.actions) {
                for (action, endpoint) in actions {
                    if strict || !inner.handles(version, action) {
                        inner.add(version, action.clone(), endpoint.clone());
                    }
                }
            }
            let Inner { any, fallback, unreadable, outcomes, faults, .. } = inner;
            any.join("on_any", other.inner.any.as_ref(), strict, faults);
            fallback.join("fallback", other.inner.fallback.as_ref(), strict, faults);
            unreadable.join("on_unreadable", other.inner.unreadable.as_ref(), strict, faults);
            outcomes.join("on_outcome", other.inner.outcomes.as_ref(), strict, faults);
            faults.extend_from_slice(&other.inner.faults);
        })
    }

    /// Gives the handlers the state that they miss.
    pub fn with_state<S2: Send + Sync + 'static>(self, state: S) -> Router<S2> {
        let (state, inner) = (Arc::new(state), &self.inner);
        let endpoint = |endpoint: &Arc<dyn Endpoint<S>>| -> Arc<dyn Endpoint<S2>> {
            Arc::new(WithState { inner: endpoint.clone(), state: state.clone() })
        };
        let actions = inner.actions.each_ref().map(|actions| {
            actions.iter().map(|(action, of)| (action.clone(), endpoint(of))).collect::<HashMap<_, _>>()
        });
        Router {
            inner: Arc::new(Inner {
                actions,
                any: inner.any.as_ref().map(endpoint),
                fallback: inner.fallback.as_ref().map(|of| -> Arc<dyn Special<Unhandled, S2>> {
                    Arc::new(WithState { inner: of.clone(), state: state.clone() })
                }),
                unreadable: inner.unreadable.as_ref().map(|of| -> Arc<dyn Special<Unreadable, S2>> {
                    Arc::new(WithState { inner: of.clone(), state: state.clone() })
                }),
                outcomes: inner.outcomes.as_ref().map(|of| -> Arc<dyn Outcomes<S2>> {
                    Arc::new(WithState { inner: of.clone(), state: state.clone() })
                }),
                faults: inner.faults.clone(),
            }),
        }
    }

    /// Whether this action of this version has a handler of its own.
    #[must_use]
    pub fn handles(&self, version: Version, action: &str) -> bool {
        self.inner.handles(version, action)
    }

    /// Whether the router was put together without contradictions. A worker asks this before it serves.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn check(&self) -> Result<(), Faults> {
        if self.inner.faults.is_empty() { Ok(()) } else { Err(Faults(self.inner.faults.clone())) }
    }

    fn change(mut self, change: impl FnOnce(&mut Inner<S>)) -> Self {
        let faults = self.inner.faults.len();
        if Arc::get_mut(&mut self.inner).is_none() {
            self.inner = Arc::new(self.inner.copy());
        }
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            change(inner);
        }
        for fault in self.inner.faults.iter().skip(faults) {
            tracing::error!(%fault, "the router contradicts itself");
        }
        self
    }
}

impl Router {
    /// Answers a message: the station's frame in, the frame for the station out.
    ///
    /// The future borrows nothing and needs no runtime, socket or bus. Extractors have run and the handler's future is
    /// made when this returns; the handler's code runs when it is polled. A frame that is no CALL or SEND is answered as
    /// OCPP-J says, which for most is silence.
    pub fn answer(&self, context: &Context, frame: ByteString) -> Answering {
        // A typed handler's payload is read to its end below; looking for that end first would be reading it twice.
        let head = Frame::parse_head(&frame, context.version)
            .filter(|head| self.inner.reads_all(context.version, head));
        let whole = head.is_none();
        let incoming = match head.map_or_else(|| Frame::parse(&frame, context.version), Ok) {
            Ok(Frame::Call { id, action, payload }) => {
                Incoming { context, frame, id, action, payload, answered: true }
            }
            Ok(Frame::Send { id, action, payload }) => {
                Incoming { context, frame, id, action, payload, answered: false }
            }
            Ok(other) => {
                tracing::debug!(station = %context.station, kind = ?other.kind(), "a router was given no call");
                return Answering::ready(Answer::silence());
            }
            Err(error) => {
                return Answering::ready(Answer::frame(error.answer(context.version)));
            }
        };
        match self.inner.dispatch(&incoming, &()) {
            Ok(answering) => answering,
            // What is wrong with the frame goes before what is wrong with the payload.
            Err(violations) => match (!whole).then(|| Frame::parse(&incoming.frame, context.version)) {
                Some(Err(error)) => Answering::ready(Answer::frame(error.answer(context.version))),
                _ => self.inner.unreadable(&incoming, violations),
            },
        }
    }

    /// Wraps the handlers that were added so far in a tower layer, the fallback and `on_any` included. What is added
    /// later is not wrapped; the layer added last is the outermost.
    ///
    /// An error of the layer, such as a time-out's, is logged and answered with `InternalError`.
    pub fn layer<L>(self, layer: L) -> Self
    where
        L: Layer<Self>,
        L::Service: Service<Call, Response = Answer> + Clone + Send + Sync + 'static,
        <L::Service as Service<Call>>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        <L::Service as Service<Call>>::Future: Send + 'static,
    {
        let service = layer.layer(self.clone());
        let mounted = Arc::new(Mounted::new(service));
        self.change(|inner| {
            for endpoint in inner.actions.iter_mut().flat_map(HashMap::values_mut) {
                *endpoint = mounted.clone();
            }
            if let Some(any) = &mut inner.any {
                *any = mounted.clone();
            }
            if let Some(fallback) = &mut inner.fallback {
                *fallback = mounted;
            }
        })
    }

    /// Hands the outcome of a command to [`on_outcome`](Self::on_outcome). Without such a handler it is dropped.
    pub async fn outcome(&self, context: &Context, ended: Ended) {
        if let Some(outcomes) = &self.inner.outcomes {
            let parts = Parts {
                context,
                id: None,
                action: &ended.action.clone(),
                payload: &ByteString::new(),
                warnings: &[],
            };
            outcomes.call(&parts, &(), ended).await;
        }
    }

    /// Whether outcomes have a handler.
    #[must_use]
    pub fn takes_outcomes(&self) -> bool {
        self.inner.outcomes.is_some()
    }
}

impl<S> Inner<S> {
    fn handles(&self, version: Version, action: &str) -> bool {
        self.actions[slot(version)].contains_key(action)
    }

    /// Whether this message has a handler that reads the payload to its end, or refuses it.
    fn reads_all(&self, version: Version, frame: &Frame) -> bool {
        let (Frame::Call { action, .. } | Frame::Send { action, .. }) = frame else { return false };
        self.actions[slot(version)].get(&**action).is_some_and(|endpoint| endpoint.reads_all())
    }

    fn add(&mut self, version: Version, action: ByteString, endpoint: Arc<dyn Endpoint<S>>) {
        if self.handles(version, &action) {
            self.faults.push(Fault::Duplicate { version, action });
        } else {
            self.actions[slot(version)].insert(action, endpoint);
        }
    }

    pub(crate) fn dispatch(&self, incoming: &Incoming<'_>, state: &S) -> Result<Answering, Violations> {
        let version = incoming.context.version;
        if let Some(endpoint) = self.actions[slot(version)].get(&*incoming.action).or(self.any.as_ref()) {
            return endpoint.call(incoming, state);
        }
        let known = switchboard_messages::action(version, &incoming.action).is_some();
        let code = if known { ErrorCode::NotSupported } else { ErrorCode::NotImplemented };
        Ok(match &self.fallback {
            Some(fallback) => fallback.call(incoming, state, unhandled(incoming, code)),
            None => incoming.refuse(&refusal(code)),
        })
    }

    fn copy(&self) -> Self {
        Self {
            actions: self.actions.clone(),
            any: self.any.clone(),
            fallback: self.fallback.clone(),
            unreadable: self.unreadable.clone(),
            outcomes: self.outcomes.clone(),
            faults: self.faults.clone(),
        }
    }
}

impl Inner<()> {
    /// V10, or V02 to V05.
    pub(crate) fn unreadable(&self, incoming: &Incoming<'_>, violations: Violations) -> Answering {
        let kept = incoming.context.mode == Mode::Lenient
            && NEVER_REFUSED.contains(&&*incoming.action)
            && !violations
                .0
                .iter()
                .any(|one| matches!(one.kind, ViolationKind::NotJson | ViolationKind::NotAnObject));
        if !kept {
            return incoming.refuse(&CallError::violated(&violations));
        }
        match &self.unreadable {
            Some(handler) => handler.call(incoming, &(), unreadable(incoming, violations)),
            None => {
                tracing::error!(
                    station = %incoming.context.station, action = &*incoming.action, violation = %violations,
                    "a message that must not be refused cannot be read, and the router has no on_unreadable"
                );
                incoming.refuse(&CallError::failed())
            }
        }
    }
}

impl<S> Default for Inner<S> {
    fn default() -> Self {
        Self {
            actions: std::array::from_fn(|_| HashMap::default()),
            any: None,
            fallback: None,
            unreadable: None,
            outcomes: None,
            faults: Vec::new(),
        }
    }
}

impl<S: Send + Sync + 'static> Default for Router<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Clone for Router<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<S> fmt::Debug for Router<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = formatter.debug_map();
        for (version, actions) in Version::ALL.iter().zip(&self.inner.actions) {
            map.entry(version, &actions.keys().collect::<std::collections::BTreeSet<_>>());
        }
        map.finish()
    }
}

/// Room for one handler of a kind.
trait Room<T: ?Sized> {
    fn set_once(&mut self, method: &'static str, handler: Arc<T>, faults: &mut Vec<Fault>);
    fn join(&mut self, method: &'static str, other: Option<&Arc<T>>, strict: bool, faults: &mut Vec<Fault>);
}

impl<T: ?Sized> Room<T> for Option<Arc<T>> {
    fn set_once(&mut self, method: &'static str, handler: Arc<T>, faults: &mut Vec<Fault>) {
        match self {
            Some(_) => faults.push(Fault::Second(method)),
            None => *self = Some(handler),
        }
    }

    fn join(&mut self, method: &'static str, other: Option<&Arc<T>>, strict: bool, faults: &mut Vec<Fault>) {
        if let Some(other) = other
            && (strict || self.is_none())
        {
            self.set_once(method, other.clone(), faults);
        }
    }
}
