//! A cell in bare mode: functions of others instead of workers, and the cloud that invokes them.
//!
//! `tests/peers/cloud.py` is both. Between gateways and broker stand the limits of AWS IoT Core.

use super::cell::Bus;
use super::site::{Books, Lines, Servers, Site, WORKERS, role, words};
use crate::servers::{Server, free_address};
use crate::{CloudLimits, Proxy, tools};
use anyhow::{Context, Result};
use std::path::Path;

pub(super) async fn start(servers: &mut Servers, binary: &Path, gateways: usize) -> Result<Site> {
    let python = tools::python("chaos")?.context("there is no Python: cargo xtask tools --install")?;
    let script = tools::root().join("tests/peers/cloud.py").display().to_string();
    let directory = servers.directory()?.database()?;
    let database = servers.directory()?.address();
    let broker = servers.broker(Bus::Bare)?.address();
    let limits = CloudLimits::before(broker).await?;
    let lines = Lines {
        gateway_broker: vec![Proxy::to(limits.address()).await?],
        worker_broker: vec![Proxy::to(broker).await?],
        gateway_directory: vec![Proxy::to(database).await?],
        // Functions have neither.
        worker_directory: vec![Proxy::to(database).await?],
        worker_database: vec![Proxy::to(database).await?],
    };
    let process = |words: &[&str]| -> Result<Server> {
        let mut process = Server::prepare("function", python.clone())?;
        process.arguments = vec![script.clone(), words[0].to_owned(), process.address().to_string()];
        process.arguments.extend(words[1..].iter().map(|word| (*word).to_owned()));
        Ok(process)
    };
    let mut functions: Vec<Server> = Vec::new();
    // What they store outlasts each of them: it is in the folder of the one that is not killed.
    let mut rule = process(&["rule", &broker.to_string()])?;
    let store = rule.folder().join("store.db");
    for _ in 0..WORKERS {
        let line = lines.worker_broker[0].address().to_string();
        functions.push(process(&["function", &line, &store.display().to_string()])?);
    }
    rule.arguments.extend(functions.iter().map(|function| function.address().to_string()));
    let mut site = Site {
        bus: Bus::Bare,
        gateways: Vec::new(),
        apis: vec![rule.address()],
        workers: functions,
        stations: Vec::new(),
        lines: None,
        books: Books::File(store),
        beside: vec![rule],
        limits: Some(limits),
    };
    let bus = format!("mqtt://{}?mode=bare", lines.gateway_broker[0].address());
    let directory =
        directory.replace(&database.to_string(), &lines.gateway_directory[0].address().to_string());
    for number in 0..gateways {
        let stations = free_address()?;
        // Client ids are made of both: several cells and gateways on one broker need their own.
        let mut gateway = role(binary, "gateway", &servers.namespace())?;
        gateway.arguments.extend(words(&[
            ("--bus", &bus),
            ("--directory", &directory),
            ("--gateway-id", &format!("g{number}")),
            ("--listen", &stations.to_string()),
        ]));
        site.gateways.push(gateway);
        site.stations.push(stations);
    }
    for process in site.beside.iter_mut().chain(&mut site.workers).chain(&mut site.gateways) {
        process.start().await?;
    }
    site.lines = Some(lines);
    site.wait_until_ready().await?;
    Ok(site)
}
