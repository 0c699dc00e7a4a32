//! What a handler can ask for besides its message.

use crate::{
    CallError, Context, Key, MessageId,
    command::{Caller, Command, CommandError, Options},
};
use bytestring::ByteString;
use std::{fmt, sync::Arc};
use switchboard_messages::{Message, Mode, Request, Violation};
use switchboard_rpc::{StationId, Version};

/// What is at hand when the arguments of a handler are made.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Parts<'a> {
    /// What is known of the call besides its frame.
    pub context: &'a Context,
    /// The message id; absent for the outcome of a command.
    pub id: Option<&'a MessageId>,
    /// The action.
    pub action: &'a str,
    /// The payload, byte by byte as the station sent it; empty for the outcome of a command.
    pub payload: &'a ByteString,
    /// What was forgiven when the message was read.
    pub warnings: &'a [Violation],
}

/// Something that a handler can have as an argument before its message.
///
/// Arguments are made before the handler's future, without waiting; what has to wait belongs into the handler. Write
/// one of your own to share a rule among handlers:
///
/// ```
/// use switchboard_router::{CallError, FromCall, Parts};
///
/// /// Only tenants whose name begins with `acme` may call.
/// struct Acme;
///
/// impl<S> FromCall<S> for Acme {
///     fn from_call(parts: &Parts<'_>, _state: &S) -> Result<Self, CallError> {
///         if parts.context.tenant.starts_with("acme") { Ok(Self) } else { Err(CallError::security("not for you")) }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler before its message",
    label = "not an extractor",
    note = "extractors are `Station`, `State<T>`, `Context`, `Key`, `Warnings`, `MessageId`, `Version`, `Mode`, `Option<_>` of one of them, and types of yours that implement `FromCall`",
    note = "`State<T>` needs `T: FromRef<S>`, where `S` is the type given to `with_state`",
    note = "the message itself is the last argument"
)]
pub trait FromCall<S>: Sized {
    /// Makes the argument.
    ///
    /// # Errors
    /// What the call is answered with instead of being handled.
    fn from_call(parts: &Parts<'_>, state: &S) -> Result<Self, CallError>;
}

/// The station that sent the message, and the way to call it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Station {
    /// Whose station.
    pub tenant: ByteString,
    /// Its identity.
    pub id: StationId,
    /// What it speaks.
    pub version: Version,
    /// Which connection of the station.
    pub generation: u64,
    /// How forgiving its messages are read.
    pub mode: Mode,
    caller: Option<Arc<dyn Caller>>,
}

impl Station {
    /// The station of this context, and the way to it that the context has.
    #[must_use]
    pub fn of(context: &Context) -> Self {
        Self {
            tenant: context.tenant.clone(),
            id: context.station.clone(),
            version: context.version,
            generation: context.generation,
            mode: context.mode,
            caller: context.caller.clone(),
        }
    }

    /// Calls the station and waits for its response, which is read leniently.
    ///
    /// A station answers one call at a time and many do not answer before their own call is answered: do not wait for
    /// this inside the handler of a call of the same station, spawn it or use [`send`](Self::send).
    ///
    /// # Errors
    /// What became of the command if not a response.
    pub async fn call<R: Request>(&self, request: R) -> Result<R::Response, CommandError> {
        self.call_with(request, Options::default()).await
    }

    /// As [`call`](Self::call), with options.
    ///
    /// # Errors
    /// What became of the command if not a response.
    pub async fn call_with<R: Request>(
        &self,
        request: R,
        options: Options,
    ) -> Result<R::Response, CommandError> {
        let (caller, command) = self.command(&request, options)?;
        let payload = Result::from(caller.call(command).await)?;
        match R::Response::decode(payload.as_bytes(), Mode::Lenient) {
            Ok(decoded) => Ok(decoded.value),
            Err(violations) => Err(CommandError::Unreadable { payload, violations }),
        }
    }

    /// Calls the station and does not wait: the outcome goes to [`Router::on_outcome`](crate::Router::on_outcome) with
    /// `context`.
    ///
    /// # Errors
    /// Why the command is not under way.
    pub async fn send<R: Request>(
        &self,
        request: R,
        options: Options,
        context: impl Into<ByteString>,
    ) -> Result<(), CommandError> {
        let (caller, command) = self.command(&request, options)?;
        match caller.send(command, context.into()).await {
            Ok(()) => Ok(()),
            Err(outcome) => Result::from(outcome).map(|_| ()),
        }
    }

