//! What two sides agree on, in `Sec-WebSocket-Extensions` (RFC 7692, 7).
//!
//! No header is a reason to refuse a connection: what cannot be read or granted is passed over, and if nothing is left
//! the connection goes without compression.

use std::borrow::Cow;

/// What a client offers. The server need not keep a window, and we keep none.
pub const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The terms of a connection that is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The peer has a window of two to this many bytes for what we send; none: it did not say, so 15.
    window_bits: Option<u8>,
}

impl Agreed {
    /// How far back what we compress may refer: two to this many bytes, 8 to 15.
    #[must_use]
    pub fn window_bits(self) -> u8 {
        self.window_bits.unwrap_or(WINDOW_BITS_MAX)
    }

    /// The server's answer to the offer. Neither side keeps its window from one message to the next.
    #[must_use]
    pub fn answer(self) -> Cow<'static, str> {
        const ANSWER: &str = OFFER;
        match self.window_bits {
            None => Cow::Borrowed(ANSWER),
            Some(bits) => Cow::Owned(format!("{ANSWER}; server_max_window_bits={bits}")),
        }
    }
}

/// The server's choice: the first offer that can be granted. `values` are those of the header, which may come several
/// times and may hold several offers each.
pub fn choose<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<Agreed> {
    values.into_iter().flat_map(|value| split(value, b',')).find_map(|extension| {
        let asked = Parameters::read(extension)?;
        // How large a window the client may use is not limited by us: the state is shared, and lent for a moment.
        Some(Agreed { window_bits: asked.server_max_window_bits })
    })
}

/// What a server made of [`OFFER`]: none if it goes without compression.
///
/// # Errors
/// It answered what was not offered, so that the client must not go on (RFC 7692, 7.1).
pub fn accepted<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Option<Agreed>, NotOffered> {
    let mut extensions = values.into_iter().flat_map(|value| split(value, b','));
    let Some(extension) = extensions.next() else { return Ok(None) };
    let answered = Parameters::read(extension).ok_or(NotOffered)?;
    // A window kept by the server is one that we would have to keep as well; one for us was not offered to be small.
    if !answered.server_no_context_takeover || answered.client_max_window_bits || extensions.next().is_some()
    {
        return Err(NotOffered);
    }
    Ok(Some(Agreed { window_bits: None }))
}

/// A server answered with an extension, or with terms, that the client did not offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's Sec-WebSocket-Extensions is not what was offered")]
pub struct NotOffered;

/// The parameters of one permessage-deflate.
#[derive(Default)]
struct Parameters {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: bool,
}

impl Parameters {
    /// Reads one extension; none if it is another one, or has a parameter that is unknown, comes twice or has a wrong
    /// value (RFC 7692, 7.1: such an offer is declined).
    fn read(extension: &str) -> Option<Self> {
        let mut parts = split(extension, b';');
        if parts.next()? != "permessage-deflate" {
            return None;
        }
        let mut read = Self::default();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => {
                    (name.trim_end_matches(BLANK), Some(unquote(value.trim_start_matches(BLANK))?))
                }
                None => (part, None),
            };
            let is_new = match (name, value) {
                ("server_no_context_takeover", None) => set(&mut read.server_no_context_takeover),
                ("client_no_context_takeover", None) => set(&mut read.client_no_context_takeover),
                ("server_max_window_bits", Some(value)) => {
                    read.server_max_window_bits.replace(bits(&value)?).is_none()
                }
                ("client_max_window_bits", value) => {
                    if let Some(value) = value {
                        bits(&value)?;
                    }
                    set(&mut read.client_max_window_bits)
                }
                _ => return None,
            };
            if !is_new {
                return None;
            }
        }
        Some(read)
    }
}

/// Whether it was not set before.
fn set(flag: &mut bool) -> bool {
    !std::mem::replace(flag, true)
}

/// 8 to 15, in decimal and without leading zeros.
fn bits(value: &str) -> Option<u8> {
    (8..=WINDOW_BITS_MAX).find(|bits| bits.to_string() == value)
}

/// The parts of a header's value, without the blanks around them. Separators in quotes separate nothing.
fn split(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        let end = text.bytes().position(|byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ => return byte == separator && !quoted,
            }
            false
        });
        // A separator is a character of its own, so both are on borders of characters.
        let (part, after) = match end {
            Some(end) => (text.get(..end)?, text.get(end + 1..)),
            None => (text, None),
        };
        rest = after;
        Some(part.trim_matches(BLANK))
    })
    // RFC 9110, 5.6.1: empty elements of a list are borne.
    .filter(|part| !part.is_empty())
}

/// The value of a parameter that may stand in quotes; none if they do not end where it ends.
fn unquote(value: &str) -> Option<Cow<'_, str>> {
    let Some(inner) = value.strip_prefix('"') else { return Some(Cow::Borrowed(value)) };
    let mut text = String::new();
    let mut characters = inner.chars();
    loop {
        match characters.next()? {
            '"' => break,
            '\\' => text.push(characters.next()?),
            other => text.push(other),
        }
    }
    characters.next().is_none().then_some(Cow::Owned(text))
}

