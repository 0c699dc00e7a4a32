//! From the head of a request to a decision: who knocks, may they come in, which version is spoken.
//!
//! Pure functions, so that every row of the table is a test without a socket. The order is that of the answers: form of
//! the request, form of the path, limits (the caller's), identity, credentials, subprotocol.

use crate::{
    authenticate::{self, Credentials},
    compression,
    config::{Config, NoCommonVersion, UnknownStations},
};
use base64::{
    Engine as _, alphabet,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use bytestring::ByteString;
use http::{HeaderMap, Method, StatusCode, header, request::Parts};
use switchboard_deflate::Agreed;
use switchboard_directory::{Account, StationKey};
use switchboard_rpc::{IdentityError, StationId, Version, identity, subprotocol};

/// What a well-formed request asks for.
#[derive(Debug)]
pub(crate) struct Offer {
    /// Who wants to come in.
    pub(crate) key: StationKey,
    /// What it says to prove that.
    pub(crate) credentials: Credentials,
    /// What came of the subprotocols it offers.
    pub(crate) subprotocol: subprotocol::Choice,
    /// What our `Sec-WebSocket-Accept` must be.
    pub(crate) accept: String,
    /// The compression that it offers and may have (H14).
    pub(crate) compression: Option<Agreed>,
}

/// What the directory says of an identity.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Standing<'a> {
    /// The operator registered it.
    Registered(&'a Account),
    /// Nobody did.
    Unknown,
}

/// How the one who knocks must prove who it is.
#[derive(PartialEq, Eq)]
pub(crate) enum Proof {
    /// Not at all.
    None,
    /// These bytes must be the account's password (H09).
    Password(Vec<u8>),
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::None => "None",
            Self::Password(_) => "Password(…)",
        })
    }
}

/// Which version the connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This one; `named` says whether the 101 carries it.
    Speak { version: Version, named: bool },
    /// None: 101 without the header, and close 1002 (H03).
    ThenClose,
}

/// Why a request gets no 101.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No WebSocket upgrade at all.
    NotAnUpgrade,
    /// An upgrade to another version of WebSocket than 13.
    WebSocketVersion,
    /// An upgrade that is not well-formed.
    Malformed(&'static str),
    /// A path that no station has.
    Path,
    /// A path whose last segment is no identity.
    Identity(IdentityError),
    /// Nobody registered the identity.
    Unknown,
    /// No credentials where some are asked.
    CredentialsMissing,
    /// The user is not the identity, or the password is wrong.
    CredentialsWrong,
    /// No common version; with what was offered.
    Subprotocol,
    /// Another connection without credentials holds the identity (`keep_old`).
    Taken,
    /// The gateway is being shut down.
    Draining,
    /// Too many connections or upgrades.
    Busy,
    /// Too many connections of this address.
    AddressLimit,
    /// Too many connections of this tenant.
    TenantLimit,
    /// Processing has been away for long.
    ProcessingAway,
    /// The directory could not be asked, or not in time.
    LookUp,
}

