//! The protocol as texts: what a server says, taken apart, and what we say to it. No I/O and no clock.
//!
//! A message is copied once, headers and payload each into a buffer of its own: what is kept of one must not keep the
//! others alive that came in the same read.

use bytes::{Buf as _, Bytes, BytesMut};
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// About itself, at the beginning and when that changes.
    Info(Box<Info>),
    /// It wants to hear from us.
    Ping,
    /// It has done all that we said before our ping.
    Pong,
    /// It did what we said.
    Ok,
    /// It did not, and mostly hangs up.
    Error(String),
    /// Something for a subscription.
    Message(Message),
    /// Something for a subscription that somebody has published and nobody can read: its subject or its headers are no
    /// text. Servers pass such things on unseen, so that it is not the server's fault, nor a reason to leave it.
    Unreadable,
}

/// What a server says about itself, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Info {
    /// Its version, such as `2.9.10`.
    pub version: String,
    /// The largest message that it takes, headers included.
    pub max_payload: usize,
    /// Whether messages may have headers.
    pub headers: bool,
    /// Whether it wants TLS.
    pub tls_required: bool,
    /// Whether it keeps streams.
    pub jetstream: bool,
    /// Whether it is about to go, so that its clients should look for another.
    #[serde(rename = "ldm")]
    pub lame_duck: bool,
}

impl Info {
    /// The version as numbers, as far as it can be read.
    #[must_use]
    pub fn version_numbers(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.split(['.', '-', '+']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

/// A message for one of our subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Which subscription.
    pub sid: u64,
    /// Where it was sent to.
    pub subject: ByteString,
    /// Where an answer is to be sent to.
    pub reply: Option<ByteString>,
    /// What the server itself has to say by it, such as [`NOBODY_LISTENS`].
    pub status: Option<u16>,
    /// The lines of its headers.
    pub headers: ByteString,
    /// Its body.
    pub payload: Bytes,
}

/// The status of what comes back when nobody listens at a subject.
pub const NOBODY_LISTENS: u16 = 503;

impl Message {
    /// The names and values of its headers; the values as slices of [`headers`](Self::headers).
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.split("\r\n").filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name, value.trim_ascii()))
        })
    }

    /// The value of the first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// Something that no server says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server says something that is not of the protocol: {0}")]