const BLANK: [char; 2] = [' ', '\t'];
/// 32 KiB, the largest window of the format.
pub(crate) const WINDOW_BITS_MAX: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(values: &[&str]) -> Option<u8> {
        choose(values.iter().copied()).map(Agreed::window_bits)
    }

    #[test]
    fn h14_the_first_offer_that_can_be_granted_is_chosen() {
        for (name, values, expected) in [
            ("nothing", &[][..], None),
            ("empty", &["", " , ,"], None),
            ("plain", &["permessage-deflate"], Some(15)),
            ("as browsers offer", &["permessage-deflate; client_max_window_bits"], Some(15)),
            ("client's window", &["permessage-deflate; client_max_window_bits=8"], Some(15)),
            ("server's window", &["permessage-deflate; server_max_window_bits=10"], Some(10)),
            ("smallest", &["permessage-deflate; server_max_window_bits=8"], Some(8)),
            ("quoted", &["permessage-deflate; server_max_window_bits=\"12\""], Some(12)),
            ("quoted and escaped", &["permessage-deflate; server_max_window_bits=\"1\\2\""], Some(12)),
            (
                "everything",
                &[
                    "permessage-deflate;server_no_context_takeover ; client_no_context_takeover;server_max_window_bits = 9;client_max_window_bits",
                ],
                Some(9),
            ),
            (
                "another one before",
                &["x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=11"],
                Some(11),
            ),
            ("in order", &["permessage-deflate; server_max_window_bits=10, permessage-deflate"], Some(10)),
            (
                "the first cannot be granted",
                &[
                    "permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=9",
                ],
                Some(9),
            ),
            ("repeated header", &["foo", "permessage-deflate; nonsense", "permessage-deflate"], Some(15)),
            ("separators in quotes", &["foo; a=\"x, permessage-deflate; b\", permessage-deflate"], Some(15)),
            ("quotes that do not end", &["foo; a=\"x, permessage-deflate"], None),
            ("after quotes that do not end", &["foo; a=\"x", "permessage-deflate"], Some(15)),
            ("unknown parameter", &["permessage-deflate; fast"], None),
            ("parameter of another", &["permessage-deflate; mux=1"], None),
            ("twice", &["permessage-deflate; server_max_window_bits=9; server_max_window_bits=9"], None),
            (
                "twice without value",
                &["permessage-deflate; client_max_window_bits; client_max_window_bits=9"],
                None,
            ),
            (
                "flag twice",
                &["permessage-deflate; client_no_context_takeover; client_no_context_takeover"],
                None,
            ),
            ("flag with a value", &["permessage-deflate; server_no_context_takeover=true"], None),
            ("window without a value", &["permessage-deflate; server_max_window_bits"], None),
            ("empty value", &["permessage-deflate; server_max_window_bits="], None),
            ("too small", &["permessage-deflate; server_max_window_bits=7"], None),
            ("too large", &["permessage-deflate; client_max_window_bits=16"], None),
            ("leading zero", &["permessage-deflate; server_max_window_bits=08"], None),
            ("no number", &["permessage-deflate; server_max_window_bits=ten"], None),
            ("text behind quotes", &["permessage-deflate; server_max_window_bits=\"9\"9"], None),
            ("another name", &["permessage-deflate-x"], None),
            ("not in characters of a byte", &["permessage-deflate; é=\"ü\", permessage-deflate"], Some(15)),
        ] {
            assert_eq!(chosen(values), expected, "{name}");
        }
    }

    #[test]
    fn h14_the_answer_says_that_no_window_is_kept_and_how_large_ours_is_only_if_asked() {
        let answer = |value| choose([value]).map(|agreed| agreed.answer().into_owned());
        let always = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert_eq!(answer("permessage-deflate; client_max_window_bits=10").as_deref(), Some(always));
        assert_eq!(
            answer("permessage-deflate; server_max_window_bits=10"),
            Some(format!("{always}; server_max_window_bits=10"))
        );
    }

    #[test]
    fn a_client_takes_what_it_offered_and_nothing_else() {
        let agreed = Ok(Some(Agreed { window_bits: None }));
        for (values, expected) in [
            (&[][..], Ok(None)),
            (&[OFFER], agreed),
            (&["permessage-deflate; server_no_context_takeover"], agreed),
            (&["permessage-deflate; server_no_context_takeover; server_max_window_bits=10"], agreed),
            (&["permessage-deflate"], Err(NotOffered)),
            (&["permessage-deflate; server_no_context_takeover; client_max_window_bits=10"], Err(NotOffered)),
            (&["permessage-deflate; server_no_context_takeover, foo"], Err(NotOffered)),
            (&["foo"], Err(NotOffered)),
        ] {
            assert_eq!(accepted(values.iter().copied()), expected, "{values:?}");
        }
        assert_eq!(choose([OFFER]).unwrap().answer(), OFFER);
    }
}
