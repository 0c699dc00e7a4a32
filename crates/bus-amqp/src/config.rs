//! What is read from a [`Connect`] once: places, names, certificates.

use bytestring::ByteString;
use std::sync::Arc;
use switchboard_bus::{Connect, ConnectError, Endpoint, Scheme, Secret, percent};
use tokio_rustls::rustls::ClientConfig;

/// How this driver is reached.
pub(crate) const SCHEMES: [Scheme; 2] =
    [Scheme { name: "amqp", port: 5672, tls: false }, Scheme { name: "amqps", port: 5671, tls: true }];

/// Everything that does not change while the bus lives.
#[derive(Debug)]
pub(crate) struct Config {
    /// Tried in turn; never empty.
    pub(crate) places: Vec<Place>,
    pub(crate) names: Names,
    pub(crate) participant: ByteString,
    pub(crate) partitions: u16,
    /// There if one of the places wants it.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// One place where the broker listens, and who we are there.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    pub(crate) vhost: String,
    pub(crate) credentials: Credentials,
    /// Seconds.
    pub(crate) heartbeat: u16,
}

#[derive(Debug)]
pub(crate) enum Credentials {
    Password {
        user: String,
        password: Secret,
    },
    /// The client's certificate says who we are.
    Certificate,
}

/// Exchanges and queues of a namespace.
#[derive(Debug)]
pub(crate) struct Names {
    /// Direct; keys are partitions.
    pub(crate) calls: String,
    /// Fanout; takes the calls of all partitions that nobody owns.
    pub(crate) any_call: String,
    /// The one queue of all workers that share calls.
    pub(crate) workers: String,
    /// The one queue of all gateways, for commands whose senders do not know where the station is.
    pub(crate) commands: String,
    /// Fanout.
    pub(crate) presence: String,
    /// Topic; keys are tenant and station.
    pub(crate) events: String,
    inbox: String,
}

impl Config {
    pub(crate) fn read(connect: &Connect) -> Result<Self, ConnectError> {
        let endpoints = connect.endpoints(&SCHEMES)?;
        let tls = endpoints.iter().any(|endpoint| endpoint.scheme.tls);
        let has_certificate = connect.tls.certificate_file.is_some();
        let places = endpoints
            .into_iter()
            .map(|endpoint| Place::read(endpoint, has_certificate))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            places,
            names: Names::of(&connect.namespace),
            participant: connect.participant.clone(),
            partitions: connect.partitions,
            tls: if tls { Some(connect.tls.client_config()?) } else { None },
        })
    }
}

impl Place {
    fn read(endpoint: Endpoint, has_certificate: bool) -> Result<Self, ConnectError> {
        let fault = |reason: &str| ConnectError::Url { url: endpoint.to_string(), reason: reason.to_owned() };
        let vhost = match endpoint.path.strip_prefix('/').unwrap_or_default() {
            "" => ByteString::from_static("/"),
            path if path.contains('/') => {
                return Err(fault("a '/' in the name of the virtual host is written %2f"));
            }
            path => percent::decode_token(path).ok_or_else(|| fault("the virtual host is not UTF-8"))?,
        };
        if vhost.len() > NAME_MAX {
            return Err(fault("the name of the virtual host is too long"));
        }
        let credentials = match (&endpoint.user, &endpoint.password) {
            (Some(user), Some(password)) => {
                Credentials::Password { user: user.clone(), password: password.clone() }
            }
            (None, None) if endpoint.scheme.tls && has_certificate => Credentials::Certificate,
            // Which the broker accepts from its own machine only.
            (None, None) => {
                Credentials::Password { user: "guest".to_owned(), password: Secret::new("guest") }
            }
            _ => return Err(fault("credentials are written user:password@")),
        };
        let mut heartbeat = HEARTBEAT_DEFAULT;
        for (name, value) in &endpoint.query {
            heartbeat = match (name.as_str(), value.parse()) {
                ("heartbeat", Ok(seconds @ 1..=600)) => seconds,
                ("heartbeat", _) => return Err(fault("heartbeat= takes 1 to 600 seconds")),
                _ => return Err(fault("the one parameter that is known is heartbeat=")),
            };
        }
        Ok(Self { vhost: vhost.to_string(), credentials, heartbeat, endpoint })
    }
}

