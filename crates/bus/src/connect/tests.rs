//! What is read from a configuration, and what is told of one that cannot work.

use super::*;
use proptest::prelude::*;

const SCHEMES: &[Scheme] =
    &[Scheme { name: "nats", port: 4222, tls: false }, Scheme { name: "tls", port: 4223, tls: true }];

fn one(url: &str) -> Endpoint {
    let mut endpoints = Connect::to(url).endpoints(SCHEMES).unwrap();
    assert_eq!(endpoints.len(), 1, "{endpoints:?}");
    endpoints.remove(0)
}

fn fault(connect: &Connect) -> String {
    connect.endpoints(SCHEMES).unwrap_err().to_string()
}

#[test]
fn a_url_is_taken_apart() {
    let endpoint = one("NATS://us%40er:p%3Aa%2Css@broker.example:1234/v%2Fhost?mode=bare&empty&a%20b=c%26d");
    assert_eq!(
        (endpoint.host.as_str(), endpoint.port, endpoint.scheme),
        ("broker.example", 1234, SCHEMES[0])
    );
    assert_eq!(endpoint.user.as_deref(), Some("us@er"));
    assert_eq!(endpoint.password.as_ref().map(Secret::reveal), Some("p:a,ss"));
    assert_eq!(endpoint.path, "/v%2Fhost");
    assert_eq!(endpoint.parameter("mode"), Some("bare"));
    assert_eq!(endpoint.parameter("empty"), Some(""));
    assert_eq!(endpoint.parameter("a b"), Some("c&d"));
    assert_eq!(endpoint.parameter("other"), None);
    assert_eq!(endpoint.to_string(), "nats://broker.example:1234/v%2Fhost");
}

#[test]
fn what_a_url_leaves_out_is_the_schemes_or_the_settings() {
    let endpoint = one("tls://broker");
    assert_eq!((endpoint.port, endpoint.scheme.tls, endpoint.path.as_str()), (4223, true, ""));
    assert_eq!((endpoint.user, endpoint.password), (None, None));
    let mut connect = Connect::to("nats://a,nats://token@b,nats://u:p@c");
    connect.user = Some("user".to_owned());
    connect.password = Some(Secret::new("password"));
    let endpoints = connect.endpoints(SCHEMES).unwrap();
    let credentials: Vec<_> = endpoints
        .iter()
        .map(|endpoint| (endpoint.user.as_deref(), endpoint.password.as_ref().map(Secret::reveal)))
        .collect();
    let expected = [(Some("user"), Some("password")), (None, Some("token")), (Some("u"), Some("p"))];
    assert_eq!(credentials, expected, "those of the URL win");
}

#[test]
fn several_endpoints_are_one_cluster() {
    let mut connect = Connect::to("nats://u:p@a/x?y=1, b:1,[::1]:2 ,tls://c");
    connect.urls.push("nats://d".to_owned());
    let endpoints = connect.endpoints(SCHEMES).unwrap();
    let shown: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["nats://a:4222/x", "nats://b:1/x", "nats://[::1]:2/x", "tls://c:4223", "nats://d:4222"]
    );
    let users: Vec<_> = endpoints.iter().map(|endpoint| endpoint.user.as_deref()).collect();
    assert_eq!(users, [Some("u"), Some("u"), Some("u"), None, None]);
    assert_eq!(endpoints[2].parameter("y"), Some("1"));
    assert_eq!((endpoints[2].host.as_str(), endpoints[2].authority().as_str()), ("::1", "[::1]:2"));
}

#[test]
fn what_can_never_work_is_told() {
    for (url, told) in [
        ("", "no URL of a broker is given; one looks like nats://broker"),
        (" , ", "no URL of a broker is given; one looks like nats://broker"),
        ("broker:4222", "does not begin with a scheme"),
        ("amqp://broker", "reached with nats:// or tls://"),
        ("nats://", "the host is missing"),
        ("nats://:1", "the host is missing"),
        ("nats://broker:0", "no number from 1 to 65535"),
        ("nats://broker:65536", "no number from 1 to 65535"),
        ("nats://broker:x", "no number from 1 to 65535"),
        ("nats://[::1", "not closed"),
        ("nats://[::1]x", "only a port"),
        ("nats://[broker]", "no address of version 6"),
        ("nats://bro ker", "characters that no host has"),
        ("nats://us%FFer:secret@broker", "not UTF-8"),
    ] {
        let fault = fault(&Connect::to(url));
        assert!(fault.contains(told), "{url}: {fault}");
        assert!(!fault.contains("secret"), "{fault}");
    }
    assert!(matches!(
        Connect { urls: vec![], ..Connect::to("") }.endpoints(SCHEMES),
        Err(ConnectError::NoUrl { .. })
    ));
}