impl Refusal {
    /// The status that answers it.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::NotAnUpgrade | Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::Malformed(_) | Self::Identity(_) | Self::Subprotocol => StatusCode::BAD_REQUEST,
            Self::Path | Self::Unknown => StatusCode::NOT_FOUND,
            Self::CredentialsMissing | Self::CredentialsWrong => StatusCode::UNAUTHORIZED,
            Self::Taken => StatusCode::CONFLICT,
            Self::AddressLimit | Self::TenantLimit => StatusCode::TOO_MANY_REQUESTS,
            Self::Draining | Self::Busy | Self::ProcessingAway | Self::LookUp => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// One sentence for whoever reads the body.
    pub(crate) fn sentence(&self, config: &Config) -> String {
        let sentence = match self {
            Self::NotAnUpgrade => "This port speaks OCPP over WebSocket (version 13) only.",
            Self::WebSocketVersion => "The header Sec-WebSocket-Version must say 13.",
            Self::Malformed(what) => what,
            Self::Path => {
                return if config.tenants {
                    format!("Stations connect at {}/{{tenant}}/{{station}}.", config.path)
                } else {
                    format!("Stations connect at {}/{{station}}.", config.path)
                };
            }
            Self::Identity(error) => return format!("The last segment of the path is no identity: {error}."),
            Self::Unknown => "No station of this identity is registered.",
            Self::CredentialsMissing => {
                "This station must send HTTP Basic credentials with its identity as the user."
            }
            Self::CredentialsWrong => "The user is not the identity of the path, or the password is wrong.",
            Self::Subprotocol => {
                let spoken: Vec<_> = config.versions.iter().map(|version| version.subprotocol()).collect();
                return format!(
                    "None of the offered subprotocols is spoken here; offer one of {}.",
                    spoken.join(", ")
                );
            }
            Self::Taken => "Another connection holds this identity.",
            Self::Draining => "This gateway is shutting down; come back, another one will answer.",
            Self::Busy => "There are too many connections at the moment; come back later.",
            Self::AddressLimit => "There are too many connections from this address.",
            Self::TenantLimit => "There are too many connections of this tenant.",
            Self::ProcessingAway => {
                "Messages cannot be processed at the moment; keep them and come back later."
            }
            Self::LookUp => "The identity could not be looked up at the moment; come back later.",
        };
        sentence.to_owned()
    }

    /// Whether the answer carries `Retry-After`.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Draining
                | Self::Busy
                | Self::AddressLimit
                | Self::TenantLimit
                | Self::ProcessingAway
                | Self::LookUp
        )
    }
}

/// Reads the head of a request: is it an upgrade, and whose.
pub(crate) fn read(head: &Parts, config: &Config) -> Result<Offer, Refusal> {
    let headers = &head.headers;
    if !has_token(headers, header::UPGRADE, "websocket") {
        return Err(Refusal::NotAnUpgrade);
    }
    if head.method != Method::GET {
        return Err(Refusal::Malformed("A WebSocket upgrade is a GET request."));
    }
    if head.version < http::Version::HTTP_11 {
        return Err(Refusal::Malformed("A WebSocket upgrade needs HTTP/1.1."));
    }
    if !has_token(headers, header::CONNECTION, "upgrade") {
        return Err(Refusal::Malformed("The header Connection does not say Upgrade."));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes() != b"13") {
        return Err(Refusal::WebSocketVersion);
    }
    let accept = match headers.get(header::SEC_WEBSOCKET_KEY) {
        Some(key) if is_key(key.as_bytes()) => {
            tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes())
        }
        Some(_) => {
            return Err(Refusal::Malformed("The header Sec-WebSocket-Key is not 16 bytes in base64."));
        }
        None => return Err(Refusal::Malformed("The header Sec-WebSocket-Key is missing.")),
    };
    let (key, raw_identity) = station_of(head.uri.path(), config)?;
    let credentials = authenticate::read(headers, &key.station, raw_identity);
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let subprotocol = subprotocol::choose(offered.filter_map(|value| value.to_str().ok()), |version| {
        config.versions.contains(&version)
    });
    let compression = compression::choose(headers, &key, config);
    Ok(Offer { key, credentials, subprotocol, accept, compression })
}

/// Decides whether the one who knocks is let in, and what it must prove first.
pub(crate) fn admit(offer: &Offer, standing: Standing<'_>, config: &Config) -> Result<Proof, Refusal> {
    let open = match standing {
        Standing::Unknown => config.unknown_stations == UnknownStations::Accept,
        Standing::Registered(account) => account.password.is_none(),
    };
    match standing {
        // H08: whoever says a name says the one of the path, also where no password is asked.
        _ if open && offer.credentials == Credentials::NotOfThisIdentity => Err(Refusal::CredentialsWrong),
        _ if open => Ok(Proof::None),
        Standing::Unknown if config.hide_unknown => Err(match offer.credentials {
            Credentials::Missing => Refusal::CredentialsMissing,
            _ => Refusal::CredentialsWrong,
        }),
        Standing::Unknown => Err(Refusal::Unknown),
        Standing::Registered(_) => match &offer.credentials {
            Credentials::Missing => Err(Refusal::CredentialsMissing),
            Credentials::NotOfThisIdentity => Err(Refusal::CredentialsWrong),
            Credentials::Password(password) => Ok(Proof::Password(password.clone())),
        },
    }
}

