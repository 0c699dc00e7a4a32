//! One WebSocket as the driver sees it: messages in, texts out, small buffers.
//!
//! The frames are tungstenite's. What is ours is how it gets its bytes: a single task polls the socket, so that one waker
//! is enough and there is no need for the proxies that a stream for several tasks has; and buffers that a large message
//! has swollen are given back when nothing is under way.

use bytes::Bytes;
use bytestring::ByteString;
use std::{
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll, Waker},
};
use switchboard_rpc::close;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::{
    Error, Message, WebSocket,
    error::ProtocolError,
    protocol::{
        CloseFrame, Role, WebSocketConfig,
        frame::{
            Frame, Utf8Bytes,
            coding::{CloseCode, Data, OpCode},
        },
    },
};

/// A WebSocket, the server's side.
pub(crate) struct Socket<S> {
    web: WebSocket<Bridge<S>>,
    config: WebSocketConfig,
    /// A large message came or went, so that buffers may be larger than they need to be.
    swollen: bool,
    unflushed: bool,
}

/// What came from a socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A text message.
    Text(ByteString),
    /// A binary message.
    Binary(Bytes),
    /// A ping, which is answered by itself.
    Ping,
    /// A pong.
    Pong,
    /// The station closed.
    Closed {
        /// Its close code, if it sent one.
        code: Option<u16>,
    },
    /// The station broke the WebSocket protocol or a limit: close with this code.
    Broken {
        /// The close code.
        code: u16,
        /// The reason to be sent.
        reason: &'static str,
    },
    /// The network went.
    Lost,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// A socket whose upgrade is complete. `early`: what came behind the request before the 101 was sent.
    pub(crate) fn new(stream: S, early: &[u8], message_bytes_max: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        let mut bridge = Bridge { inner: None, waker: Waker::noop().clone() };
        let mut boundary = Boundary::default();
        boundary.feed(early);
        bridge.inner = Some(Inner { stream, boundary });
        let web = if early.is_empty() {
            WebSocket::from_raw_socket(bridge, Role::Server, Some(config))
        } else {
            WebSocket::from_partially_read(bridge, early.to_vec(), Role::Server, Some(config))
        };
        Self { web, config, swollen: early.len() > READ_BUFFER, unflushed: false }
    }

    /// The next message.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        self.web.get_mut().wake(context);
        Poll::Ready(match self.web.read() {
            Ok(Message::Text(text)) => {
                self.swollen |= text.len() > READ_BUFFER;
                // It was found to be UTF-8 a moment ago; looking again is cheap beside an `unsafe`.
                ByteString::try_from(Bytes::from(text)).map_or(NOT_UTF8, Input::Text)
            }
            Ok(Message::Binary(bytes)) => {
                self.swollen |= bytes.len() > READ_BUFFER;
                Input::Binary(bytes)
            }
            Ok(Message::Ping(_) | Message::Frame(_)) => {
                // The codec has its pong ready. Unless it is flushed, a station that pings and never reads fills our
                // memory, for nobody notices that it does not read.
                self.unflushed = true;
                Input::Ping
            }
            Ok(Message::Pong(_)) => Input::Pong,
            Ok(Message::Close(frame)) => Input::Closed { code: frame.map(|frame| frame.code.into()) },
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => broken(&error),
        })
    }

    /// Takes a text to be sent with the next flush, or before if much waits.
    pub(crate) fn write(&mut self, text: ByteString) -> Result<(), Lost> {
        self.swollen |= text.len() > WRITE_BUFFER;
        let frame = Frame::message(text.into_bytes(), OpCode::Data(Data::Text), true);
        self.send(Message::Frame(frame))
    }

    /// Takes a ping to be sent with the next flush.
    pub(crate) fn ping(&mut self) -> Result<(), Lost> {
        self.send(Message::Ping(Bytes::new()))
    }

    /// Whether something waits to be flushed.
    pub(crate) const fn is_unflushed(&self) -> bool {
        self.unflushed
    }

    /// Sends what waits. Pending: the station does not read, or not so fast.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        self.web.get_mut().wake(context);
        match self.web.flush() {
            Ok(()) | Err(Error::ConnectionClosed) => {
                self.unflushed = false;
                Poll::Ready(Ok(()))
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(_) => Poll::Ready(Err(Lost)),
        }
    }

    /// Begins to close. `broken`: the station's bytes make no sense any more, so that its side of the close is not
    /// waited for in frames.
    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from(reason) };
        // What cannot be sent now is flushed below, or never.
        if self.web.close(Some(frame)).is_err() {
            self.unflushed = true;
        }
    }

    /// Waits until the station has closed its side, throwing away what it still sends.
    pub(crate) fn poll_closed(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            self.web.get_mut().wake(context);
            match self.web.read() {
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Ends our side and throws away raw bytes until the station ends its side too. Closing with unread bytes would
    /// reset the connection, and the station would never see our close frame.
    pub(crate) fn poll_drained(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(inner) = &mut self.web.get_mut().inner else { return Poll::Ready(()) };
        if let Poll::Ready(Err(_)) = Pin::new(&mut inner.stream).poll_shutdown(context) {
            return Poll::Ready(());
        }
        let mut waste = [0; 512];
        for _ in 0..64 {
            let mut buffer = ReadBuf::new(&mut waste);
            match Pin::new(&mut inner.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        // Others want their turn too.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Gives back buffers that are larger than they need to be, if nothing is under way. To be called before waiting.
    pub(crate) fn slim(&mut self) {
        if !self.swollen || self.unflushed {
            return;
        }
        let bridge = self.web.get_mut();
        if !bridge.inner.as_ref().is_some_and(|inner| inner.boundary.is_between_messages()) {
            return;
        }
        // Reading has just said that there is no whole frame, and by our count there is no part of one either; writing
        // has flushed everything. So a new codec on the same stream goes on where the old one was.
        let bridge = Bridge { inner: bridge.inner.take(), waker: bridge.waker.clone() };
        self.web = WebSocket::from_raw_socket(bridge, Role::Server, Some(self.config));
        self.swollen = false;
    }

    fn send(&mut self, message: Message) -> Result<(), Lost> {
        self.unflushed = true;
        match self.web.write(message) {
            Ok(()) => Ok(()),
            // The message was taken; the next flush goes on.
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(Lost),
        }
    }
}

/// The network went, or the WebSocket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

fn broken(error: &Error) -> Input {
    match error {
        Error::Capacity(_) => Input::Broken { code: close::TOO_BIG, reason: "message too big" },
        Error::Utf8(_) => NOT_UTF8,
        // F17: some stations compress without having been asked to.
        Error::Protocol(ProtocolError::NonZeroReservedBits) => Input::Broken {
            code: close::PROTOCOL_ERROR,
            reason: "reserved bits are set, as if frames were compressed, which was not negotiated",
        },
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | Error::Io(_)
        | Error::ConnectionClosed
        | Error::AlreadyClosed => Input::Lost,
        Error::Protocol(ProtocolError::UnmaskedFrameFromClient) => {
            Input::Broken { code: close::PROTOCOL_ERROR, reason: "a frame is not masked" }
        }
        _ => Input::Broken { code: close::PROTOCOL_ERROR, reason: "not a valid WebSocket frame" },
    }
}

const NOT_UTF8: Input = Input::Broken { code: close::NOT_UTF8, reason: "text is not UTF-8" };
/// Most messages fit; larger ones take a buffer of their own size for as long as they take.
const READ_BUFFER: usize = 1024;
/// Messages that are sent in one go are written together up to this size.
const WRITE_BUFFER: usize = 4096;

/// Lets a synchronous codec read and write an asynchronous stream: not ready is `WouldBlock`.
struct Bridge<S> {
    /// Absent only while it moves to another codec.
    inner: Option<Inner<S>>,
    waker: Waker,
}

struct Inner<S> {
    stream: S,
    boundary: Boundary,
}

impl<S> Bridge<S> {
    fn wake(&mut self, context: &Context<'_>) {
        self.waker.clone_from(context.waker());
    }
}

impl<S: AsyncRead + Unpin> Read for Bridge<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let inner = self.inner.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let mut context = Context::from_waker(&self.waker);
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut inner.stream).poll_read(&mut context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                inner.boundary.feed(buffer.filled());
                Ok(buffer.filled().len())
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Bridge<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let inner = self.inner.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let mut context = Context::from_waker(&self.waker);
        match Pin::new(&mut inner.stream).poll_write(&mut context, bytes) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let inner = self.inner.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let mut context = Context::from_waker(&self.waker);
        match Pin::new(&mut inner.stream).poll_flush(&mut context) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Follows the heads of the frames that go by, to know when the stream stands between two messages.
#[derive(Debug, Default)]
struct Boundary {
    /// The part of a head that has come: at most the first two bytes and a length of eight.
    head: [u8; 10],
    head_len: u8,
    /// Bytes to be passed over: the mask and the payload.
    pass: u64,
    /// A message has begun whose last frame has not come.
    fragmented: bool,
}

impl Boundary {
    fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.pass > 0 {
                let passed = usize::try_from(self.pass).unwrap_or(usize::MAX).min(bytes.len());
                self.pass -= passed as u64;
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.head.get_mut(usize::from(self.head_len)) {
                *place = *first;
                self.head_len += 1;
            }
            bytes = rest;
            let [kind, length, ..] = self.head;
            let length_bytes = match length & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            if usize::from(self.head_len) < 2 + length_bytes || self.head_len < 2 {
                continue;
            }
            let payload = match length & 0x7f {
                short @ ..126 => u64::from(short),
                _ => self
                    .head
                    .iter()
                    .skip(2)
                    .take(length_bytes)
                    .fold(0, |length, byte| length << 8 | u64::from(*byte)),
            };
            let mask = if length & 0x80 == 0 { 0 } else { 4 };
            self.pass = payload.saturating_add(mask);
            self.head_len = 0;
            // Control frames, whose opcodes begin at 8, may come between the frames of a message.
            if kind & 0x0f < 8 {
                self.fragmented = kind & 0x80 == 0;
            }
        }
    }

    const fn is_between_messages(&self) -> bool {
        self.head_len == 0 && self.pass == 0 && !self.fragmented
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    /// A masked frame of a client.
    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
            length @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn pair(early: &[u8]) -> (Socket<DuplexStream>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(4 * 1024 * 1024);
        (Socket::new(ours, early, 1024 * 1024), theirs)
    }

    async fn read(socket: &mut Socket<DuplexStream>) -> Input {
        poll_fn(|context| socket.poll_read(context)).await
    }

    #[tokio::test]
    async fn f11_fragments_and_control_frames_between_them_are_put_together() {
        let (mut socket, mut client) = pair(&frame(0x01, b"[2,\"1\","));
        client.write_all(&frame(0x89, b"ping")).await.unwrap();
        client.write_all(&frame(0x00, b"\"Heart")).await.unwrap();
        client.write_all(&frame(0x8a, b"")).await.unwrap();
        client.write_all(&frame(0x80, b"beat\",{}]")).await.unwrap();
        assert_eq!(read(&mut socket).await, Input::Ping);
        assert_eq!(read(&mut socket).await, Input::Pong);
        assert_eq!(read(&mut socket).await, Input::Text("[2,\"1\",\"Heartbeat\",{}]".into()));
    }

    #[tokio::test]
    async fn f10_f17_what_breaks_the_protocol_says_how_to_close() {
        let big = {
            let mut head = vec![0x81, 0xff];
            head.extend((2_u64 << 20).to_be_bytes());
            head.extend([1, 2, 3, 4]);
            head
        };
        let half = vec![b' '; 700 * 1024];
        let fragments = [frame(0x01, &half), frame(0x80, &half)].concat();
        for (name, bytes, expected) in [
            ("not UTF-8", frame(0x81, b"\xff"), 1007),
            ("UTF-8 cut", frame(0x81, b"\xc3"), 1007),
            ("too big", big, 1009),
            ("too big in fragments", fragments, 1009),
            ("compressed", frame(0xc1, b"x"), 1002),
            ("unmasked", vec![0x81, 0x01, b'x'], 1002),
            ("unknown opcode", frame(0x83, b"x"), 1002),
            ("stray continuation", frame(0x80, b"x"), 1002),
        ] {
            let (mut socket, mut client) = pair(&[]);
            client.write_all(&bytes).await.unwrap();
            match read(&mut socket).await {
                Input::Broken { code, reason } => {
                    assert_eq!(code, expected, "{name}");
                    assert!(reason.len() <= 123, "{name}");
                    if name == "compressed" {
                        assert!(reason.contains("compress"), "{reason}");
                    }
                }
                other => panic!("{name}: {other:?}"),
            }
            // A close frame still goes out.
            socket.close(expected, "reason");
            let mut head = [0; 4];
            client.read_exact(&mut head).await.unwrap();
            assert_eq!(head[0], 0x88, "{name}");
            assert_eq!(u16::from_be_bytes([head[2], head[3]]), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn buffers_swollen_by_a_large_message_are_given_back() {
        let (mut socket, mut client) = pair(&[]);
        let large = "x".repeat(500_000);
        client.write_all(&frame(0x81, large.as_bytes())).await.unwrap();
        assert_eq!(read(&mut socket).await, Input::Text(large.into()));
        client.write_all(&frame(0x81, b"half")[..5]).await.unwrap();
        assert!(futures_util::poll!(Box::pin(poll_fn(|context| socket.poll_read(context)))).is_pending());
        socket.slim();
        assert!(socket.swollen, "part of a message is there");
        client.write_all(&frame(0x81, b"half")[5..]).await.unwrap();
        assert_eq!(read(&mut socket).await, Input::Text("half".into()));
        assert!(futures_util::poll!(Box::pin(poll_fn(|context| socket.poll_read(context)))).is_pending());
        socket.slim();
        assert!(!socket.swollen);
        client.write_all(&frame(0x81, b"after")).await.unwrap();
        assert_eq!(read(&mut socket).await, Input::Text("after".into()));
    }

    proptest! {
        #[test]
        fn the_boundary_is_found_however_the_bytes_arrive(
            frames in prop::collection::vec((0..5_usize, 0..70_000_usize), 1..6),
            cuts in prop::collection::vec(1..9_000_usize, 1..9),
        ) {
            let mut bytes = Vec::new();
            let mut between = vec![0];
            let mut open = false;
            for (kind, length) in frames {
                let (first, length) = match kind {
                    0 => (0x89, length % 126),
                    1 => (if open { 0x00 } else { 0x01 }, length),
                    2 => (0x8a, 0),
                    3 => (if open { 0x80 } else { 0x81 }, length % 126),
                    _ => (if open { 0x80 } else { 0x81 }, length),
                };
                if first & 0x0f < 8 {
                    open = first & 0x80 == 0;
                }
                bytes.extend(frame(first, &vec![0; length]));
                if !open {
                    between.push(bytes.len());
                }
            }
            let mut boundary = Boundary::default();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                let next = (at + cut).min(bytes.len());
                boundary.feed(&bytes[at..next]);
                at = next;
                prop_assert_eq!(boundary.is_between_messages(), between.contains(&at), "at {}", at);
                if at == bytes.len() {
                    break;
                }
            }
        }
    }
}