pub struct Nonsense(pub &'static str);

/// Takes the next thing that the server said out of `buffer`; none if it is not all there yet.
///
/// # Errors
/// When it is not of the protocol; the connection is then of no use any more.
pub fn next(buffer: &mut BytesMut) -> Result<Option<Op>, Nonsense> {
    let Some(end) = memchr::memchr(b'\n', buffer) else {
        return if buffer.len() > LINE_BYTES_MAX { Err(Nonsense("a line without an end")) } else { Ok(None) };
    };
    let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
    let (word, rest) = match memchr::memchr2(b' ', b'\t', line) {
        Some(place) => (&line[..place], &line[place + 1..]),
        None => (line, &line[line.len()..]),
    };
    let op = match word.len() {
        3 if word.eq_ignore_ascii_case(b"MSG") => return message(buffer, end, false),
        4 if word.eq_ignore_ascii_case(b"HMSG") => return message(buffer, end, true),
        4 if word.eq_ignore_ascii_case(b"PING") => Op::Ping,
        4 if word.eq_ignore_ascii_case(b"PONG") => Op::Pong,
        3 if word.eq_ignore_ascii_case(b"+OK") => Op::Ok,
        4 if word.eq_ignore_ascii_case(b"-ERR") => {
            let text = String::from_utf8_lossy(rest);
            Op::Error(text.trim().trim_matches('\'').to_owned())
        }
        4 if word.eq_ignore_ascii_case(b"INFO") => {
            let info = serde_json::from_slice(rest).map_err(|_| Nonsense("an INFO that is no JSON"))?;
            Op::Info(Box::new(info))
        }
        _ => return Err(Nonsense("an unknown word")),
    };
    buffer.advance(end + 1);
    Ok(Some(op))
}

/// `MSG subject sid [reply] bytes` or `HMSG subject sid [reply] header-bytes all-bytes`, and that many bytes.
fn message(buffer: &mut BytesMut, end: usize, has_headers: bool) -> Result<Option<Op>, Nonsense> {
    let line = String::from_utf8_lossy(&buffer[..end]);
    let mut words = line.split_ascii_whitespace().skip(1);
    let (Some(subject), Some(sid)) = (words.next(), words.next()) else { return Err(A_MESSAGE) };
    let mut rest = [""; 3];
    let mut count = 0;
    for word in words {
        *rest.get_mut(count).ok_or(A_MESSAGE)? = word;
        count += 1;
    }
    let (reply, header_bytes, all_bytes) = match (has_headers, count) {
        (false, 1) => (None, 0, size(rest[0])?),
        (false, 2) => (Some(rest[0]), 0, size(rest[1])?),
        (true, 2) => (None, size(rest[0])?, size(rest[1])?),
        (true, 3) => (Some(rest[0]), size(rest[1])?, size(rest[2])?),
        _ => return Err(A_MESSAGE),
    };
    if header_bytes > all_bytes {
        return Err(A_MESSAGE);
    }
    let begin = end + 1;
    if buffer.len() < begin + all_bytes + 2 {
        // What is missing is read into what is there, however large it is.
        let missing = begin + all_bytes + 2 - buffer.len();
        buffer.reserve(missing);
        return Ok(None);
    }
    let mut message = Message {
        sid: sid.parse().map_err(|_| A_MESSAGE)?,
        subject: subject.into(),
        reply: reply.map(ByteString::from),
        ..Message::default()
    };
    let (headers, rest) = buffer[begin..].split_at(header_bytes);
    let (payload, rest) = rest.split_at(all_bytes - header_bytes);
    if !rest.starts_with(b"\r\n") {
        return Err(Nonsense("a message that does not end where it should"));
    }
    let mut is_readable = matches!(line, Cow::Borrowed(_));
    if has_headers {
        match status_and_lines(headers) {
            Some((status, lines)) => (message.status, message.headers) = (status, lines.into()),
            None => is_readable = false,
        }
    }
    message.payload = Bytes::copy_from_slice(payload);
    buffer.advance(begin + all_bytes + 2);
    Ok(Some(if is_readable { Op::Message(message) } else { Op::Unreadable }))
}

/// What the server says by a message, and the lines of its headers.
fn status_and_lines(headers: &[u8]) -> Option<(Option<u16>, &str)> {
    let text = std::str::from_utf8(headers).ok()?;
    let (first, lines) = text.split_once("\r\n").unwrap_or((text, ""));
    let status = first.strip_prefix("NATS/1.0")?;
    Some((status.split_ascii_whitespace().next().and_then(|status| status.parse().ok()), lines))
}

fn size(word: &str) -> Result<usize, Nonsense> {
    word.parse().ok().filter(|size| *size <= MESSAGE_BYTES_MAX).ok_or(A_MESSAGE)
}

const A_MESSAGE: Nonsense = Nonsense("a message that cannot be read");
/// No line of a server is longer: an INFO of a large cluster is a few KiB.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Servers allow 64 MiB at most.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Who we are and what we can, as it is said in `CONNECT`. Not to be printed: it holds the credentials.
#[derive(Serialize)]
pub(crate) struct Hello<'a> {
    pub(crate) verbose: bool,
    pub(crate) pedantic: bool,
    pub(crate) headers: bool,
    pub(crate) no_responders: bool,
    pub(crate) echo: bool,
    pub(crate) lang: &'static str,
    pub(crate) version: &'static str,
    pub(crate) protocol: u8,
    pub(crate) name: &'a str,
    pub(crate) tls_required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth_token: Option<&'a str>,
}

/// Writes a message: first [`headers`](Self::header), then [`finish`](Self::finish).
#[derive(Debug, Default)]
pub struct Writer {
    headers: Vec<u8>,
}

