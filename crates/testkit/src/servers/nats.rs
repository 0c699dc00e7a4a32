//! `nats-server`.

use super::{Server, installed};
use anyhow::Result;
use std::ops::{Deref, DerefMut};

/// A NATS server with JetStream.
#[derive(Debug)]
pub struct Nats(Server);

impl Nats {
    /// Starts one; none if `test` has to be skipped.
    ///
    /// # Errors
    /// It does not start, or is missing though the tests were told that it is there.
    pub async fn start(test: &str) -> Result<Option<Self>> {
        Self::start_with(test, &[]).await
    }

    /// Starts one with more arguments; none if `test` has to be skipped.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(test: &str, arguments: &[&str]) -> Result<Option<Self>> {
        let places = ["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"];
        let Some(program) = installed(test, "nats-server", &places)? else { return Ok(None) };
        let mut server = Server::prepare("nats", program)?;
        let store = server.folder().join("jetstream").display().to_string();
        let port = server.address().port().to_string();
        server.arguments = ["--addr", "127.0.0.1", "--port", &port, "--jetstream", "--store_dir", &store]
            .iter()
            .chain(arguments)
            .map(|argument| (*argument).to_owned())
            .collect();
        server.start().await?;
        Ok(Some(Self(server)))
    }

    /// How clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }
}

impl Deref for Nats {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl DerefMut for Nats {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.0
    }
}
