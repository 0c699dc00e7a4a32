//! One WebSocket as the driver sees it: messages in, texts out, small buffers.
//!
//! The frames are tungstenite's. What is ours is how it gets its bytes: a single task polls the socket, so that one waker
//! is enough and there is no need for the proxies that a stream for several tasks has; buffers that a large message has
//! swollen are given back when nothing is under way; and compression (H14), of which the codec knows nothing: what marks a
//! compressed message is taken off below it, and its payload is inflated above it.

use crate::compression::Compressed;
use bytes::Bytes;
use bytestring::ByteString;
use std::{
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll, Waker},
};
use switchboard_deflate::{Heads, Kind};
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
    message_bytes_max: usize,
    /// In a box, since most connections have none.
    compressed: Option<Box<Compressed>>,
    /// What was inflated since others had their turn.
    inflated_bytes: usize,
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
    pub(crate) fn new(
        stream: S,
        early: &[u8],
        message_bytes_max: usize,
        compressed: Option<Compressed>,
    ) -> Self {
        // Noise grows a little when it is compressed, and is still no larger than it may be.
        let slack = if compressed.is_some() { message_bytes_max / 8 + READ_BUFFER } else { 0 };
        let payload_bytes_max = message_bytes_max.saturating_add(slack);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(Some(payload_bytes_max))
            .max_frame_size(Some(payload_bytes_max));
        let mut bridge = Bridge { inner: None, waker: Waker::noop().clone() };
        let mut heads = Heads::new(compressed.is_some());
        let mut early = early.to_vec();
        heads.feed(&mut early);
        bridge.inner = Some(Inner { stream, heads });
        let swollen = early.len() > READ_BUFFER;
        let web = if early.is_empty() {
            WebSocket::from_raw_socket(bridge, Role::Server, Some(config))
        } else {
            WebSocket::from_partially_read(bridge, early, Role::Server, Some(config))
        };
        Self {
            web,
            config,
            message_bytes_max,
            compressed: compressed.map(Box::new),
            inflated_bytes: 0,
            swollen,
            unflushed: false,
        }
    }

    /// The next message.
    pub(crate) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Input> {
        if self.inflated_bytes > INFLATED_MAX {
            // Little was read, and much came of it. Others want their turn too.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.web.get_mut().wake(context);
        Poll::Ready(match self.web.read() {
            // It was found to be UTF-8 a moment ago; looking again is cheap beside an `unsafe`.
            Ok(Message::Text(text)) => {
                self.message(text.into(), |text| ByteString::try_from(text).map_or(NOT_UTF8, Input::Text))
            }
            Ok(Message::Binary(bytes)) => self.message(bytes, Input::Binary),
            Ok(Message::Ping(_) | Message::Frame(_)) => {
                // The codec has its pong ready. Unless it is flushed, a station that pings and never reads fills our
                // memory, for nobody notices that it does not read.
                self.unflushed = true;
                Input::Ping
            }
            Ok(Message::Pong(_)) => Input::Pong,
            Ok(Message::Close(frame)) => Input::Closed { code: frame.map(|frame| frame.code.into()) },
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.is_told_too_much() {
                    return Poll::Ready(TOO_BIG);
                }
                return Poll::Pending;
            }
            Err(error) => self.broken(&error),
        })
    }

    /// Whether the head of a frame has come, though not its mask, and its length alone says that it is too long.
    fn is_told_too_much(&self) -> bool {
        let most = self.config.max_frame_size.map_or(u64::MAX, |most| most as u64).saturating_add(MASK_BYTES);
        self.web.get_ref().inner.as_ref().is_some_and(|inner| inner.heads.to_come() > most)
    }

    /// What a message is that the codec has put together: a compressed one, or `plain`.
    fn message(&mut self, payload: Bytes, plain: impl FnOnce(Bytes) -> Input) -> Input {
        self.swollen |= payload.len() > READ_BUFFER;
        let Some(compressed) = &self.compressed else { return plain(payload) };
        match self.web.get_mut().next_message() {
            // The codec allows for what compression adds.
            Kind::Plain if payload.len() > self.message_bytes_max => TOO_BIG,
            Kind::Plain => plain(payload),
            kind => {
                let input = compressed.inflate(kind, &payload);
                self.inflated_bytes += match &input {
                    Input::Text(text) => text.len(),
                    Input::Binary(bytes) => bytes.len(),
                    _ => 0,
                };
                input
            }
        }
    }

    /// The task has its turn, and others had theirs.
    pub(crate) const fn begin_turn(&mut self) {
        self.inflated_bytes = 0;
    }

    /// Takes a text to be sent with the next flush, or before if much waits.
    pub(crate) fn write(&mut self, text: ByteString) -> Result<(), Lost> {
        let compressed = self.compressed.as_ref().and_then(|compressed| compressed.deflate(&text));
        let is_compressed = compressed.is_some();
        let payload = compressed.unwrap_or_else(|| text.into_bytes());
        self.swollen |= payload.len() > WRITE_BUFFER;
        let mut frame = Frame::message(payload, OpCode::Data(Data::Text), true);
        // RFC 7692, 6: the mark of a compressed message.
        frame.header_mut().rsv1 = is_compressed;
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
                Ok(Message::Text(_) | Message::Binary(_)) => drop(self.web.get_mut().next_message()),
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
        if !bridge.inner.as_ref().is_some_and(|inner| inner.heads.is_between_messages()) {
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

    fn broken(&self, error: &Error) -> Input {
        match error {
            Error::Capacity(_) => TOO_BIG,
            Error::Utf8(_) => NOT_UTF8,
            // RFC 7692, 6.1: only the first frame of a message has the mark.
            Error::Protocol(ProtocolError::NonZeroReservedBits) if self.compressed.is_some() => {
                Input::Broken {
                    code: close::PROTOCOL_ERROR,
                    reason: "reserved bits are set where they have no meaning",
                }
            }
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
}

/// The network went, or the WebSocket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

const NOT_UTF8: Input = Input::Broken { code: close::NOT_UTF8, reason: "text is not UTF-8" };
const MASK_BYTES: u64 = 4;
const TOO_BIG: Input = Input::Broken { code: close::TOO_BIG, reason: "message too big" };
/// Bytes that may come out of compressed messages in one turn of the task, before others have theirs.
const INFLATED_MAX: usize = 256 * 1024;
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
    heads: Heads,
}

impl<S> Bridge<S> {
    fn wake(&mut self, context: &Context<'_>) {
        self.waker.clone_from(context.waker());
    }

    /// What the message was that the codec hands out.
    fn next_message(&mut self) -> Kind {
        self.inner.as_mut().map_or(Kind::Plain, |inner| inner.heads.next_message())
    }
}

impl<S: AsyncRead + Unpin> Read for Bridge<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let inner = self.inner.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let mut context = Context::from_waker(&self.waker);
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut inner.stream).poll_read(&mut context, &mut buffer) {
            Poll::Ready(Ok(())) => {
                inner.heads.feed(buffer.filled_mut());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::Counters;
    use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
    use proptest::prelude::*;
    use std::{future::poll_fn, sync::Arc};
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
        (Socket::new(ours, early, 1024 * 1024, None), theirs)
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
            ("too big by its length alone", big[..10].to_vec(), 1009),
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

    /// As a station compresses: with this window, and a flush after each of these lengths.
    fn deflate(text: &[u8], window_bits: u8, flushes: &[usize]) -> Vec<u8> {
        let mut state = Compress::new_with_window_bits(Compression::default(), false, window_bits);
        let mut payload = Vec::with_capacity(text.len() * 2 + 10_000);
        let mut rest = text;
        for length in flushes {
            let (part, after) = rest.split_at(rest.len().min(*length));
            rest = after;
            state.compress_vec(part, &mut payload, FlushCompress::Full).unwrap();
        }
        state.compress_vec(rest, &mut payload, FlushCompress::Sync).unwrap();
        payload.truncate(payload.len() - 4);
        payload
    }

    /// As a station with a window of that size reads, which has room for a little at a time.
    fn inflate(payload: &[u8], window_bits: u8) -> Vec<u8> {
        let mut state = Decompress::new_with_window_bits(false, window_bits);
        let payload = [payload, &[0, 0, 0xff, 0xff]].concat();
        let mut text = Vec::new();
        loop {
            let mut some = [0; 64];
            let (took, made) = (state.total_in() as usize, state.total_out() as usize);
            state.decompress(&payload[took..], &mut some, FlushDecompress::Sync).unwrap();
            let made = state.total_out() as usize - made;
            text.extend(&some[..made]);
            if made == 0 && state.total_in() as usize == payload.len() {
                return text;
            }
        }
    }

    fn compressed_pair(window_bits: u8, bytes_min: usize) -> (Socket<DuplexStream>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(4 * 1024 * 1024);
        let config = crate::Config { compression_bytes_min: bytes_min, ..crate::Config::default() };
        let shared = Arc::new(crate::compression::Compression::new(&config, Counters::default()));
        let offer = format!("permessage-deflate; server_max_window_bits={window_bits}");
        let agreed = switchboard_deflate::offer::choose([&*offer]).unwrap();
        let compressed = Some(Compressed::new(&shared, agreed));
        (Socket::new(ours, &[], 1024 * 1024, compressed), theirs)
    }

    /// What the socket sends next: the first byte of the frame, and its payload.
    async fn sent(client: &mut DuplexStream) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        client.read_exact(&mut head).await.unwrap();
        let length = match head[1] {
            126 => usize::from(client.read_u16().await.unwrap()),
            127 => usize::try_from(client.read_u64().await.unwrap()).unwrap(),
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        client.read_exact(&mut payload).await.unwrap();
        (head[0], payload)
    }

    #[tokio::test]
    async fn h14_compressed_messages_are_read_in_fragments_beside_plain_ones() {
        let (mut socket, mut client) = compressed_pair(15, 1);
        let text = r#"[2,"1","DataTransfer",{"vendorId":"é"}]"#;
        let payload = deflate(text.as_bytes(), 15, &[]);
        let (one, two) = payload.split_at(5);
        let bytes = [
            frame(0xc1, &payload),
            frame(0x81, b"plain"),
            frame(0x41, one),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x80, two),
            frame(0xc2, &payload),
            frame(0x82, b"bytes"),
            frame(0xc1, &[0]),
            frame(0x41, b""),
            frame(0x80, b""),
        ]
        .concat();
        client.write_all(&bytes).await.unwrap();
        for expected in [
            Input::Text(text.into()),
            Input::Text("plain".into()),
            Input::Ping,
            Input::Text(text.into()),
            Input::Binary(text.into()),
            Input::Binary("bytes".into()),
            Input::Text("".into()),
            Input::Text("".into()),
        ] {
            assert_eq!(read(&mut socket).await, expected);
        }
    }

    #[tokio::test]
    async fn h14_large_texts_are_sent_compressed_and_small_ones_are_not() {
        let (mut socket, mut client) = compressed_pair(15, 100);
        let large = "0123456789".repeat(100);
        for text in ["x".repeat(99), "x".repeat(100), large] {
            socket.write(text.as_str().into()).unwrap();
            poll_fn(|context| socket.poll_flush(context)).await.unwrap();
            let (first, payload) = sent(&mut client).await;
            assert_eq!(first, if text.len() < 100 { 0x81 } else { 0xc1 });
            assert!(text.len() < 100 || payload.len() < 40, "{payload:?}");
            assert_eq!(if first == 0xc1 { inflate(&payload, 15) } else { payload }, text.as_bytes());
        }
    }

    #[tokio::test]
    async fn f10_h14_what_is_wrong_with_compressed_messages_says_how_to_close() {
        let zeros = deflate(&vec![b' '; 2 << 20], 15, &[]);
        let (half, rest) = zeros.split_at(zeros.len() / 2);
        let text = deflate(b"text", 15, &[]);
        for (name, bytes, expected) in [
            ("a mark on a continuation", [frame(0x41, &text), frame(0xc0, b"")].concat(), 1002),
            ("a mark on a ping", frame(0xc9, b""), 1002),
            ("another reserved bit", frame(0xe1, &text), 1002),
            ("a message in a message", [frame(0x41, &text), frame(0xc1, &text)].concat(), 1002),
            ("not in the format", frame(0xc1, b"text"), 1007),
            ("not UTF-8", frame(0xc1, &deflate(b"\xff\xff", 15, &[])), 1007),
            ("UTF-8 cut", frame(0xc1, &deflate(b"\xc3", 15, &[])), 1007),
            ("too big", frame(0xc1, &zeros), 1009),
            ("too big in fragments", [frame(0x41, half), frame(0x80, rest)].concat(), 1009),
            ("too big uncompressed", frame(0x81, &vec![b' '; (1 << 20) + 1]), 1009),
            ("too big in any case", frame(0xc1, &vec![0; 2 << 20]), 1009),
        ] {
            let (mut socket, mut client) = compressed_pair(15, 1);
            client.write_all(&bytes).await.unwrap();
            match read(&mut socket).await {
                Input::Broken { code, .. } => assert_eq!(code, expected, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
        let (mut socket, mut client) = compressed_pair(15, 1);
        let largest = "x".repeat(1 << 20);
        client.write_all(&frame(0xc1, &deflate(largest.as_bytes(), 15, &[]))).await.unwrap();
        assert_eq!(read(&mut socket).await, Input::Text(largest.into()));
        // Much came of little: the next is for the next turn.
        client.write_all(&frame(0xc1, &text)).await.unwrap();
        assert!(futures_util::poll!(Box::pin(poll_fn(|context| socket.poll_read(context)))).is_pending());
        socket.begin_turn();
        assert_eq!(read(&mut socket).await, Input::Text("text".into()));
    }

    /// A message, how it is compressed if it is, and how it is cut.
    #[derive(Clone, Debug)]
    struct Sent {
        text: String,
        flushes: Option<Vec<usize>>,
        fragments: Vec<usize>,
        pings: bool,
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            // Not above the limit of a message: a part has up to 100 characters of 4 bytes.
            (any::<String>(), 0..2500_usize).prop_map(|(part, times)| part.repeat(times)),
            prop::collection::vec(any::<char>(), 0..5000).prop_map(String::from_iter),
        ]
    }

    fn any_message() -> impl Strategy<Value = Sent> {
        let flushes = prop::option::weighted(0.8, prop::collection::vec(0..2000_usize, 0..4));
        (any_text(), flushes, prop::collection::vec(0..600_usize, 0..5), any::<bool>())
            .prop_map(|(text, flushes, fragments, pings)| Sent { text, flushes, fragments, pings })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn h14_any_message_comes_through_however_it_is_compressed_and_cut(
            messages in prop::collection::vec(any_message(), 1..5),
            window_bits in 9..=15_u8,
            chunks in prop::collection::vec(1..5000_usize, 1..9),
        ) {
            let mut bytes = Vec::new();
            for Sent { text, flushes, fragments, pings } in &messages {
                let mark = if flushes.is_some() { 0x40 } else { 0 };
                let payload = match flushes {
                    Some(flushes) => deflate(text.as_bytes(), window_bits, flushes),
                    None => text.clone().into_bytes(),
                };
                let (mut rest, mut first) = (&payload[..], 0x01 | mark);
                for fragment in fragments {
                    let (part, after) = rest.split_at(rest.len().min(*fragment));
                    rest = after;
                    bytes.extend(frame(first, part));
                    first = 0;
                    if *pings {
                        bytes.extend(frame(0x89, b"still there?"));
                    }
                }
                bytes.extend(frame(0x80 | first, rest));
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let texts = runtime.block_on(async {
                let (mut socket, mut client) = compressed_pair(window_bits, 1);
                let (mut texts, mut rest, mut turns_left) = (Vec::new(), &bytes[..], 1000);
                for chunk in chunks.iter().cycle() {
                    let (part, after) = rest.split_at(rest.len().min(*chunk));
                    rest = after;
                    client.write_all(part).await.unwrap();
                    loop {
                        socket.begin_turn();
                        match futures_util::poll!(Box::pin(poll_fn(|context| socket.poll_read(context)))) {
                            Poll::Ready(Input::Text(text)) => texts.push(text.to_string()),
                            Poll::Ready(Input::Ping) => {}
                            Poll::Ready(other) => panic!("{other:?}"),
                            Poll::Pending => break,
                        }
                        poll_fn(|context| socket.poll_flush(context)).await.unwrap();
                    }
                    socket.slim();
                    // A turn may end before all that has come is read; another one follows then.
                    if rest.is_empty() {
                        turns_left -= 1;
                        if texts.len() >= messages.len() || turns_left == 0 {
                            break;
                        }
                    }
                    tokio::task::yield_now().await;
                }
                // And back.
                for text in &texts {
                    socket.write(text.as_str().into()).unwrap();
                    poll_fn(|context| socket.poll_flush(context)).await.unwrap();
                    let (first, payload) = loop {
                        let frame = sent(&mut client).await;
                        if frame.0 != 0x8a {
                            break frame;
                        }
                    };
                    let payload = if first == 0xc1 { inflate(&payload, window_bits) } else { payload };
                    assert!(payload == text.as_bytes(), "{text:?} came back as {payload:?}");
                }
                texts
            });
            let expected: Vec<_> = messages.into_iter().map(|message| message.text).collect();
            prop_assert_eq!(texts, expected);
        }
    }
}