impl Writer {
    /// One that has no headers yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { headers: Vec::new() }
    }

    /// Adds a header. Neither text may hold a line break.
    pub fn header(&mut self, name: &str, value: &str) {
        if self.headers.is_empty() {
            self.headers.extend_from_slice(HEADERS_BEGIN);
        }
        self.headers.extend_from_slice(name.as_bytes());
        self.headers.extend_from_slice(b": ");
        self.headers.extend_from_slice(value.as_bytes());
        self.headers.extend_from_slice(b"\r\n");
    }

    /// How much of a message the headers will be.
    #[must_use]
    pub fn header_bytes(&self) -> usize {
        if self.headers.is_empty() { 0 } else { self.headers.len() + 2 }
    }

    /// Writes the message to `out`, and has no headers afterwards. Subjects hold no white space.
    pub fn finish(&mut self, subject: &str, reply: Option<&str>, payload: &[u8], out: &mut BytesMut) {
        let header_bytes = self.header_bytes();
        out.reserve(subject.len() + reply.map_or(0, str::len) + header_bytes + payload.len() + 48);
        out.extend_from_slice(if header_bytes > 0 { b"HPUB " } else { b"PUB " });
        out.extend_from_slice(subject.as_bytes());
        out.extend_from_slice(b" ");
        if let Some(reply) = reply {
            out.extend_from_slice(reply.as_bytes());
            out.extend_from_slice(b" ");
        }
        let mut digits = itoa::Buffer::new();
        if header_bytes > 0 {
            out.extend_from_slice(digits.format(header_bytes).as_bytes());
            out.extend_from_slice(b" ");
        }
        out.extend_from_slice(digits.format(header_bytes + payload.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
        if header_bytes > 0 {
            out.extend_from_slice(&self.headers);
            out.extend_from_slice(b"\r\n");
            self.headers.clear();
        }
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }
}

const HEADERS_BEGIN: &[u8] = b"NATS/1.0\r\n";

/// Asks for what is sent to `subject`; of a group each message goes to one only.
pub(crate) fn subscribe(subject: &str, group: Option<&str>, sid: u64, out: &mut BytesMut) {
    let group = group.map_or_else(String::new, |group| format!("{group} "));
    out.extend_from_slice(format!("SUB {subject} {group}{sid}\r\n").as_bytes());
}

/// Ends a subscription.
pub(crate) fn unsubscribe(sid: u64, out: &mut BytesMut) {
    out.extend_from_slice(format!("UNSUB {sid}\r\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &[u8]) -> Result<Vec<Op>, Nonsense> {
        let mut buffer = BytesMut::from(text);
        let mut ops = Vec::new();
        while let Some(op) = next(&mut buffer)? {
            ops.push(op);
        }
        Ok(ops)
    }

    #[test]
    fn what_a_server_says_is_taken_apart() {
        let text = b"INFO {\"version\":\"2.9.10\",\"max_payload\":1048576,\"headers\":true,\"nonce\":\"x\"}\r\nPING\r\npong\r\n\
            +OK\r\n-ERR 'Authorization Violation'\r\nMSG a.b 7 3\r\nabc\r\nMSG a.b 7 reply 0\r\n\r\n";
        let ops = all(text).unwrap();
        let Op::Info(info) = &ops[0] else { panic!("{ops:?}") };
        assert_eq!((info.version_numbers(), info.max_payload, info.headers), (Some((2, 9)), 1 << 20, true));
        assert_eq!(ops[1..4], [Op::Ping, Op::Pong, Op::Ok]);
        assert_eq!(ops[4], Op::Error("Authorization Violation".to_owned()));
        let message = Message { sid: 7, subject: "a.b".into(), ..Message::default() };
        assert_eq!(ops[5], Op::Message(Message { payload: "abc".into(), ..message.clone() }));
        assert_eq!(ops[6], Op::Message(Message { reply: Some("reply".into()), ..message }));
    }

    #[test]
    fn headers_and_the_servers_own_word_are_read() {
        let nobody = all(b"HMSG r 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n").unwrap();
        let [Op::Message(message)] = nobody.as_slice() else { panic!("{nobody:?}") };
        assert_eq!((message.status, message.payload.len()), (Some(NOBODY_LISTENS), 0));
        let text = b"HMSG s 1 r 28 31\r\nNATS/1.0\r\nA: b c \r\nD:e:f\r\n\r\nxyz\r\n";
        let ops = all(text).unwrap();
        let [Op::Message(message)] = ops.as_slice() else { panic!("{ops:?}") };
        assert_eq!(message.headers().collect::<Vec<_>>(), [("A", "b c"), ("D", "e:f")]);
        assert_eq!((message.header("a"), message.header("x")), (Some("b c"), None));
        assert_eq!((message.status, &*message.payload), (None, b"xyz".as_slice()));
    }

    #[test]
    fn what_no_server_says_is_an_error() {
        for text in [
            b"HELLO\r\n".as_slice(),
            b"INFO {\r\n",
            b"MSG a 1\r\n",
            b"MSG a x 1\r\nA\r\n",
            b"MSG a 1 r s 1\r\n",
            b"MSG a 1 99999999999999\r\n",
            b"MSG a 1 1\r\nAB\r\n",
            b"HMSG a 1 5 1\r\nA\r\n",
            b"MSG \xff 1\r\n",
            &[b'x'; LINE_BYTES_MAX + 1],
        ] {
            assert!(all(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
    }

    /// Whoever may publish could else part everybody who listens from the server.
    #[test]
    fn what_a_stranger_published_and_nobody_can_read_is_passed_over() {
        for text in [
            b"MSG \xff 1 1\r\nA\r\nPING\r\n".as_slice(),
            b"MSG a 1 \xff 1\r\nA\r\nPING\r\n",
            b"HMSG a 1 4 5\r\nHTTPA\r\nPING\r\n",
            b"HMSG a 1 13 13\r\nNATS/1.0\r\nA:\xff\r\nPING\r\n",
        ] {
            assert_eq!(all(text).unwrap(), [Op::Unreadable, Op::Ping], "{}", String::from_utf8_lossy(text));
        }
    }

    proptest! {
        /// In whatever pieces it arrives, what is written is what is read.
        #[test]
        fn what_is_written_is_read(
            headers in prop::collection::vec(("[a-z-]{1,9}", "[!-~]{0,30}"), 0..4),
            payload in prop::collection::vec(any::<u8>(), 0..300),
            reply in prop::option::of("[a-z.]{1,20}"),
            piece in 1..40_usize,
        ) {
            let mut writer = Writer::new();
            for (name, value) in &headers {
                writer.header(name, value);
            }
            let mut out = BytesMut::new();
            writer.finish("some.subject", reply.as_deref(), &payload, &mut out);
            // A server puts the number of the subscription behind the subject.
            let text = out.to_vec();
            let (line, rest) = text.split_at(text.iter().position(|byte| *byte == b'\n').unwrap());
            let line = String::from_utf8(line.to_vec()).unwrap();
            let line = line.replace("PUB some.subject ", "MSG some.subject 9 ");
            let said = [line.as_bytes(), rest].concat();
            let mut buffer = BytesMut::new();
            let mut got = Vec::new();
            for piece in said.chunks(piece) {
                buffer.extend_from_slice(piece);
                while let Some(op) = next(&mut buffer).unwrap() {
                    got.push(op);
                }
            }
            prop_assert!(buffer.is_empty());
            let [Op::Message(message)] = got.as_slice() else { panic!("{got:?}") };
            prop_assert_eq!(message.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>(), headers);
            prop_assert_eq!((message.sid, message.reply.as_deref()), (9, reply.as_deref()));
            prop_assert_eq!(&message.payload, &payload);
        }

        /// However it is cut, also within a line, a number or a character.
        #[test]
        fn what_comes_in_pieces_is_what_comes_at_once(
            texts in prop::collection::vec(
                "MSG [a-zé.]{1,8} [0-9]{1,3} ([a-z]{1,5} )?[0-9]\r\n[ -~]{0,11}\r\n|PING\r\n|\\+OK\r\n|-ERR '[a-z ]{0,9}'\r\n|[ -~]{0,4}\r\n",
                1..5,
            ),
            cuts in prop::collection::vec(1..9_usize, 1..80),
        ) {
            let text = texts.concat().into_bytes();
            let ops = |pieces: Vec<&[u8]>| {
                let (mut buffer, mut ops) = (BytesMut::new(), Vec::new());
                for piece in pieces {
                    buffer.extend_from_slice(piece);
                    loop {
                        match next(&mut buffer) {
                            Ok(Some(op)) => ops.push(op),
                            Ok(None) => break,
                            Err(nonsense) => return (ops, Some(nonsense)),
                        }
                    }
                }
                (ops, None)
            };
            let (mut pieces, mut rest) = (Vec::new(), &text[..]);
            for cut in cuts {
                let piece;
                (piece, rest) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
            }
            pieces.push(rest);
            prop_assert_eq!(ops(pieces), ops(vec![&text]));
        }

        #[test]
        fn whatever_comes_it_does_not_panic(text in prop::collection::vec(any::<u8>(), 0..200), word in "(MSG|HMSG|INFO|-ERR|PING) [ -~]{0,30}\r\n[ -~]{0,20}\r\n") {
            drop(all(&text));
            drop(all(word.as_bytes()));
        }
    }
}
