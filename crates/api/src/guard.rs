//! Who may use the API: whoever has the token; without a token, programs on this machine and no web page.

use crate::problem::Problem;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The bearer token; none: programs of this machine.
#[derive(Clone)]
pub(crate) struct Token(pub(crate) Option<Arc<str>>);

impl Token {
    pub(crate) fn new(token: Option<&str>) -> Self {
        Self(token.map(Into::into))
    }
}

/// Lets a request through or answers it.
pub(crate) async fn guard(State(token): State<Token>, request: Request, next: Next) -> Response {
    let judged = match token.0.as_deref() {
        Some(token) => has_token(request.headers(), token),
        None => is_local(request.headers()),
    };
    match judged {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn has_token(headers: &HeaderMap, token: &str) -> Result<(), Problem> {
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let bearer = given.and_then(|value| {
        let (scheme, rest) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
    });
    if bearer.is_some_and(|given| bool::from(given.ct_eq(token.as_bytes()))) {
        return Ok(());
    }
    let detail = if given.is_some() { "the token is wrong" } else { "a bearer token is required" };
    Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
        .hint("give it with --api-token, SWITCHBOARD_API_TOKEN, or api.token in switchboard.toml"))
}

/// Without a token whoever reaches the loopback address may do everything, and web pages reach it from any browser on
/// this machine. A page of another site gives itself away by `Origin`; one whose name was made to point here (DNS
/// rebinding) by `Host`.
fn is_local(headers: &HeaderMap) -> Result<(), Problem> {
    let forbidden = |detail: &str| Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !is_loopback(host) {
        return forbidden(
            "the Host header names no loopback address; set api.token to be reached by other names",
        );
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let same = origin
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("http://"))
            .is_some_and(|origin| origin == host);
        if !same {
            return forbidden("requests from pages of other origins are not served");
        }
    }
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return forbidden("requests from pages of other sites are not served");
    }
    Ok(())
}

fn is_loopback(host: &str) -> bool {
    let Ok(uri) = format!("http://{host}/").parse::<Uri>() else { return false };
    let Some(name) =
        uri.host().filter(|_| uri.authority().is_some_and(|authority| !authority.as_str().contains('@')))
    else {
        return false;
    };
    let name = name.trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    }

    #[test]
    fn without_a_token_only_local_programs_and_pages_are_served() {
        for (name, pairs, served) in [
            ("a program", vec![("host", "127.0.0.1:8181")], true),
            ("by name", vec![("host", "localhost:8181")], true),
            ("IPv6", vec![("host", "[::1]:8181")], true),
            ("another loopback address", vec![("host", "127.8.9.10")], true),
            ("DNS rebinding", vec![("host", "evil.example:8181")], false),
            ("a name that looks local", vec![("host", "localhost.evil.example")], false),
            ("a user that looks local", vec![("host", "127.0.0.1@evil.example")], false),
            ("an address of the network", vec![("host", "192.168.1.7:8181")], false),
            ("no host", vec![], false),
            ("its own page", vec![("host", "127.0.0.1:8181"), ("origin", "http://127.0.0.1:8181")], true),
            ("another page", vec![("host", "127.0.0.1:8181"), ("origin", "https://evil.example")], false),
            ("another port", vec![("host", "127.0.0.1:8181"), ("origin", "http://127.0.0.1:3000")], false),
            ("a sandboxed page", vec![("host", "127.0.0.1:8181"), ("origin", "null")], false),
            (
                "an image of another site",
                vec![("host", "127.0.0.1:8181"), ("sec-fetch-site", "cross-site")],
                false,
            ),
        ] {
            assert_eq!(is_local(&headers(&pairs)).is_ok(), served, "{name}");
        }
    }

    #[test]
    fn with_a_token_nothing_else_counts() {
        for (name, pairs, served) in [
            ("right", vec![("authorization", "Bearer 0123456789abcdef")], true),
            ("another case of the scheme", vec![("authorization", "bearer 0123456789abcdef")], true),
            ("wrong", vec![("authorization", "Bearer 0123456789abcdeF")], false),
            ("a beginning of it", vec![("authorization", "Bearer 0123")], false),
            ("basic", vec![("authorization", "Basic 0123456789abcdef")], false),
            ("none", vec![("host", "127.0.0.1")], false),
        ] {
            assert_eq!(has_token(&headers(&pairs), "0123456789abcdef").is_ok(), served, "{name}");
        }
    }
}
