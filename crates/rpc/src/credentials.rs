//! HTTP Basic credentials of stations: what belongs to the identity and what to the password.

/// Why credentials do not belong to the identity of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the user of the credentials is not the identity of the URL")]
pub struct OtherUser;

/// The password in decoded Basic credentials, `identity:password` (H08, H09).
///
/// The known identity is taken off the front instead of looking for a colon: identities of 1.6 may hold colons, and a
/// password is any bytes.
///
/// # Errors
/// When the credentials do not begin with the identity and a colon.
pub fn password<'credentials>(
    credentials: &'credentials [u8],
    identity: &str,
) -> Result<&'credentials [u8], OtherUser> {
    credentials.strip_prefix(identity.as_bytes()).and_then(|rest| rest.strip_prefix(b":")).ok_or(OtherUser)
}

/// How many bytes a key of 1.6 has (security white paper for 1.6-J, A00.FR.205): 16 to 20, twice as many hex digits.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=20;

/// The byte strings that a 1.6 password may mean, the one that came first (H09).
///
/// The key of 1.6 is configured as hex digits. Some stations send the bytes that these mean, others the digits. What
/// was stored may be either, so each of these is compared with it: what came, the bytes that it spells if it is hex,
/// and the hex that spells it, in both cases of letters. Passwords of 2.x mean themselves only.
pub fn readings(password: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let bytes = from_hex(password).filter(|bytes| KEY_BYTES.contains(&bytes.len()));
    // Digits have a length of their own, so that one of the two is always absent.
    let is_key = KEY_BYTES.contains(&password.len());
    let lower = is_key.then(|| to_hex(password, b"0123456789abcdef"));
    let upper =
        is_key.then(|| to_hex(password, b"0123456789ABCDEF")).filter(|upper| Some(upper) != lower.as_ref());
    [Some(password.to_vec()), bytes, upper, lower].into_iter().flatten()
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

fn to_hex(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let digit = |value: u8| digits.get(usize::from(value)).copied().unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H08
    #[test]
    fn the_user_must_be_the_identity_of_the_url() {
        assert_eq!(password(b"CP001:secret", "CP001"), Ok(&b"secret"[..]));
        for credentials in
            [&b"CP002:secret"[..], b"cp001:secret", b"CP001", b"CP0011:secret", b":secret", b""]
        {
            assert_eq!(password(credentials, "CP001"), Err(OtherUser), "{credentials:?}");
        }
    }

    /// H09
    #[test]
    fn identities_and_passwords_may_hold_colons_and_passwords_any_bytes() {
        assert_eq!(password(b"a:b:c:d", "a:b"), Ok(&b"c:d"[..]));
        assert_eq!(password(b"CP001:\0\xff:\n", "CP001"), Ok(&b"\0\xff:\n"[..]));
        assert_eq!(password(b"CP001:", "CP001"), Ok(&b""[..]));
    }

    /// H09
    #[test]
    fn a_hex_key_is_read_as_bytes_and_as_text() {
        let key: Vec<u8> = (0..20).map(|byte| byte * 13).collect();
        let text = b"000D1A2734414E5B6875828F9CA9B6C3D0DDEAF7".to_vec();
        let lower = text.to_ascii_lowercase();
        assert_eq!(readings(&key).collect::<Vec<_>>(), [key.clone(), text.clone(), lower.clone()]);
        assert_eq!(readings(&text).collect::<Vec<_>>(), [text, key.clone()]);
        assert_eq!(readings(&lower).collect::<Vec<_>>(), [lower, key]);
    }

    #[test]
    fn other_passwords_mean_themselves_only() {
        for password in [&b""[..], b"secret", b"00ff", &[b'0'; 39], &[b'0'; 42], &[b'g'; 40]] {
            assert_eq!(readings(password).collect::<Vec<_>>(), [password.to_vec()], "{password:?}");
        }
        let digits_only = [0x11; 16];
        assert_eq!(readings(&digits_only).count(), 2);
    }
}