#[test]
fn names_are_those_that_every_transport_carries() {
    let good = Connect::to("nats://broker");
    let with = |namespace: &str| Connect { namespace: namespace.into(), ..good.clone() };
    for namespace in ["default", "a", "A-1_b", &"x".repeat(64)] {
        assert!(with(namespace).endpoints(SCHEMES).is_ok(), "{namespace}");
    }
    for namespace in ["", "a.b", "a/b", "a b", "*", ">", "+", "#", "\u{e9}", &"x".repeat(65)] {
        assert!(fault(&with(namespace)).contains("the namespace"), "{namespace}");
    }
    for participant in ["", "a\nb", &"x".repeat(129)] {
        let connect = Connect { participant: participant.into(), ..good.clone() };
        assert!(fault(&connect).contains("the name"), "{participant:?}");
    }
    for partitions in [0, 3, 40_000] {
        assert!(fault(&Connect { partitions, ..good.clone() }).contains("partitions"), "{partitions}");
    }
    for partitions in [1, 256, 1024, 1 << 15] {
        assert!(Connect { partitions, ..good.clone() }.endpoints(SCHEMES).is_ok(), "{partitions}");
    }
}

#[test]
fn credentials_and_certificates_come_in_pairs() {
    let good = Connect::to("nats://broker");
    let user = Some("user".to_owned());
    let password = Some(Secret::new("secret"));
    assert!(fault(&Connect { user, ..good.clone() }).contains("without a password"));
    assert!(fault(&Connect { password, ..good.clone() }).contains("without a user"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.pem");
    let file = || Some(path.clone());
    let tls = Tls { ca_file: file(), ..Tls::default() };
    assert!(fault(&Connect { tls: tls.clone(), ..good.clone() }).contains("file.pem"), "it is not there");
    std::fs::write(&path, "no certificate").unwrap();
    assert!(fault(&Connect { tls: tls.clone(), ..good.clone() }).contains("file.pem"));
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----").unwrap();
    assert!(Connect { tls, ..good.clone() }.endpoints(SCHEMES).is_ok());
    let tls = Tls { certificate_file: file(), ..Tls::default() };
    assert!(fault(&Connect { tls, ..good.clone() }).contains("the key file is missing"));
    let tls = Tls { key_file: file(), ..Tls::default() };
    assert!(fault(&Connect { tls, ..good }).contains("the certificate file is missing"));
}

#[test]
fn no_credential_is_shown() {
    let mut connect = Connect::to("nats://me:secret@a,nats://other-secret@b,nats://c?password=secret#secret");
    connect.user = Some("somebody".to_owned());
    connect.password = Some(Secret::new("secret"));
    let shown = format!("{connect:?} {:?}", connect.endpoints(SCHEMES).unwrap()[0].password);
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains("nats://…@a") && shown.contains("somebody"), "{shown}");
    // A comma in a password ends it for whoever does not know.
    for url in
        ["nats://me:sec,ret@a", "nats://me:1,sec,ret@a", "nats://a,me:sec,ret@b:1", "nats://me:sec@sec,ret@a"]
    {
        let connect = Connect::to(url);
        let shown = format!("{connect:?} {}", connect.endpoints(SCHEMES).unwrap_err());
        assert!(!shown.contains("sec") && !shown.contains("ret@") && shown.contains("%2C"), "{shown}");
    }
}

proptest! {
    #[test]
    fn whatever_is_given_it_does_not_panic_and_what_is_read_is_written_alike(url in "(nats|tls)://[a-z@:%/?#0-9,\\[\\]é]{0,30}") {
        if let Ok(endpoints) = Connect::to(url).endpoints(SCHEMES) {
            for endpoint in endpoints {
                prop_assert_eq!(one(&endpoint.to_string()).authority(), endpoint.authority());
            }
        }
    }
}
