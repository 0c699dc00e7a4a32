//! `mosquitto`.

use super::{Server, installed, is_root};
use anyhow::Result;
use std::ops::{Deref, DerefMut};
use std::path::Path;

/// A Mosquitto broker that lets in whoever comes.
#[derive(Debug)]
pub struct Mosquitto(Server);

impl Mosquitto {
    /// Starts one; none if `test` has to be skipped.
    ///
    /// # Errors
    /// It does not start, or is missing though the tests were told that it is there.
    pub async fn start(test: &str) -> Result<Option<Self>> {
        Self::start_with(test, |_| Ok("allow_anonymous true\n".to_owned())).await
    }

    /// Starts one whose one listener has these settings, given its folder, where files of theirs may lie.
    ///
    /// # Errors
    /// As for [`start`](Self::start), and those of the settings.
    pub async fn start_with(
        test: &str,
        settings: impl FnOnce(&Path) -> Result<String>,
    ) -> Result<Option<Self>> {
        let Some(program) =
            installed(test, "mosquitto", &["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto"])?
        else {
            return Ok(None);
        };
        let mut server = Server::prepare("mosquitto", program)?;
        let file = server.folder().join("mosquitto.conf");
        let address = server.address();
        // Without the third line answers wait for the station's acknowledgements: 20 ms a call.
        std::fs::write(
            &file,
            format!(
                "listener {} {}\nset_tcp_nodelay true\n{}{}",
                address.port(),
                address.ip(),
                // Or it would give up the right to read what lies in its own folder.
                if is_root() { "user root\n" } else { "" },
                settings(server.folder())?,
            ),
        )?;
        server.arguments = vec!["-c".to_owned(), file.display().to_string()];
        server.start().await?;
        Ok(Some(Self(server)))
    }

    /// How clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address())
    }
}

impl Deref for Mosquitto {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0
    }
}

impl DerefMut for Mosquitto {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.0
    }
}
