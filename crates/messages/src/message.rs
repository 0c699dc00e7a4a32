//! What is generated for whole messages, as macros, so that the generated text holds only what differs.

/// A request or a response.
macro_rules! message {
    ($version:ident $action:literal $name:ident $schema:ident) => {
        impl $crate::Message for $name {
            const VERSION: $crate::Version = $crate::Version::$version;
            const ACTION: &'static str = $action;

            fn decode(
                payload: &[u8],
                mode: $crate::Mode,
            ) -> Result<$crate::Decoded<Self>, $crate::Violations> {
                $crate::codec::decode(payload, mode, &super::schema::$schema)
            }

            fn encode(&self, out: &mut Vec<u8>) -> Result<(), $crate::Violations> {
                $crate::codec::encode(self, out, &super::schema::$schema)
            }
        }
    };
}
pub(crate) use message;

/// What makes a message a request.
macro_rules! request {
    ($name:ident $sender:ident) => {
        impl $crate::Request for $name {
            type Response = $crate::NoResponse;
            const SENDER: $crate::Sender = $crate::Sender::$sender;
            const HAS_RESPONSE: bool = false;
        }
    };
    ($name:ident $sender:ident $response:ident) => {
        impl $crate::Request for $name {
            type Response = super::responses::$response;
            const SENDER: $crate::Sender = $crate::Sender::$sender;
        }
    };
}
pub(crate) use request;

/// Shows types as JSON, without secrets.
macro_rules! debug {
    ($($name:ident)*) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::write::debug(formatter, stringify!($name), self)
            }
        })*
    };
}
pub(crate) use debug;

/// Reading and checking by the name of the action.
macro_rules! dispatch {
    (
        $version:ident
        requests { $($request:ident $request_type:ident $request_schema:ident,)* }
        responses { $($response:ident $response_type:ident $response_schema:ident,)* }
    ) => {
        /// Any request of this version.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyRequest {
            $(#[doc = concat!("`", stringify!($request), "`.")] $request(Box<$request_type>),)*
        }

        impl AnyRequest {
            /// The action on the wire.
            #[must_use]
            pub const fn action(&self) -> &'static str {
                match self { $(Self::$request(_) => stringify!($request),)* }
            }

            /// Appends the request as JSON text, as [`Message::encode`](crate::Message::encode).
            ///
            /// # Errors
            /// What is wrong with the value.
            pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), $crate::Violations> {
                match self { $(Self::$request(message) => $crate::Message::encode(&**message, out),)* }
            }
        }

        $(impl From<$request_type> for AnyRequest {
            fn from(message: $request_type) -> Self {
                Self::$request(Box::new(message))
            }
        })*

        /// Any response of this version.
        #[derive(Clone, Debug, PartialEq)]
        pub enum AnyResponse {
            $(#[doc = concat!("`", stringify!($response), "`.")] $response(Box<$response_type>),)*
        }

        impl AnyResponse {
            /// The action on the wire.
            #[must_use]
            pub const fn action(&self) -> &'static str {
                match self { $(Self::$response(_) => stringify!($response),)* }
            }

            /// Appends the response as JSON text, as [`Message::encode`](crate::Message::encode).
            ///
            /// # Errors
            /// What is wrong with the value.
            pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), $crate::Violations> {
                match self { $(Self::$response(message) => $crate::Message::encode(&**message, out),)* }
            }
        }

        $(impl From<$response_type> for AnyResponse {
            fn from(message: $response_type) -> Self {
                Self::$response(Box::new(message))
            }
        })*

        /// Reads the request of an action that `sender` sent; with [`Sender::Either`](crate::Sender::Either) the
        /// direction does not matter.
        ///
        /// # Errors
        /// When the version has no such action, the other side sends it, or the payload is wrong.
        pub fn decode(
            action: &str,
            sender: $crate::Sender,
            payload: &[u8],
            mode: $crate::Mode,
        ) -> Result<$crate::Decoded<AnyRequest>, $crate::DecodeError> {
            $crate::contract::check_direction($crate::Version::$version, action, sender)?;
            match action {
                $(stringify!($request) => {
                    let decoded = <$request_type as $crate::Message>::decode(payload, mode)?;
                    Ok(decoded.map(AnyRequest::from))
                })*
                _ => Err($crate::DecodeError::UnknownAction),
            }
        }

        /// Reads the response to a request of an action.
        ///
        /// # Errors
        /// When the version has no such action with a response, or the payload is wrong.
        pub fn decode_response(
            action: &str,
            payload: &[u8],
            mode: $crate::Mode,
        ) -> Result<$crate::Decoded<AnyResponse>, $crate::DecodeError> {
            match action {
                $(stringify!($response) => {
                    let decoded = <$response_type as $crate::Message>::decode(payload, mode)?;
                    Ok(decoded.map(AnyResponse::from))
                })*
                _ => Err($crate::DecodeError::UnknownAction),
            }
        }

        /// Everything that is wrong with a payload by the schema, without reading it into a type; empty when it is
        /// valid. `None` when the version has no such message.
        #[must_use]
        pub fn validate(action: &str, is_response: bool, payload: &[u8]) -> Option<Vec<$crate::Violation>> {
            let schema = match (action, is_response) {
                $((stringify!($request), false) => &schema::$request_schema,)*
                $((stringify!($response), true) => &schema::$response_schema,)*
                _ => return None,
            };
            Some($crate::codec::validate(payload, $crate::Mode::Strict, schema).violations)
        }
    };
}
pub(crate) use dispatch;
