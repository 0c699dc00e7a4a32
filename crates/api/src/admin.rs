//! What machines ask about the process: is it alive, is it ready, its metrics. No secrets, no stations' ids.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// Tells whether the process takes stations; if not, why.
pub type Ready = dyn Fn() -> Result<(), String> + Send + Sync;

/// What is asked about.
#[derive(Clone)]
struct Admin {
    registry: Arc<OnceLock<Registry>>,
    ready: Arc<Ready>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Admin")
    }
}

/// `/healthz`, `/readyz` and `/metrics`. The metrics come when the process has begun; it is asked about before that, too.
pub fn router(registry: Arc<OnceLock<Registry>>, ready: Arc<Ready>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Admin { registry, ready })
}

/// Alive as long as it answers.
async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match (admin.ready)() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let Some(registry) = admin.registry.get() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the process is starting\n").into_response();
    };
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n").into_response(),
    }
}
