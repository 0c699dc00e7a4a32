//! A line between a station and the server that can be cut or held up.

use anyhow::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Passes bytes on in both directions until told otherwise. Dropped, it cuts everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    line: Arc<watch::Sender<Line>>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// Bytes stay where they are.
    held: bool,
    /// Rises with each cut; connections of a lower number end.
    cuts: u64,
}

impl Proxy {
    /// Listens on a free port and connects each comer to `server`.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let line = Arc::new(watch::Sender::new(Line::default()));
        let lines = Arc::clone(&line);
        let accepting = tokio::spawn(async move {
            while let Ok((station, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(server).await {
                    let cuts = lines.borrow().cuts;
                    let (from_station, to_station) = station.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::spawn(pass_on(from_station, to_server, lines.subscribe(), cuts));
                    tokio::spawn(pass_on(from_server, to_station, lines.subscribe(), cuts));
                }
            }
        });
        Ok(Self { address, line, accepting })
    }

    /// Where to connect instead of to the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Keeps all bytes back, as a dead radio link does, or lets them go on.
    pub fn hold(&self, held: bool) {
        self.line.send_modify(|line| line.held = held);
    }

    /// Cuts all connections that there are. New ones are passed on again.
    pub fn cut(&self) {
        self.line.send_modify(|line| line.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn pass_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
    cuts: u64,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let count = tokio::select! {
            read = from.read(&mut bytes) => match read {
                Ok(count) if count > 0 => count,
                _ => return,
            },
            cut = line.wait_for(|line| line.cuts != cuts) => {
                drop(cut);
                return;
            }
        };
        let free =
            line.wait_for(|line| !line.held || line.cuts != cuts).await.is_ok_and(|line| line.cuts == cuts);
        if !free || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    #[tokio::test]
    async fn a_line_passes_on_holds_up_and_is_cut() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Proxy::to(listener.local_addr()?).await?;
        let mut station = TcpStream::connect(proxy.address()).await?;
        let (mut server, _) = listener.accept().await?;
        let mut bytes = [0; 2];

        station.write_all(b"on").await?;
        server.read_exact(&mut bytes).await?;
        assert_eq!(&bytes, b"on");

        proxy.hold(true);
        station.write_all(b"up").await?;
        proxy.hold(false);
        tokio::time::timeout(wait::DEADLINE, server.read_exact(&mut bytes)).await??;
        assert_eq!(&bytes, b"up");

        proxy.cut();
        let ended = tokio::time::timeout(wait::DEADLINE, server.read(&mut bytes)).await?;
        assert!(matches!(ended, Ok(0) | Err(_)));
        Ok(())
    }
}
