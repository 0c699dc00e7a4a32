//! What is read from a [`Connect`] once.

use base64::Engine as _;
use http::{HeaderValue, Uri};
use switchboard_bus::{Connect, ConnectError, Endpoint, Scheme};

/// How this driver is reached.
const SCHEMES: [Scheme; 2] =
    [Scheme { name: "http", port: 80, tls: false }, Scheme { name: "https", port: 443, tls: true }];

/// What the URLs say. The parameters that are ours are taken off; all others belong to the function.
#[derive(Debug)]
pub(crate) struct Config {
    /// The functions, tried in turn; never empty.
    pub(crate) targets: Vec<Target>,
    /// A call may be posted again although somebody may have it.
    pub(crate) idempotent: bool,
    /// Events are posted there.
    pub(crate) events: Option<Target>,
    /// What requests to us must carry; also what ours to other processes carry, if it [may](Self::may_carry).
    pub(crate) authorization: Option<HeaderValue>,
    /// The credentials were given for an endpoint with TLS, and go nowhere without.
    secret: bool,
    /// All endpoints are reached with TLS.
    pub(crate) tls: bool,
}

/// Somewhere to post to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) authorization: Option<HeaderValue>,
    /// Asked for a sign of life.
    pub(crate) health: Option<Uri>,
}

impl Config {
    pub(crate) fn read(connect: &Connect) -> Result<Self, ConnectError> {
        let endpoints = endpoints(connect)?;
        let mut config = Self {
            targets: Vec::new(),
            idempotent: false,
            events: None,
            authorization: endpoints.first().map(authorization).transpose()?.flatten(),
            secret: endpoints.first().is_some_and(|endpoint| endpoint.scheme.tls),
            tls: endpoints.iter().all(|endpoint| endpoint.scheme.tls),
        };
        for endpoint in &endpoints {
            config.add(endpoint)?;
        }
        Ok(config)
    }

    /// Whether what is posted to an inbox there may carry our credentials, if there are any. Where it is says whoever waits for
    /// it, and anybody with the same credentials may be told a plain address.
    pub(crate) fn may_carry(&self, to: &Uri) -> bool {
        self.authorization.is_none() || !self.secret || is_encrypted(to)
    }

    fn add(&mut self, endpoint: &Endpoint) -> Result<(), ConnectError> {
        let fault = |reason: String| ConnectError::Url { url: endpoint.to_string(), reason };
        let authorization = authorization(endpoint)?;
        let base = format!("{}://{}", endpoint.scheme.name, endpoint.authority());
        let absolute = |text: &str| {
            let text = if text.starts_with('/') { format!("{base}{text}") } else { text.to_owned() };
            let uri: Result<Uri, _> = text.parse();
            uri.ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
        };
        let mut rest = String::new();
        let mut health = None;
        for (name, value) in &endpoint.query {
            let uri = || absolute(value).ok_or_else(|| fault(format!("{name}= takes a URL, or a path")));
            match name.as_str() {
                "idempotent" => {
                    self.idempotent =
                        value.parse().map_err(|_| fault("idempotent= takes true or false".into()))?;
                }
                "health" => health = Some(uri()?),
                "events" => {
                    let uri = uri()?;
                    let may = !endpoint.scheme.tls || is_encrypted(&uri);
                    let authorization = authorization.clone().filter(|_| may);
                    self.events = Some(Target { uri, authorization, health: None });
                }
                _ => {
                    let between = if rest.is_empty() { '?' } else { '&' };
                    let encode = switchboard_bus::percent::encode_token;
                    rest.push_str(&format!("{between}{}={}", encode(name), encode(value)));
                }
            }
        }
        let path = if endpoint.path.is_empty() { "/" } else { &endpoint.path };
        let uri = format!("{base}{path}{rest}").parse().map_err(|_| fault("it is no URL".into()))?;
        self.targets.push(Target { uri, authorization, health });
        Ok(())
    }
}

fn is_encrypted(to: &Uri) -> bool {
    to.scheme_str() == Some("https")
}

/// The endpoints of a bus over HTTP.
///
/// # Errors
/// When this can never work.
pub fn endpoints(connect: &Connect) -> Result<Vec<Endpoint>, ConnectError> {
    connect.endpoints(&SCHEMES)
}

fn authorization(endpoint: &Endpoint) -> Result<Option<HeaderValue>, ConnectError> {
    let text = match (&endpoint.user, &endpoint.password) {
        (Some(user), Some(password)) => {
            let pair = format!("{user}:{}", password.reveal());
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        }
        (None, Some(token)) => format!("Bearer {}", token.reveal()),
        _ => return Ok(None),
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| ConnectError::Url {
        url: endpoint.to_string(),
        reason: "a token holds visible ASCII only".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Config, String> {
        Config::read(&Connect::to(url)).map_err(|error| error.to_string())
    }

    #[test]
    fn our_parameters_are_taken_off_and_all_others_are_the_functions() {
        let config =
            read("https://key@f.example/ocpp?code=a%2Fb&idempotent=true&health=/healthz&x=1").unwrap();
        let target = &config.targets[0];
        assert_eq!(target.uri, "https://f.example:443/ocpp?code=a%2Fb&x=1");
        assert_eq!(target.authorization.as_ref().unwrap(), "Bearer key");
        assert!(config.idempotent && config.tls);
        assert_eq!(target.health.as_ref().unwrap(), "https://f.example:443/healthz");
        // Each has a health of its own.
        let config = read("http://a:1/ocpp?health=/well,b:2").unwrap();
        assert_eq!(config.targets[1].uri, "http://b:2/ocpp");
        assert_eq!(config.targets[1].health.as_ref().unwrap(), "http://b:2/well");
    }

    #[test]
    fn credentials_that_were_given_for_https_go_nowhere_without() {
        let (plain, encrypted) = (Uri::from_static("http://a:1/x"), Uri::from_static("https://a:1/x"));
        for (url, may) in [("https://key@f/", false), ("https://f/", true), ("http://key@f/", true)] {
            let config = read(url).unwrap();
            assert_eq!(config.may_carry(&plain), may, "{url}");
            assert!(config.may_carry(&encrypted), "{url}");
        }
        for (url, carries) in [
            ("https://key@f/?events=http://g/", false),
            ("https://key@f/?events=https://g/", true),
            ("https://key@f/?events=/events", true),
            ("http://key@f/?events=http://g/", true),
        ] {
            let events = read(url).unwrap().events.unwrap();
            assert_eq!(events.authorization.is_some(), carries, "{url}");
        }
    }

    #[test]
    fn what_can_never_work_is_said() {
        for (url, reason) in [
            ("nats://f", "http:// or https://"),
            ("http://f?idempotent=maybe", "true or false"),
            ("http://f?health=ftp://x", "takes a URL"),
        ] {
            let error = read(url).unwrap_err();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