/// Decides which version is spoken, if any.
pub(crate) fn choose(offer: &Offer, config: &Config) -> Result<Choice, Refusal> {
    match (offer.subprotocol, config.assume_version) {
        (subprotocol::Choice::Chosen(version), _) => Ok(Choice::Speak { version, named: true }),
        // A protocol that was not offered must not be named (RFC 6455, 4.2.2).
        (subprotocol::Choice::NoneOffered, Some(version)) => Ok(Choice::Speak { version, named: false }),
        _ => match config.no_common_version {
            NoCommonVersion::Reject => Err(Refusal::Subprotocol),
            NoCommonVersion::AcceptThenClose => Ok(Choice::ThenClose),
        },
    }
}

/// The station that a raw path names, if it names one.
pub(crate) fn station(path: &str, config: &Config) -> Option<StationKey> {
    station_of(path, config).ok().map(|(key, _)| key.detached())
}

/// The station of a raw path, and its last segment as it was written.
fn station_of<'a>(path: &'a str, config: &Config) -> Result<(StationKey, &'a str), Refusal> {
    let refusal = |error| match error {
        IdentityError::OutsidePrefix => Refusal::Path,
        other => Refusal::Identity(other),
    };
    let prefix = config.path.trim_end_matches('/');
    let station = identity::from_path(path, prefix, config.identity_characters_max).map_err(refusal)?;
    let below = path.strip_prefix(prefix).unwrap_or_default().trim_matches('/');
    let raw = below.rsplit('/').next().unwrap_or_default();
    let tenant = if config.tenants {
        let (tenant, _) = below.split_once('/').ok_or(Refusal::Path)?;
        let tenant = percent_encoding::percent_decode_str(tenant)
            .decode_utf8()
            .map_err(|_| Refusal::Identity(IdentityError::NotUtf8))?;
        // The same characters as an identity, since it stands beside one in addresses.
        StationId::new(&*tenant, config.identity_characters_max).map_err(refusal)?.text().clone()
    } else {
        ByteString::from_static("default")
    };
    Ok((StationKey { tenant, station }, raw))
}

/// Whether a key is what RFC 6455, 4.1 makes it: sixteen bytes. What answers to anything else may be a cache or a proxy
/// that understood nothing. Bits that say nothing behind the last byte are borne.
fn is_key(key: &[u8]) -> bool {
    KEY.decode(key).is_ok_and(|bytes| bytes.len() == 16)
}

