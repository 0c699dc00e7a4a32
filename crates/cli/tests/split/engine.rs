//! The brokers that the scenarios run over.

use anyhow::Result;
use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
};
use switchboard_bus::{Bus, Connect, ConnectError};
use switchboard_testkit::servers::{Mosquitto, Nats, RabbitMq, Server};
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

    /// The driver.
    pub(crate) fn connect(self, connect: Connect) -> Result<Arc<dyn Bus>, ConnectError> {
        Ok(match self {
            Self::Nats => Arc::new(switchboard_bus_nats::Nats::connect(connect)?),
            Self::RabbitMq => Arc::new(switchboard_bus_amqp::Amqp::connect(connect)?),
            Self::Mqtt => switchboard_bus_mqtt::connect(connect)?,
        })
    }
}

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