    fn command<R: Request>(
        &self,
        request: &R,
        options: Options,
    ) -> Result<(&dyn Caller, Command), CommandError> {
        let caller = self.caller.as_deref().ok_or(CommandError::NoWay)?;
        if R::VERSION != self.version {
            return Err(CommandError::WrongVersion { station: self.version, request: R::VERSION });
        }
        let mut payload = Vec::with_capacity(128);
        request.encode(&mut payload).map_err(CommandError::Invalid)?;
        Ok((
            caller,
            Command {
                tenant: self.tenant.clone(),
                station: self.id.clone(),
                version: self.version,
                action: ByteString::from_static(R::ACTION),
                payload: payload.into(),
                options,
            },
        ))
    }
}

impl fmt::Debug for Station {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Station({}/{}, {:?})", self.tenant, self.id, self.version)
    }
}

impl<S> FromCall<S> for Station {
    fn from_call(parts: &Parts<'_>, _: &S) -> Result<Self, CallError> {
        Ok(Self::of(parts.context))
    }
}

/// The state that was given to [`Router::with_state`](crate::Router::with_state), or a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(pub T);

/// A part of a router's state that handlers can ask for.
///
/// The whole state is a part of itself. For a struct with several parts, implement it for each:
///
/// ```
/// # use std::sync::Arc;
/// use switchboard_router::FromRef;
///
/// #[derive(Clone)] struct Prices(Arc<Vec<u32>>);
/// #[derive(Clone)] struct App { prices: Prices }
///
/// impl FromRef<App> for Prices {
///     fn from_ref(app: &App) -> Self { app.prices.clone() }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a part of the router's state `{S}`",
    note = "give the router a state of type `{Self}`, or implement `FromRef<{S}>` for `{Self}`"
)]
pub trait FromRef<S> {
    /// Takes the part out, usually by a cheap clone.
    fn from_ref(state: &S) -> Self;
}

impl<T: Clone> FromRef<T> for T {
    fn from_ref(state: &T) -> Self {
        state.clone()
    }
}

impl<S, T: FromRef<S>> FromCall<S> for State<T> {
    fn from_call(_: &Parts<'_>, state: &S) -> Result<Self, CallError> {
        Ok(Self(T::from_ref(state)))
    }
}

/// What was forgiven when the message was read; empty in strict mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warnings(pub Vec<Violation>);

impl<S> FromCall<S> for Warnings {
    fn from_call(parts: &Parts<'_>, _: &S) -> Result<Self, CallError> {
        Ok(Self(parts.warnings.to_vec()))
    }
}

impl<S> FromCall<S> for Context {
    fn from_call(parts: &Parts<'_>, _: &S) -> Result<Self, CallError> {
        Ok(parts.context.clone())
    }
}

impl<S> FromCall<S> for Key {
    fn from_call(parts: &Parts<'_>, _: &S) -> Result<Self, CallError> {
        match parts.id {
            Some(_) if parts.context.keyed => Ok(parts.context.key()),
            Some(_) => Err(CallError::internal("a SEND has no key; what it says must tell a repeat")),
            None => Err(CallError::internal("an outcome has no key; its command id is what tells a repeat")),
        }
    }
}

impl<S> FromCall<S> for MessageId {
    fn from_call(parts: &Parts<'_>, _: &S) -> Result<Self, CallError> {
        parts.id.cloned().ok_or_else(|| CallError::internal("an outcome has no message id"))
    }
}

impl<S> FromCall<S> for Version {
    fn from_call(parts: &Parts<'_>, _: &S) -> Result<Self, CallError> {
        Ok(parts.context.version)
    }
}

impl<S> FromCall<S> for Mode {
    fn from_call(parts: &Parts<'_>, _: &S) -> Result<Self, CallError> {
        Ok(parts.context.mode)
    }
}

/// `None` where the extractor would have refused the call.
impl<S, T: FromCall<S>> FromCall<S> for Option<T> {
    fn from_call(parts: &Parts<'_>, state: &S) -> Result<Self, CallError> {
        Ok(T::from_call(parts, state).ok())
    }
}