const KEY: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Whether a header that is a list of tokens holds this one, in any case of letters.
fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value.to_str().is_ok_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use switchboard_directory::PasswordHash;

    fn head(path: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get(path)
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn account(password: bool) -> Account {
        Account {
            key: StationKey {
                tenant: ByteString::from_static("default"),
                station: StationId::new("CP1", 48).unwrap(),
            },
            password: password.then(|| PasswordHash("hash".to_owned())),
            created_ms: 0,
        }
    }

    #[test]
    fn h10_h11_h12_the_identity_is_the_last_segment_decoded_once() {
        let nul = Refusal::Identity(IdentityError::Character);
        let long = "x".repeat(49);
        let ok_long = "ü".repeat(48);
        let encoded_long = "%C3%BC".repeat(48);
        for (path, expected) in [
            ("/ocpp/CP1", Ok("CP1")),
            ("/ocpp/CP1/", Ok("CP1")),
            ("/ocpp/CP1?token=/x", Ok("CP1")),
            ("/ocpp/1.6/CP1", Ok("CP1")),
            ("/ocpp/RDAM%7C123", Ok("RDAM|123")),
            ("/ocpp/RDAM%20123", Ok("RDAM 123")),
            ("/ocpp/a%2525b", Ok("a%25b")),
            (&format!("/ocpp/{encoded_long}"), Ok(&*ok_long)),
            ("/ocpp/a%2Fb", Err(nul.clone())),
            ("/ocpp/a%00b", Err(nul.clone())),
            ("/ocpp/a%0Ab", Err(nul)),
            ("/ocpp", Err(Refusal::Identity(IdentityError::Empty))),
            ("/ocpp/", Err(Refusal::Identity(IdentityError::Empty))),
            ("/ocpp//", Err(Refusal::Identity(IdentityError::Empty))),
            (&format!("/ocpp/{long}"), Err(Refusal::Identity(IdentityError::TooLong { limit: 48 }))),
            ("/ocpp/%FF", Err(Refusal::Identity(IdentityError::NotUtf8))),
            ("/CP1", Err(Refusal::Path)),
            ("/ocppx/CP1", Err(Refusal::Path)),
            ("/healthz", Err(Refusal::Path)),
        ] {
            let got = read(&head(path, &[]), &Config::default());
            let got = got.map(|offer| offer.key.station.as_str().to_owned());
            assert_eq!(got, expected.map(str::to_owned), "{path}");
        }
    }

    #[test]
    fn any_path_may_stand_in_front_if_the_operator_says_so() {
        let config = Config { path: String::new(), ..Config::default() };
        for path in ["/CP1", "/a/b/CP1", "/ocpp/CP1"] {
            assert_eq!(read(&head(path, &[]), &config).unwrap().key.station.as_str(), "CP1", "{path}");
        }
    }

    #[test]
    fn the_tenant_is_the_first_segment_where_tenants_are_on() {
        let config = Config { tenants: true, ..Config::default() };
        for (path, expected) in [
            ("/ocpp/acme/CP1", Ok(("acme", "CP1"))),
            ("/ocpp/acme/2.0.1/CP1", Ok(("acme", "CP1"))),
            ("/ocpp/CP1", Err(Refusal::Path)),
            ("/ocpp/%00/CP1", Err(Refusal::Identity(IdentityError::Character))),
        ] {
            let got = read(&head(path, &[]), &config)
                .map(|offer| (offer.key.tenant.to_string(), offer.key.station.to_string()));
            assert_eq!(got, expected.map(|(a, b)| (a.to_owned(), b.to_owned())), "{path}");
        }
    }

    #[test]
    fn h15_what_is_no_upgrade_gets_426_or_400() {
        type Spoil = fn(&mut Parts);
        let cases: [(&str, Spoil, u16); 11] = [
            ("no version", |head| drop(head.headers.remove("sec-websocket-version")), 426),
            (
                "a key that is short",
                |head| drop(head.headers.insert("sec-websocket-key", "dGhlIHNhbXBsZQ==".parse().unwrap())),
                400,
            ),
            (
                "a key that is no base64",
                |head| {
                    drop(
                        head.headers.insert("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZ!==".parse().unwrap()),
                    );
                },
                400,
            ),
            ("an empty key", |head| drop(head.headers.insert("sec-websocket-key", "".parse().unwrap())), 400),
            ("plain GET", |head| drop(head.headers.remove("upgrade")), 426),
            ("h2c", |head| drop(head.headers.insert("upgrade", "h2c".parse().unwrap())), 426),
            (
                "version 8",
                |head| drop(head.headers.insert("sec-websocket-version", "8".parse().unwrap())),
                426,
            ),
            ("no key", |head| drop(head.headers.remove("sec-websocket-key")), 400),
            ("no connection token", |head| drop(head.headers.remove("connection")), 400),
            ("POST", |head| head.method = Method::POST, 400),
            ("HTTP/1.0", |head| head.version = http::Version::HTTP_10, 400),
        ];
        for (name, spoil, status) in cases {
            let mut head = head("/ocpp/CP1", &[]);
            spoil(&mut head);
            let refusal = read(&head, &Config::default()).unwrap_err();
            assert_eq!(refusal.status().as_u16(), status, "{name}");
            assert!(refusal.sentence(&Config::default()).ends_with('.'), "{name}");
        }
    }

    #[test]
    fn h01_to_h05_the_first_spoken_version_of_the_stations_list_is_chosen() {
        use Version::{V16, V21, V201};
        let speak = |version| Ok(Choice::Speak { version, named: true });
        let only = |versions: &[Version]| Config { versions: versions.to_vec(), ..Config::default() };
        let then_close = Config { no_common_version: NoCommonVersion::AcceptThenClose, ..Config::default() };
        let assume = Config { assume_version: Some(V16), ..Config::default() };
        for (name, offered, config, expected) in [
            ("one", &["ocpp1.6"][..], Config::default(), speak(V16)),
            ("preference", &["ocpp2.0.1, ocpp1.6"], Config::default(), speak(V201)),
            ("preference, repeated", &["ocpp1.6", "ocpp2.1"], Config::default(), speak(V16)),
            ("no spaces", &["ocpp2.1,ocpp1.6"], Config::default(), speak(V21)),
            ("first is off", &["ocpp2.0.1, ocpp1.6"], only(&[V16]), speak(V16)),
            ("unknown ones before", &["ocpp1.5, mqtt, ocpp1.6"], Config::default(), speak(V16)),
            ("case", &["OCPP1.6"], Config::default(), Err(Refusal::Subprotocol)),
            ("none spoken", &["ocpp1.5"], Config::default(), Err(Refusal::Subprotocol)),
            ("none spoken, literal text", &["ocpp1.5"], then_close.clone(), Ok(Choice::ThenClose)),
            ("no header", &[], Config::default(), Err(Refusal::Subprotocol)),
            ("no header, literal text", &[], then_close, Ok(Choice::ThenClose)),
            ("no header, assumed", &[], assume.clone(), Ok(Choice::Speak { version: V16, named: false })),
            ("foreign header, not assumed", &["foo"], assume, Err(Refusal::Subprotocol)),
        ] {
            let headers: Vec<_> = offered.iter().map(|value| ("sec-websocket-protocol", *value)).collect();
            let offer = read(&head("/ocpp/2.1/CP1", &headers), &config).unwrap();
            assert_eq!(choose(&offer, &config), expected, "{name}");
        }
    }

    #[test]
    fn h06_h07_h08_identity_and_credentials_decide_who_comes_in() {
        // CP1:secret, CP2:secret
        let right = ("authorization", "Basic Q1AxOnNlY3JldA==");
        let other = ("authorization", "Basic Q1AyOnNlY3JldA==");
        let password = Ok(Proof::Password(b"secret".to_vec()));
        let accept = Config { unknown_stations: UnknownStations::Accept, ..Config::default() };
        let hide = Config { hide_unknown: true, ..Config::default() };
        let with = account(true);
        let without = account(false);
        for (name, header, standing, config, expected) in [
            ("unknown", None, Standing::Unknown, Config::default(), Err(Refusal::Unknown)),
            ("unknown, right form", Some(right), Standing::Unknown, Config::default(), Err(Refusal::Unknown)),
            ("unknown, hidden", None, Standing::Unknown, hide.clone(), Err(Refusal::CredentialsMissing)),
            ("unknown, hidden, tried", Some(right), Standing::Unknown, hide, Err(Refusal::CredentialsWrong)),
            ("unknown, accepted", None, Standing::Unknown, accept.clone(), Ok(Proof::None)),
            ("no password asked", None, Standing::Registered(&without), Config::default(), Ok(Proof::None)),
            ("missing", None, Standing::Registered(&with), accept, Err(Refusal::CredentialsMissing)),
            (
                "another user",
                Some(other),
                Standing::Registered(&with),
                Config::default(),
                Err(Refusal::CredentialsWrong),
            ),
            ("to be proved", Some(right), Standing::Registered(&with), Config::default(), password),
        ] {
            let offer = read(&head("/ocpp/CP1", header.as_slice()), &config).unwrap();
            assert_eq!(admit(&offer, standing, &config), expected, "{name}");
        }
    }

    #[test]
    fn h13_an_origin_shuts_nobody_out() {
        assert!(read(&head("/ocpp/CP1", &[("origin", "http://evil.example")]), &Config::default()).is_ok());
    }

    #[test]
    fn h16_passing_refusals_say_when_to_come_back() {
        for (refusal, status) in [
            (Refusal::Draining, 503),
            (Refusal::Busy, 503),
            (Refusal::LookUp, 503),
            (Refusal::ProcessingAway, 503),
            (Refusal::AddressLimit, 429),
            (Refusal::TenantLimit, 429),
        ] {
            assert!(refusal.is_passing(), "{refusal:?}");
            assert_eq!(refusal.status().as_u16(), status, "{refusal:?}");
        }
    }
}
