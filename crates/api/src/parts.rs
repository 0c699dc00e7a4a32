//! What stands in the address of a request, read so that a fault in it is told as all others are.

use crate::problem::Problem;
use axum::{extract::FromRequestParts, http::request::Parts};
use serde::de::DeserializeOwned;

/// What stands behind the `?`.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

/// What stands between the `/`.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let fault = |text: String| Problem::bad_request("invalid_query", clause(&text));
        read.map(|found| Self(found.0)).map_err(|rejection| fault(rejection.body_text()))
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let fault = |text: String| Problem::bad_request("invalid_path", clause(&text));
        read.map(|found| Self(found.0)).map_err(|rejection| fault(rejection.body_text()))
    }
}

/// What is wrong, without who found it.
fn clause(text: &str) -> &str {
    text.split_once("string: ").or_else(|| text.split_once("URL: ")).map_or(text, |(_, clause)| clause)
}
