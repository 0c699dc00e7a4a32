//! Errors as the API tells them: a status and `{"error": …, "detail": …}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use switchboard_bus::command::CommandError;
use switchboard_central::{OperationError, StoreError};
use switchboard_directory::DirectoryError;

/// Why a request was not served.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    body: Body,
}

#[derive(Debug, Serialize)]
struct Body {
    error: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Place>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

/// What is wrong at one place of a payload.
#[derive(Debug, Serialize)]
pub(crate) struct Place {
    /// A JSON pointer.
    pub(crate) pointer: String,
    /// What would have been right.
    pub(crate) expected: String,
}

impl Problem {
    /// A problem with a status, a name for programs and a sentence for people.
    pub(crate) fn new(status: StatusCode, error: &'static str, detail: impl Into<String>) -> Self {
        Self { status, body: Body { error, detail: detail.into(), violations: Vec::new(), hint: None } }
    }

    /// What the caller sent is wrong.
    pub(crate) fn bad_request(error: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, detail)
    }

    /// With the places that are wrong.
    pub(crate) fn at(mut self, violations: Vec<Place>) -> Self {
        self.body.violations = violations;
        self
    }

    /// With what could be done about it.
    pub(crate) const fn hint(mut self, hint: &'static str) -> Self {
        self.body.hint = Some(hint);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let unauthorized = self.status == StatusCode::UNAUTHORIZED;
        let mut response = (self.status, Json(self.body)).into_response();
        if unauthorized {
            let challenge = axum::http::HeaderValue::from_static("Bearer realm=\"switchboard\"");
            response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<DirectoryError> for Problem {
    fn from(error: DirectoryError) -> Self {
        let (status, name) = match &error {
            DirectoryError::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            DirectoryError::NotKept { .. } => (StatusCode::NOT_IMPLEMENTED, "not_kept"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "directory_away"),
        };
        Self::new(status, name, chain(&error))
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let (status, name) = match &error {
            StoreError::Full => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "books_away"),
        };
        Self::new(status, name, chain(&error))
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::UnknownStation(_) => {
                Self::new(StatusCode::NOT_FOUND, "unknown_station", error.to_string())
            }
            OperationError::Store(error) => error.into(),
            _ => Self::bad_request("invalid_request", error.to_string()),
        }
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        match &error {
            CommandError::Malformed(_) => Self::bad_request("invalid_payload", chain(&error)),
            CommandError::KeyTaken { .. } => Self::new(StatusCode::CONFLICT, "key_taken", error.to_string()),
            _ => Self::new(StatusCode::SERVICE_UNAVAILABLE, "away", chain(&error)),
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