impl Names {
    fn of(namespace: &str) -> Self {
        let calls = format!("ocpp.v1.{namespace}.call");
        Self {
            any_call: format!("{calls}.any"),
            workers: format!("{calls}.workers"),
            commands: format!("ocpp.v1.{namespace}.command"),
            presence: format!("ocpp.v1.{namespace}.presence"),
            events: format!("ocpp.v1.{namespace}.event"),
            inbox: format!("ocpp.v1.{namespace}.inbox."),
            calls,
        }
    }

    /// The queue of an inbox; none if no queue may have such a name.
    pub(crate) fn inbox(&self, name: &str) -> Option<String> {
        let queue = format!("{}{}", self.inbox, percent::encode_token(name));
        (queue.len() <= NAME_MAX).then_some(queue)
    }
}

/// What the protocol allows in a name, in bytes.
const NAME_MAX: usize = 255;
/// A frozen worker's calls go to another after about two and a half of it; the servers' own default is a minute.
const HEARTBEAT_DEFAULT: u16 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Result<Place, String> {
        let config = Config::read(&Connect::to(url)).map_err(|error| error.to_string())?;
        config.places.into_iter().next().ok_or_else(String::new)
    }

    #[test]
    fn the_document_for_others_has_these_queues_and_exchanges_and_no_more() {
        let document = include_str!("../../../docs/asyncapi.yaml");
        let channels = document.lines().zip(document.lines().skip(1));
        let documented = channels
            .filter(|(name, _)| name.starts_with("  rabbitmq-"))
            .filter_map(|(_, address)| address.trim().strip_prefix("address: '")?.strip_suffix('\''));
        let documented = documented
            .map(|address| address.replace("{namespace}", "NAMESPACE").replace("{name}", "NAME"))
            .collect::<Vec<_>>();
        let names = Names::of("NAMESPACE");
        let inbox = names.inbox("NAME").unwrap();
        assert_eq!(documented, [names.workers, names.commands, inbox, names.presence, names.events]);
        for exchange in [names.calls, names.any_call] {
            assert!(document.contains(&exchange.replace("NAMESPACE", "{namespace}")), "{exchange}");
        }
    }

    #[test]
    fn a_url_says_virtual_host_credentials_and_heartbeat() {
        for (url, vhost, user, heartbeat) in [
            ("amqp://localhost", "/", "guest", 5),
            ("amqp://localhost/", "/", "guest", 5),
            ("amqp://me:x%40y@localhost:1/%2f", "/", "me", 5),
            ("amqp://me:x@localhost/sites?heartbeat=10", "sites", "me", 10),
            ("amqp://me:x@localhost/a%2Fb", "a/b", "me", 5),
        ] {
            let place = place(url).unwrap();
            let Credentials::Password { user: got, .. } = &place.credentials else { panic!("{url}") };
            assert_eq!((&*place.vhost, &**got, place.heartbeat), (vhost, user, heartbeat), "{url}");
        }
    }

    #[test]
    fn what_can_never_work_is_said() {
        for (url, reason) in [
            ("nats://localhost", "amqp:// or amqps://"),
            ("amqp://localhost/a/b", "%2f"),
            ("amqp://token@localhost", "user:password@"),
            ("amqp://localhost?heartbeat=0", "1 to 600"),
            ("amqp://localhost?channel_max=4", "the one parameter"),
        ] {
            let error = place(url).unwrap_err();
            assert!(error.contains(reason), "{url}: {error}");
        }
    }

    #[test]
    fn an_inbox_whose_name_is_too_long_has_no_queue() {
        let names = Names::of("default");
        assert_eq!(names.inbox("a.b c").unwrap(), "ocpp.v1.default.inbox.a%2Eb%20c");
        assert_eq!(names.inbox(&"\u{1f50c}".repeat(20)), None);
    }
}
