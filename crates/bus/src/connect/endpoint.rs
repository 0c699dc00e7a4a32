//! One place where a broker listens, as a URL names it.

use super::{ConnectError, Secret};
use percent_encoding::percent_decode_str;
use std::fmt;

/// A scheme that a driver understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// What stands before `://`, in lower case.
    pub name: &'static str,
    /// The port where the URL has none.
    pub port: u16,
    /// Whether the connection is made with TLS.
    pub tls: bool,
}

/// One place where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its scheme.
    pub scheme: Scheme,
    /// A name or address; one of version 6 without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Who we are there.
    pub user: Option<String>,
    /// How that is proved; a token, where there is no user.
    pub password: Option<Secret>,
    /// What stands behind the host, from the `/` on, as it was written; empty if nothing does.
    pub path: String,
    /// What stands behind the `?`, decoded, in its order.
    pub query: Vec<(String, String)>,
}

impl Endpoint {
    /// Host and port as one text, an address of version 6 in brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The value of the first parameter of this name.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Without credentials and parameters, which may be some.
impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}{}", self.scheme.name, self.authority(), self.path)
    }
}

/// Reads all endpoints of all URLs.
pub(super) fn read(urls: &[String], schemes: &[Scheme]) -> Result<Vec<Endpoint>, ConnectError> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    // As likely the end of a password with a comma in it, and then what stands before it is no host.
    let ambiguous = urls.iter().flat_map(|urls| urls.split(',')).find(|url| ends_credentials(url));
    if let Some(url) = ambiguous {
        return Err(ConnectError::Url {
            url: redacted(url),
            reason: "write the scheme of an endpoint with credentials, and %2C for a ',' in a password"
                .to_owned(),
        });
    }
    for url in urls.iter().flat_map(|urls| urls.split(',')).map(str::trim).filter(|url| !url.is_empty()) {
        let fault = |reason: String| ConnectError::Url { url: redacted(url), reason };
        let endpoint = match (url.split_once("://"), endpoints.last()) {
            (Some((name, rest)), _) => {
                let scheme = schemes.iter().find(|scheme| scheme.name.eq_ignore_ascii_case(name));
                let scheme = scheme.ok_or_else(|| {
                    let known: Vec<_> = schemes.iter().map(|scheme| format!("{}://", scheme.name)).collect();
                    fault(format!("this bus is reached with {}", known.join(" or ")))
                })?;
                one(*scheme, rest).map_err(fault)?
            }
            (None, None) => return Err(fault("it does not begin with a scheme and ://".to_owned())),
            (None, Some(before)) => {
                // One more member of the same cluster, where everything is as with the one before.
                let mut endpoint = one(before.scheme, url).map_err(fault)?;
                if endpoint.user.is_none() && endpoint.password.is_none() {
                    endpoint.user.clone_from(&before.user);
                    endpoint.password.clone_from(&before.password);
                }
                if endpoint.path.is_empty() && endpoint.query.is_empty() {
                    endpoint.path.clone_from(&before.path);
                    endpoint.query.clone_from(&before.query);
                }
                endpoint
            }
        };
        endpoints.push(endpoint);
    }
    if endpoints.is_empty() {
        let example = schemes.first().map_or_else(String::new, |scheme| format!("{}://broker", scheme.name));
        return Err(ConnectError::NoUrl { example });
    }
    Ok(endpoints)
}

/// Reads what is behind the `://`.
fn one(scheme: Scheme, rest: &str) -> Result<Endpoint, String> {
    let (rest, _) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match rest.find('/') {
        Some(place) => rest.split_at(place),
        None => (rest, ""),
    };
    let (credentials, address) = match authority.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, authority),
    };
    let (user, password) = match credentials.map(|credentials| (credentials, credentials.split_once(':'))) {
        None | Some(("", _)) => (None, None),
        Some((_, Some((user, password)))) => (Some(decoded(user)?), Some(Secret::new(decoded(password)?))),
        Some((token, None)) => (None, Some(Secret::new(decoded(token)?))),
    };
    let (host, port) = if let Some(bracketed) = address.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or("the bracket before the host is not closed")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("what is in brackets is no address of version 6".to_owned());
        }
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err("only a port may follow the bracket".to_owned()),
        };
        (host, port)
    } else {
        match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    if !host.bytes().all(is_host) {
        return Err(
            "the host holds characters that no host has; those in credentials are percent-encoded".to_owned()
        );
    }
    let port = match port {
        None | Some("") => scheme.port,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err("the port is no number from 1 to 65535".to_owned()),
            Ok(port) => port,
        },
    };
    let query = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(value)?))
        })
        .collect::<Result<_, String>>()?;
    Ok(Endpoint { scheme, host: host.to_owned(), port, user, password, path: path.to_owned(), query })
}

fn decoded(text: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "it is not UTF-8 after decoding")?;
    Ok(text.into_owned())
}

/// A text that may be a URL or several, without credentials and parameters.
pub(super) fn redacted(urls: &str) -> String {
    let one = |(url, behind): (&str, &str)| {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let separator = if scheme.is_empty() { "" } else { "://" };
        if behind.split(',').any(ends_credentials) {
            return format!("{scheme}{separator}…");
        }
        let shown = rest.split(['?', '#']).next().unwrap_or_default();
        let parameters = if shown.len() < rest.len() { "?…" } else { "" };
        match shown.rsplit_once('@') {
            Some((_, address)) => format!("{scheme}{separator}…@{address}{parameters}"),
            None => format!("{scheme}{separator}{shown}{parameters}"),
        }
    };
    let mut shown = Vec::new();
    let mut left = Some(urls);
    while let Some(urls) = left {
        let (url, behind) = urls.split_once(',').map_or((urls, None), |(url, behind)| (url, Some(behind)));
        shown.push(one((url, behind.unwrap_or_default())));
        left = behind;
    }
    shown.join(",")
}

/// Whether this part of a text with commas has credentials, and no scheme in front of them.
fn ends_credentials(part: &str) -> bool {
    part.contains('@') && !part.contains("://")
}
