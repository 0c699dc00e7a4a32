//! The brokers that the scenarios run over.

use anyhow::{Result, ensure};
use std::{
    ops::{Deref, DerefMut},
    path::Path,
    process::Command,
    sync::Arc,
};
use switchboard_bus::{Bus, Connect, ConnectError};
use switchboard_testkit::{
    Certificates,
    servers::{Mosquitto, Nats, RabbitMq, Server},
};
use tokio::sync::OnceCell;

/// Which broker lies between gateways and workers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    Nats,
    RabbitMq,
    Mqtt,
}

/// One that runs.
#[derive(Debug)]
pub(crate) enum Broker {
    Nats(Nats),
    RabbitMq(RabbitMq),
    Mqtt(Mosquitto),
}

impl Engine {
    /// Starts one of the test's own; none if it has to be skipped.
    pub(crate) async fn start(self, test: &str) -> Result<Option<Broker>> {
        Ok(match self {
            Self::Nats => Nats::start(test).await?.map(Broker::Nats),
            Self::RabbitMq => RabbitMq::start(test).await?.map(Broker::RabbitMq),
            Self::Mqtt => Mosquitto::start(test).await?.map(Broker::Mqtt),
        })
    }

    /// How one is reached that all tests share, and nobody kills. It ends with this process.
    pub(crate) async fn shared(self, test: &str) -> Result<Option<String>> {
        static BROKERS: [OnceCell<Option<Broker>>; 3] = [const { OnceCell::const_new() }; 3];
        let [nats, rabbitmq, mqtt] = &BROKERS;
        let broker = match self {
            Self::Nats => nats,
            Self::RabbitMq => rabbitmq,
            Self::Mqtt => mqtt,
        };
        Ok(broker.get_or_try_init(|| self.start(test)).await?.as_ref().map(Broker::url))
    }

    /// Starts one that speaks TLS only, as `localhost`, and lets in [`USER`] with this password; none if the test has to
    /// be skipped.
    pub(crate) async fn start_secure(
        self,
        test: &str,
        certificates: &Certificates,
        password: &str,
    ) -> Result<Option<Broker>> {
        let (certificate, key) = certificates.server();
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let authority = certificates.authority().display().to_string();
        Ok(match self {
            Self::Nats => {
                let tls = ["--tls", "--tlscert", &certificate, "--tlskey", &key];
                let arguments = [&tls[..], &["--user", USER, "--pass", password]].concat();
                Nats::start_with(test, &arguments).await?.map(Broker::Nats)
            }
            Self::RabbitMq => {
                let settings = |_: &Path, address| {
                    Ok(format!(
                        "listeners.tcp = none\nlisteners.ssl.1 = {address}\nssl_options.cacertfile = {authority}\n\
                         ssl_options.certfile = {certificate}\nssl_options.keyfile = {key}\n\
                         ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n\
                         ssl_cert_login_from = common_name\nauth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\n\
                         default_user = {USER}\ndefault_pass = {password}\n"
                    ))
                };
                RabbitMq::start_with(test, settings).await?.map(Broker::RabbitMq)
            }
            Self::Mqtt => {
                let settings = |folder: &Path| {
                    let passwords = folder.join("passwords");
                    let mut made = Command::new("mosquitto_passwd");
                    let made = made.args(["-b", "-c"]).arg(&passwords).args([USER, password]).status()?;
                    ensure!(made.success(), "no file of passwords");
                    let passwords = passwords.display();
                    Ok(format!(
                        "allow_anonymous false\npassword_file {passwords}\ncertfile {certificate}\nkeyfile {key}\n"
                    ))
                };
                Mosquitto::start_with(test, settings).await?.map(Broker::Mqtt)
            }
        })
    }

    /// What its URLs begin with where there is TLS.
    pub(crate) fn secure_scheme(self) -> &'static str {
        match self {
            Self::Nats => "tls",
            Self::RabbitMq => "amqps",
            Self::Mqtt => "mqtts",
        }
    }

    /// The driver.
    pub(crate) fn connect(self, connect: Connect) -> Result<Arc<dyn Bus>, ConnectError> {
        Ok(match self {
            Self::Nats => Arc::new(switchboard_bus_nats::Nats::connect(connect)?),
            Self::RabbitMq => Arc::new(switchboard_bus_amqp::Amqp::connect(connect)?),
            Self::Mqtt => switchboard_bus_mqtt::connect(connect)?,
        })
    }
}

/// Who the secure ones let in.
pub(crate) const USER: &str = "switchboard";

impl Broker {
    /// How clients reach it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Nats(nats) => nats.url(),
            Self::RabbitMq(rabbitmq) => rabbitmq.url(),
            Self::Mqtt(mosquitto) => mosquitto.url(),
        }
    }
}

impl Deref for Broker {
    type Target = Server;

    fn deref(&self) -> &Server {
        match self {
            Self::Nats(nats) => nats,
            Self::RabbitMq(rabbitmq) => rabbitmq,
            Self::Mqtt(mosquitto) => mosquitto,
        }
    }
}

impl DerefMut for Broker {
    fn deref_mut(&mut self) -> &mut Server {
        match self {
            Self::Nats(nats) => nats,
            Self::RabbitMq(rabbitmq) => rabbitmq,
            Self::Mqtt(mosquitto) => mosquitto,
        }
    }
}

/// Makes each scenario, a function of an [`Engine`], a test over each broker: `nats::…`, `rabbitmq::…`, `mqtt::…`.
macro_rules! over_each_broker {
    ($($scenario:ident),+ $(,)?) => {
        over_each_broker! { @ nats Nats $($scenario)+ }
        over_each_broker! { @ rabbitmq RabbitMq $($scenario)+ }
        over_each_broker! { @ mqtt Mqtt $($scenario)+ }
    };
    (@ $module:ident $engine:ident $($scenario:ident)+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() -> anyhow::Result<()> {
                    super::$scenario(crate::engine::Engine::$engine).await
                }
            )+
        }
    };
}
pub(crate) use over_each_broker;
