//! `rabbitmq-server`, with a port mapper of its own: Erlang would else leave one behind for the whole machine.

use super::{Server, free_address, installed};
use anyhow::Result;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

/// A RabbitMQ broker; `guest` may do everything.
#[derive(Debug)]
pub struct RabbitMq {
    server: Server,
    /// Ends after the server.
    _mapper: Server,
}

impl RabbitMq {
    /// Starts one; none if `test` has to be skipped. Takes ten seconds or so.
    ///
    /// # Errors
    /// It does not start, or is missing though the tests were told that it is there.
    pub async fn start(test: &str) -> Result<Option<Self>> {
        Self::start_with(test, |_, address| Ok(format!("listeners.tcp.1 = {address}\n"))).await
    }

    /// Starts one with these settings, made of its folder, where files of theirs may lie, and the address on which it has
    /// to listen.
    ///
    /// # Errors
    /// As for [`start`](Self::start), and those of the settings.
    pub async fn start_with(
        test: &str,
        settings: impl FnOnce(&Path, SocketAddr) -> Result<String>,
    ) -> Result<Option<Self>> {
        let places = ["/usr/lib/rabbitmq/bin/rabbitmq-server"];
        let Some(program) = installed(test, "rabbitmq-server", &places)? else { return Ok(None) };
        let mut mapper = Server::prepare("epmd", PathBuf::from("/usr/bin/epmd"))?;
        let port = mapper.address().port().to_string();
        mapper.arguments = ["-port", &port, "-address", "127.0.0.1"].map(str::to_owned).to_vec();
        mapper.start().await?;
        let mut server = Server::prepare("rabbitmq", program)?;
        let inside = |name: &str| server.folder().join(name).display().to_string();
        let config = server.folder().join("rabbitmq.conf");
        std::fs::write(
            &config,
            format!(
                "loopback_users = none\nlog.console = true\nlog.console.level = warning\n{}",
                settings(server.folder(), server.address())?
            ),
        )?;
        // Does nothing until the settings name EXTERNAL.
        std::fs::write(inside("plugins"), "[rabbitmq_auth_mechanism_ssl].\n")?;
        let variables = vec![
            ("ERL_EPMD_PORT", port),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("HOME", inside("home")),
            ("RABBITMQ_NODENAME", format!("switchboard{}@localhost", server.address().port())),
            ("RABBITMQ_CONFIG_FILE", config.display().to_string()),
            ("RABBITMQ_MNESIA_BASE", inside("data")),
            ("RABBITMQ_LOG_BASE", inside("logs")),
            ("RABBITMQ_LOGS", "-".to_owned()),
            // Or the script would stay in front of the server, and take the signals.
            ("RUNNING_UNDER_SYSTEMD", "true".to_owned()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", inside("plugins")),
            ("RABBITMQ_PID_FILE", inside("pid")),
            ("RABBITMQ_DIST_PORT", free_address()?.port().to_string()),
            // Idle schedulers that spin take the time of what is tested.
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +sbwtdcpu none +sbwtdio none".to_owned()),
        ];
        server.variables = variables;
        std::fs::create_dir(server.folder().join("home"))?;
        server.start().await?;
        Ok(Some(Self { server, _mapper: mapper }))
    }

    /// What `rabbitmqctl` says to these arguments. Takes a second or two.
    ///
    /// # Errors
    /// It does not run, or refuses.
    pub async fn control(&self, arguments: &[&str]) -> Result<String> {
        let mut control = tokio::process::Command::new("/usr/lib/rabbitmq/bin/rabbitmqctl");
        control.arg("--quiet").args(arguments).kill_on_drop(true);
        control.envs(self.server.variables.iter().map(|(name, value)| (name, value)));
        let ran = control.output().await?;
        let (told, faults) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        anyhow::ensure!(ran.status.success(), "rabbitmqctl {arguments:?}: {told}{faults}");
        Ok(told.into_owned())
    }

    /// How clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address())
    }
}

impl Deref for RabbitMq {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for RabbitMq {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}
