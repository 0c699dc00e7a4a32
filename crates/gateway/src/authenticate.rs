//! HTTP Basic as OCPP uses it: the user is the identity, the password is bytes.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, header};
use std::fmt;
use switchboard_rpc::{StationId, credentials};

/// What a request says to prove who sends it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// Nothing, or nothing that is HTTP Basic.
    Missing,
    /// Another user than the identity of the path (H08).
    NotOfThisIdentity,
    /// The password, which may hold any byte (H09).
    Password(Vec<u8>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Missing => "Missing",
            Self::NotOfThisIdentity => "NotOfThisIdentity",
            Self::Password(_) => "Password(…)",
        })
    }
}

/// Reads `Authorization`. `raw` is the identity as the path spells it, still percent-encoded: some stations send that.
pub(crate) fn read(headers: &HeaderMap, station: &StationId, raw: &str) -> Credentials {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Credentials::Missing };
    let value = value.as_bytes();
    let Some((scheme, rest)) = value.split_at_checked(6) else { return Credentials::Missing };
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return Credentials::Missing;
    }
    let Ok(pair) = LENIENT.decode(rest.trim_ascii()) else { return Credentials::NotOfThisIdentity };
    [station.as_str(), raw]
        .into_iter()
        .find_map(|user| credentials::password(&pair, user).ok())
        .map_or(Credentials::NotOfThisIdentity, |password| Credentials::Password(password.to_vec()))
}

/// Some stations leave out the padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::BASE64_STANDARD;

    fn check(station: &str, raw: &str, authorization: Option<&[u8]>) -> Credentials {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.try_into().unwrap());
        }
        read(&headers, &StationId::new(station.to_owned(), 255).unwrap(), raw)
    }

    fn basic(pair: &[u8]) -> Vec<u8> {
        format!("Basic {}", BASE64_STANDARD.encode(pair)).into_bytes()
    }

    #[test]
    fn h08_h09_the_identity_is_taken_off_and_the_rest_are_bytes() {
        let password = |bytes: &[u8]| Credentials::Password(bytes.to_vec());
        for (name, station, raw, value, expected) in [
            ("plain", "CP1", "CP1", Some(basic(b"CP1:secret")), password(b"secret")),
            ("colons in the password", "CP1", "CP1", Some(basic(b"CP1:a:b:")), password(b"a:b:")),
            ("NUL and 0xFF", "CP1", "CP1", Some(basic(b"CP1:\0\xff:")), password(b"\0\xff:")),
            ("colon in the identity", "A:1", "A:1", Some(basic(b"A:1:x")), password(b"x")),
            ("empty password", "CP1", "CP1", Some(basic(b"CP1:")), password(b"")),
            ("encoded user", "A|1", "A%7C1", Some(basic(b"A%7C1:x")), password(b"x")),
            ("decoded user", "A|1", "A%7C1", Some(basic(b"A|1:x")), password(b"x")),
            ("no padding", "CP1", "CP1", Some(b"Basic Q1AxOng".to_vec()), password(b"x")),
            ("lower-case scheme", "CP1", "CP1", Some(b"basic Q1AxOng=".to_vec()), password(b"x")),
            ("another user", "CP1", "CP1", Some(basic(b"CP2:x")), Credentials::NotOfThisIdentity),
            ("a longer user", "CP1", "CP1", Some(basic(b"CP10:x")), Credentials::NotOfThisIdentity),
            ("another case", "CP1", "CP1", Some(basic(b"cp1:x")), Credentials::NotOfThisIdentity),
            ("no colon", "CP1", "CP1", Some(basic(b"CP1")), Credentials::NotOfThisIdentity),
            ("no base64", "CP1", "CP1", Some(b"Basic ???".to_vec()), Credentials::NotOfThisIdentity),
            ("bearer", "CP1", "CP1", Some(b"Bearer abc".to_vec()), Credentials::Missing),
            ("none", "CP1", "CP1", None, Credentials::Missing),
            ("short", "CP1", "CP1", Some(b"Ba".to_vec()), Credentials::Missing),
        ] {
            assert_eq!(check(station, raw, value.as_deref()), expected, "{name}");
        }
    }

    #[test]
    fn credentials_print_redacted() {
        assert_eq!(format!("{:?}", Credentials::Password(b"secret".to_vec())), "Password(…)");
    }
}
