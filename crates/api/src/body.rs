//! The body of a request, within a time: one that comes a byte an hour holds neither a connection nor memory.

use crate::{BODY_BYTES_MAX, problem::Problem, tags};
use axum::{
    body::{Body, HttpBody as _, to_bytes},
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::time::Duration;

/// How long a body may take. It is two megabytes at most, but for imports, which come from this machine or a near one.
const PATIENCE: Duration = Duration::from_secs(15);

/// Reads the body before the handler is asked.
pub(crate) async fn in_time(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let most = if head.uri.path() == tags::IMPORT { tags::IMPORT_BYTES_MAX } else { BODY_BYTES_MAX };
    match tokio::time::timeout(PATIENCE, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(_)) => {
            let detail = format!("the body could not be read, or has more than {most} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail).into_response()
        }
        Err(_) => {
            let detail = format!("the body did not come within {} s", PATIENCE.as_secs());
            Problem::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail).into_response()
        }
    }
}
