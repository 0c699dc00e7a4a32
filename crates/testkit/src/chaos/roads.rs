//! How gateways and workers reach each other: over a broker, or over HTTP by posting to each other.

use super::cell::Bus;
use super::site::WORKERS;
use crate::Proxy;
use crate::servers::free_address;
use anyhow::Result;
use std::net::SocketAddr;

/// The lines of the bus, and what the processes are told of them.
#[derive(Debug)]
pub(super) struct Roads {
    /// Those that the gateways go by.
    pub(super) gateways: Vec<Proxy>,
    /// Those that the workers go by.
    pub(super) workers: Vec<Proxy>,
    /// The flags of each worker.
    pub(super) worker_flags: Vec<Vec<(&'static str, String)>>,
    /// The flags of each gateway.
    pub(super) gateway_flags: Vec<Vec<(&'static str, String)>>,
}

impl Roads {
    /// To the one broker that is there.
    pub(super) async fn over_broker(bus: Bus, broker: SocketAddr, gateways: usize) -> Result<Self> {
        let url = |line: &Proxy| match bus {
            Bus::Nats => format!("nats://{}", line.address()),
            Bus::Amqp => format!("amqp://guest:guest@{}/%2f", line.address()),
            _ => format!("mqtt://{}", line.address()),
        };
        let (of_gateways, of_workers) = (Proxy::to(broker).await?, Proxy::to(broker).await?);
        Ok(Self {
            worker_flags: vec![vec![("--bus", url(&of_workers))]; WORKERS],
            gateway_flags: vec![vec![("--bus", url(&of_gateways))]; gateways],
            gateways: vec![of_gateways],
            workers: vec![of_workers],
        })
    }

    /// Each gateway to each worker for calls, each worker to each gateway for commands.
    pub(super) async fn over_http(gateways: usize) -> Result<Self> {
        let mut roads = Self {
            gateways: Vec::new(),
            workers: Vec::new(),
            worker_flags: Vec::new(),
            gateway_flags: Vec::new(),
        };
        for _ in 0..WORKERS {
            let function = free_address()?;
            let line = Proxy::to(function).await?;
            roads.worker_flags.push(vec![
                ("--bus", format!("http://{function}/ocpp")),
                ("--bus-advertise", format!("http://{}", line.address())),
            ]);
            roads.gateways.push(line);
        }
        let functions: Vec<String> = roads
            .gateways
            .iter()
            .map(|line| format!("http://{}/ocpp?idempotent=true&health=/ocpp", line.address()))
            .collect();
        for _ in 0..gateways {
            let door = free_address()?;
            let line = Proxy::to(door).await?;
            roads.gateway_flags.push(vec![
                ("--bus", functions.join(",")),
                ("--bus-listen", door.to_string()),
                ("--bus-advertise", format!("http://{}", line.address())),
            ]);
            roads.workers.push(line);
        }
        Ok(roads)
    }
}
