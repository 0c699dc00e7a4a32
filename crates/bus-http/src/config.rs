//! What is read from a [`Connect`] once.

use base64::Engine as _;
use bytestring::ByteString;
use http::{HeaderValue, Uri};
use switchboard_bus::{Connect, ConnectError, Endpoint, Scheme};

/// How this driver is reached.
pub(crate) const SCHEMES: [Scheme; 2] =
    [Scheme { name: "http", port: 80, tls: false }, Scheme { name: "https", port: 443, tls: true }];

/// What the URLs say. The parameters that are ours are taken off; all others belong to the function.
#[derive(Debug)]
pub(crate) struct Config {
    /// The functions, tried in turn; never empty.
    pub(crate) targets: Vec<Target>,
    /// A call may be posted again although somebody may have it.
    pub(crate) idempotent: bool,
    /// Asked for a sign of life.
    pub(crate) health: Option<Uri>,
    /// Events are posted there.
    pub(crate) events: Option<Target>,
    /// Other gateways, by their names.
    pub(crate) peers: Vec<(ByteString, Target)>,
    /// The gateway that commands are posted to.
    pub(crate) gateway: Option<Target>,
    /// What requests to us must carry; also what ours to peers carry.
    pub(crate) authorization: Option<HeaderValue>,
}

/// Somewhere to post to.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Config {
    pub(crate) fn read(connect: &Connect) -> Result<(Self, Vec<Endpoint>), ConnectError> {
        let endpoints = connect.endpoints(&SCHEMES)?;
        let mut config = Self {
            targets: Vec::new(),
            idempotent: false,
            health: None,
            events: None,
            peers: Vec::new(),
            gateway: None,
            authorization: endpoints.first().map(authorization).transpose()?.flatten(),
        };
        for endpoint in &endpoints {
            config.add(endpoint)?;
        }
        Ok((config, endpoints))
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
        for (name, value) in &endpoint.query {
            let uri = || absolute(value).ok_or_else(|| fault(format!("{name}= takes a URL, or a path")));
            match name.as_str() {
                "idempotent" => {
                    self.idempotent =
                        value.parse().map_err(|_| fault("idempotent= takes true or false".into()))?;
                }
                "health" => self.health = Some(uri()?),
                "events" => self.events = Some(Target { uri: uri()?, authorization: authorization.clone() }),
                "gateway" => {
                    self.gateway = Some(Target { uri: uri()?, authorization: authorization.clone() });
                }
                "peer" => {
                    let peer = value.split_once('@').and_then(|(name, url)| Some((name, absolute(url)?)));
                    let (peer, uri) = peer.ok_or_else(|| fault("peer= takes NAME@URL".into()))?;
                    self.peers.push((peer.into(), Target { uri, authorization: authorization.clone() }));
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
        self.targets.push(Target { uri, authorization });
        Ok(())
    }
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

impl Target {
    /// One of the gateway's own paths below this.
    pub(crate) fn below(&self, path: &str) -> Option<Self> {
        let base = self.uri.to_string();
        let uri = format!("{}{path}", base.trim_end_matches('/')).parse().ok()?;
        Some(Self { uri, authorization: self.authorization.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Config, String> {
        Config::read(&Connect::to(url)).map(|(config, _)| config).map_err(|error| error.to_string())
    }

    #[test]
    fn our_parameters_are_taken_off_and_all_others_are_the_functions() {
        let url = "https://key@f.example/ocpp?code=a%2Fb&idempotent=true&health=/healthz&peer=gw-2@http://10.0.0.2:81&x=1";
        let config = read(url).unwrap();
        assert_eq!(config.targets[0].uri, "https://f.example:443/ocpp?code=a%2Fb&x=1");
        assert_eq!(config.targets[0].authorization.as_ref().unwrap(), "Bearer key");
        assert!(config.idempotent);
        assert_eq!(config.health.unwrap(), "https://f.example:443/healthz");
        assert_eq!(
            (&*config.peers[0].0, config.peers[0].1.uri.to_string()),
            ("gw-2", "http://10.0.0.2:81/".into())
        );
    }

    #[test]
    fn what_can_never_work_is_said() {
        for (url, reason) in [
            ("nats://f", "http:// or https://"),
            ("http://f?idempotent=maybe", "true or false"),
            ("http://f?health=ftp://x", "takes a URL"),
            ("http://f?peer=http://x", "NAME@URL"),
        ] {
            let error = read(url).unwrap_err();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }
}
