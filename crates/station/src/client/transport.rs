//! What is below the WebSocket: a line that may be encrypted, on which marks of compressed messages are taken off, since
//! the codec above knows nothing of compression.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use switchboard_deflate::{Heads, Kind};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// A line to the central system.
pub(super) struct Transport {
    line: Line,
    /// Where compression was offered.
    frames: Option<Box<Frames>>,
}

pub(super) enum Line {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

/// Follows the frames behind the answer to the handshake.
struct Frames {
    heads: Heads,
    /// How much of the empty line has come that ends the answer.
    end: u8,
}

/// What ends the head of an HTTP answer.
const END: &[u8; 4] = b"\r\n\r\n";

impl Transport {
    pub(super) fn new(line: Line, offers_compression: bool) -> Self {
        let frames = || Box::new(Frames { heads: Heads::new(true), end: 0 });
        Self { line, frames: offers_compression.then(frames) }
    }

    /// What the message is that the codec has just handed out.
    pub(super) fn next_message(&mut self) -> Kind {
        self.frames.as_mut().map_or(Kind::Plain, |frames| frames.heads.next_message())
    }
}

impl Frames {
    fn feed(&mut self, mut bytes: &mut [u8]) {
        while usize::from(self.end) < END.len() {
            let Some((first, rest)) = bytes.split_first_mut() else { return };
            bytes = rest;
            let wanted = END.get(usize::from(self.end));
            self.end = if wanted == Some(first) { self.end + 1 } else { u8::from(*first == b'\r') };
        }
        self.heads.feed(bytes);
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(match &mut self.line {
            Line::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Line::Encrypted(stream) => Pin::new(stream).poll_read(context, buffer),
        })?;
        if let Some(frames) = &mut self.frames {
            frames.feed(buffer.filled_mut().get_mut(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.line {
            Line::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Line::Encrypted(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.line {
            Line::Plain(stream) => Pin::new(stream).poll_flush(context),
            Line::Encrypted(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.line {
            Line::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Line::Encrypted(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_begin_behind_the_empty_line_however_it_is_cut() {
        // A compressed text of two bytes, whose mark is to be taken off.
        let whole = b"HTTP/1.1 101 x\r\na: b\r\n\r\n\xc1\x02ab";
        for cut in 1..whole.len() {
            let mut frames = Frames { heads: Heads::new(true), end: 0 };
            let mut read = whole.to_vec();
            let (first, second) = read.split_at_mut(cut);
            frames.feed(first);
            frames.feed(second);
            assert_eq!(read[whole.len() - 4..], *b"\x82\x02ab", "{cut}");
            assert_eq!(read[..whole.len() - 4], whole[..whole.len() - 4]);
            assert_eq!(frames.heads.next_message(), Kind::CompressedText);
        }
    }
}
