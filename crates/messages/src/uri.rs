//! What is a URI (RFC 3986, section 3).

use std::net::Ipv6Addr;

/// Whether the text is a URI: with a scheme, and only with characters that a URI may have.
pub(crate) fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let (rest, fragment) = split(rest, '#');
    let (rest, query) = split(rest, '?');
    is_scheme(scheme)
        && is_made_of(fragment, |byte| is_path_character(byte) || matches!(byte, b'/' | b'?'))
        && is_made_of(query, |byte| is_path_character(byte) || matches!(byte, b'/' | b'?'))
        && rest.strip_prefix("//").map_or_else(
            || is_path(rest),
            |rest| {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                is_authority(authority) && is_path(path)
            },
        )
}

fn split(text: &str, mark: char) -> (&str, &str) {
    text.split_once(mark).unwrap_or((text, ""))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

fn is_authority(text: &str) -> bool {
    let (user, host) = text.split_once('@').unwrap_or(("", text));
    let host_is_right = if let Some(literal) = host.strip_prefix('[') {
        literal.split_once(']').is_some_and(|(address, port)| {
            is_address(address) && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        })
    } else {
        let (name, port) = split(host, ':');
        is_port(port) && is_made_of(name, is_plain)
    };
    host_is_right && is_made_of(user, |byte| is_plain(byte) || byte == b':')
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_address(text: &str) -> bool {
    if let Some(future) = text.strip_prefix(['v', 'V']) {
        return future.split_once('.').is_some_and(|(version, address)| {
            !version.is_empty()
                && version.bytes().all(|byte| byte.is_ascii_hexdigit())
                && !address.is_empty()
                && address.bytes().all(|byte| is_plain(byte) || byte == b':')
        });
    }
    text.parse::<Ipv6Addr>().is_ok()
}

fn is_path(text: &str) -> bool {
    is_made_of(text, |byte| is_path_character(byte) || byte == b'/')
}

const fn is_path_character(byte: u8) -> bool {
    is_plain(byte) || matches!(byte, b':' | b'@')
}

/// `unreserved` and `sub-delims`.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}

/// Whether all is allowed characters and percent-encoded bytes.
fn is_made_of(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let right = match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()];
                digits.iter().all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit()))
            }
            byte => allowed(byte),
        };
        if !right {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_uri;

    #[test]
    fn a_uri_has_a_scheme_and_only_allowed_characters() {
        for text in [
            "http://example.com/a?b=c#d",
            "ftp://user:pw@host:21/file",
            "ftp://192.0.2.1//a",
            "mailto:a@b.example",
            "urn:x:y",
            "https://[2001:db8::1]:443/",
            "http://[v1.a:b]/",
            "a:",
            "http://",
            "http://h:/",
            "x:/%41%7e",
            "file:///a/b",
            "a:b:c",
        ] {
            assert!(is_uri(text), "{text}");
        }
        for text in [
            "",
            "/a/b",
            "example.com",
            "1http://a",
            "http//a",
            "http://a b",
            "http://a/<b>",
            "http://a/%4",
            "http://a/%zz",
            "http://[::1",
            "http://[zz]/",
            "http://a:8o/",
            "http://ü.example/",
            "://a",
            "http://a/#b#c",
            "http://a[b]/",
            "a:{b}",
            "http://a/\\b",
        ] {
            assert!(!is_uri(text), "{text}");
        }
    }
}
