//! A line between two that can be cut, held up, slowed down or refused.

use anyhow::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

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
    /// The same for what those say who have come, while they are still told what the server says.
    comers_held: bool,
    /// The same for what the server says, while it is still told what they say.
    server_held: bool,
    /// Whoever comes is sent away.
    refused: bool,
    /// How much later bytes arrive.
    delay: Duration,
    /// Rises with each cut; connections of a lower number end.
    cuts: u64,
}

/// How many pieces may be under way in one direction. Then nothing more is read, as on a line that is full.
const UNDER_WAY_MAX: usize = 256;

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
            while let Ok((comer, _)) = listener.accept().await {
                let Line { refused, cuts, .. } = *lines.borrow();
                if !refused {
                    tokio::spawn(connect(comer, server, Arc::clone(&lines), cuts));
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

    /// Keeps back what those say who have come, or lets it go on. What the server says still reaches them.
    pub fn hold_what_comers_say(&self, held: bool) {
        self.line.send_modify(|line| line.comers_held = held);
    }

    /// Keeps back what the server says, or lets it go on. What others say still reaches it.
    pub fn hold_what_servers_say(&self, held: bool) {
        self.line.send_modify(|line| line.server_held = held);
    }

    /// Cuts all connections that there are. New ones are passed on again.
    pub fn cut(&self) {
        self.line.send_modify(|line| line.cuts += 1);
    }

    /// Cuts all connections and lets nobody through, or lets them through again.
    pub fn refuse(&self, refused: bool) {
        self.line.send_modify(|line| {
            line.refused = refused;
            line.cuts += u64::from(refused);
        });
    }

    /// Has bytes arrive so much later, each way.
    pub fn delay(&self, delay: Duration) {
        self.line.send_modify(|line| line.delay = delay);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn connect(comer: TcpStream, server: SocketAddr, lines: Arc<watch::Sender<Line>>, cuts: u64) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    for stream in [&comer, &server] {
        // A proxy that waits for more to send would be a delay of its own.
        drop(stream.set_nodelay(true));
    }
    let (from_comer, to_comer) = comer.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::spawn(pass_on(from_comer, to_server, lines.subscribe(), cuts, |line| {
        line.held || line.comers_held
    }));
    tokio::spawn(pass_on(from_server, to_comer, lines.subscribe(), cuts, |line| {
        line.held || line.server_held
    }));
}

async fn pass_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    line: watch::Receiver<Line>,
    cuts: u64,
    is_held: fn(&Line) -> bool,
) {
    let (pieces, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY_MAX);
    let (mut held, mut cut) = (line.clone(), line.clone());
    let reading = async move {
        let mut bytes = vec![0; 16 * 1024];
        while let Ok(count) = from.read(&mut bytes).await
            && count > 0
        {
            let at = Instant::now() + line.borrow().delay;
            if pieces.send((at, bytes[..count].to_vec())).await.is_err() {
                break;
            }
        }
        drop(pieces);
        // What is under way still arrives.
        std::future::pending::<()>().await;
    };
    let writing = async move {
        while let Some((at, bytes)) = due.recv().await {
            sleep_until(at).await;
            let free = held.wait_for(|line| !is_held(line)).await.is_ok();
            if !free || to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
        _ = async { cut.wait_for(|line| line.cuts != cuts).await.map(|_| ()) } => {}
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

        proxy.delay(Duration::from_millis(200));
        let begun = Instant::now();
        station.write_all(b"sl").await?;
        tokio::time::timeout(wait::DEADLINE, server.read_exact(&mut bytes)).await??;
        assert_eq!(&bytes, b"sl");
        assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
        proxy.delay(Duration::ZERO);

        proxy.refuse(true);
        let ended = tokio::time::timeout(wait::DEADLINE, server.read(&mut bytes)).await?;
        assert!(matches!(ended, Ok(0) | Err(_)));
        let mut refused = TcpStream::connect(proxy.address()).await?;
        let ended = tokio::time::timeout(wait::DEADLINE, refused.read(&mut bytes)).await?;
        assert!(matches!(ended, Ok(0) | Err(_)));
        proxy.refuse(false);
        let mut station = TcpStream::connect(proxy.address()).await?;
        let (mut server, _) = listener.accept().await?;
        station.write_all(b"on").await?;
        tokio::time::timeout(wait::DEADLINE, server.read_exact(&mut bytes)).await??;
        assert_eq!(&bytes, b"on");
        Ok(())
    }
}
