//! `switchboard simulate`: many stations that live through a scenario.

mod books;
mod display;

use crate::{
    arguments::simulate::{Simulate, Speed},
    exit::{Exit, Failure},
    output,
    run::signals::Signals,
    settings::Settings,
};
use books::Compared;
use display::Display;
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use switchboard_station::{Plan, Population, Quirk, Scenario, client::Tls};

/// How often the display is told something new.
const TICK: Duration = Duration::from_secs(1);
/// How many stations with something wrong are shown.
const SHOWN_MAX: usize = 20;

/// Lets them live, and sums up.
pub(crate) fn simulate(command: &Simulate, settings: &Settings) -> Result<Exit, Failure> {
    if command.scenarios {
        return list(command, "scenario", &Scenario::built_in());
    }
    if command.quirks.iter().any(|name| name == "list") {
        let quirks: Vec<_> = Quirk::all().map(|quirk| (quirk.name(), quirk.about().to_owned())).collect();
        return list(command, "quirk", &quirks);
    }
    if let Some(name) = &command.print_scenario {
        let text = Scenario::text(name).ok_or_else(|| {
            Failure::new(Exit::Data, format!("there is no scenario {name:?}; see --scenarios"))
        })?;
        output::line(text.trim_end())?;
        return Ok(Exit::Done);
    }
    let plan = plan(command)?;
    let check = command.check.as_deref().map(|url| books::Server::new(url, settings)).transpose()?;
    raise_file_limit(plan.stations);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(live(command, &plan, check));
    // What a second Ctrl-C leaves behind is not waited for.
    runtime.shutdown_background();
    exit
}

fn list(command: &Simulate, kind: &str, rows: &[(&str, String)]) -> Result<Exit, Failure> {
    if command.json {
        let rows: Vec<Value> =
            rows.iter().map(|(name, about)| json!({ "name": name, "about": about })).collect();
        output::line(Value::from(rows).to_string())?;
    } else {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|(name, about)| vec![(*name).to_owned(), about.clone()]).collect();
        output::line(output::table(&[&kind.to_uppercase(), "WHAT IT DOES"], &rows).trim_end())?;
    }
    Ok(Exit::Done)
}

/// Scenario and flags together.
fn plan(command: &Simulate) -> Result<Plan, Failure> {
    let wrong = |text: String| Failure::new(Exit::Data, text);
    if !["ws://", "wss://"].iter().any(|scheme| command.url.starts_with(scheme)) {
        return Err(wrong(format!("{} is no ws:// or wss:// URL", command.url)));
    }
    let mut scenario = scenario(&command.scenario)?;
    if !command.versions.is_empty() {
        scenario.stations.versions = command.versions.iter().cloned().collect();
        if scenario.versions().iter().map(|(_, share)| share).sum::<f64>() <= 0.0 {
            return Err(wrong("--versions needs a share above zero".to_owned()));
        }
    }
    for (flag, value, target, most) in [
        ("--faults", command.faults, &mut scenario.faults.share, 1.0),
        ("--offline", command.offline, &mut scenario.offline.a_day, 10_000.0),
        ("--switch-on", command.switch_on, &mut scenario.switch_on_seconds, 86_400.0),
    ] {
        if let Some(value) = value {
            if !(0.0..=most).contains(&value) {
                return Err(wrong(format!("{flag} must be between 0 and {most}")));
            }
            *target = value;
        }
    }
    if !command.quirks.is_empty() {
        let all = command.quirks.iter().any(|name| name == "all");
        scenario.quirks.names = if all { Vec::new() } else { command.quirks.clone() };
        Quirk::named(&scenario.quirks.names).map_err(wrong)?;
        scenario.quirks.share = 1.0;
    }
    let mut plan = Plan::new(&command.url, command.stations, scenario);
    plan.prefix.clone_from(&command.prefix);
    plan.connectors = command.connectors;
    plan.seed = command.seed;
    plan.finish = command.finish;
    plan.speed = match command.speed {
        Speed::Times(times) => Some(times),
        Speed::Max => None,
    };
    plan.compression = command.compress;
    plan.tls = tls(command)?;
    plan.password = match (&command.password, &command.password_file) {
        (Some(password), _) => Some(password.clone().into_bytes()),
        (None, Some(file)) => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| wrong(format!("{} cannot be read: {error}", file.display())))?;
            Some(text.lines().next().unwrap_or_default().as_bytes().to_vec())
        }
        (None, None) => None,
    };
    Ok(plan)
}

/// Whom the stations believe, where it matters.
fn tls(command: &Simulate) -> Result<Option<Tls>, Failure> {
    let wrong = |text: String| Failure::new(Exit::Data, text);
    let Some(file) = &command.ca_file else {
        let needed = command.url.starts_with("wss://");
        return needed.then(Tls::system).transpose().map_err(|error| wrong(error.to_string()));
    };
    if !command.url.starts_with("wss://") {
        return Err(wrong("--ca-file is of use with a wss:// URL only".to_owned()));
    }
    let pem =
        std::fs::read(file).map_err(|error| wrong(format!("{} cannot be read: {error}", file.display())))?;
    Tls::trusting(&pem).map(Some).map_err(|error| wrong(format!("{}: {error}", file.display())))
}

fn scenario(name: &str) -> Result<Scenario, Failure> {
    let wrong = |text: String| Failure::new(Exit::Data, text);
    let text = match Scenario::text(name) {
        Some(text) => text.to_owned(),
        None if Path::new(name).exists() => {
            std::fs::read_to_string(name).map_err(|error| wrong(format!("{name} cannot be read: {error}")))?
        }
        None => {
            return Err(wrong(format!(
                "there is no scenario and no file {name:?}; see switchboard simulate --scenarios"
            )));
        }
    };
    Scenario::read(&text).map_err(|error| wrong(format!("the scenario {name}: {error}")))
}

/// Each station needs a file descriptor; what the system gives by default is often a thousand.
fn raise_file_limit(stations: u32) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = u64::from(stations) + 100;
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |most| most.min(wanted)));
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            // The connections that fail for it will say so themselves.
            tracing::warn!(%error, wanted, "the number of open files cannot be raised");
        }
    }
}

async fn live(command: &Simulate, plan: &Plan, check: Option<books::Server>) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    let population = Population::start(plan);
    let mut display = Display::new(command, &population);
    let mut tick = tokio::time::interval(TICK);
    let mut stopping = false;
    let ended = population.ended();
    tokio::pin!(ended);
    let over = async {
        match command.lasts {
            Some(lasts) => tokio::time::sleep(lasts).await,
            None => population.over().await,
        }
    };
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut ended => break,
            _ = tick.tick() => display.show(&population, stopping)?,
            () = &mut over, if !stopping => {
                stopping = true;
                population.stop();
            }
            _ = signals.next() => {
                if stopping {
                    display.end()?;
                    output::note("stopped at once; what was not sent is lost")?;
                    return Ok(Exit::Interrupted);
                }
                stopping = true;
                display.note("ending sessions and sending the bills; once more to stop at once")?;
                population.stop();
            }
        }
    }
    display.show(&population, true)?;
    display.end()?;
    let compared = match check {
        Some(server) => Some(server.compare(&population).await?),
        None => None,
    };
    sum_up(command, plan, &population, compared.as_ref())
}

fn sum_up(
    command: &Simulate,
    plan: &Plan,
    population: &Population,
    compared: Option<&Compared>,
) -> Result<Exit, Failure> {
    let stations = population.summary();
    let (age, hours) = population.age();
    let latencies = population.latencies();
    let millis = |share| latencies.quantile(share).map(|latency| latency.as_secs_f64() * 1000.0);
    let figures = population.figures();
    let told = stations.iter().all(switchboard_station::Summary::is_consistent);
    let equal = compared.is_none_or(|compared| compared.differences.is_empty());
    let transactions: u64 = stations.iter().map(|one| one.transactions).sum();
    let energy_wh: u64 = stations.iter().map(|one| one.energy_wh).sum();
    if command.json {
        let summary = json!({
            "stations": stations.len(),
            "scenario": command.scenario,
            "seed": plan.seed,
            "speed": hours * 3600.0 / age.as_secs_f64().max(0.001),
            "seconds": age.as_secs_f64(),
            "hours": hours,
            "transactions": transactions,
            "energyWh": energy_wh,
            "calls": figures.calls,
            "answered": figures.answered,
            "refused": figures.refused,
            "unanswered": figures.unanswered,
            "lost": figures.lost,
            "givenUp": figures.given_up,
            "commands": figures.commands,
            "connections": figures.connections,
            "failedConnections": figures.failures,
            "lastFailure": population.last_failure(),
            "boots": figures.boots,
            "faults": figures.faults,
            "p50Ms": millis(0.5),
            "p99Ms": millis(0.99),
            "consistent": told && equal,
            "check": compared.map(Compared::json),
            "perStation": stations,
        });
        output::line(summary.to_string())?;
    } else {
        let number = |number: u64| display::grouped(number);
        let latency =
            |share| millis(share).map_or_else(|| "-".to_owned(), |millis| format!("{millis:.1} ms"));
        output::line(format!(
            "{} stations, {hours:.1} hours in {}: {} transactions, {} kWh\n{} calls, p50 {}, p99 {}\n{} refused, {} \
             unanswered, {} lost with their connection, {} bills given up\n{} connections, {} failed, {} boots, {} faults, \
             {} commands",
            stations.len(),
            display::duration(age),
            number(transactions),
            display::kwh(energy_wh),
            number(figures.calls),
            latency(0.5),
            latency(0.99),
            number(figures.refused),
            number(figures.unanswered),
            number(figures.lost),
            number(figures.given_up),
            number(figures.connections),
            number(figures.failures),
            number(figures.boots),
            number(figures.faults),
            number(figures.commands),
        ))?;
        if let Some(why) = population.last_failure().filter(|_| figures.connections > 0) {
            output::line(format!("the last connection that failed: {}", output::printable(&why)))?;
        }
        show_wrong(&stations)?;
        if let Some(compared) = compared {
            compared.print()?;
        }
        if told && compared.is_none() && figures.connections > 0 {
            output::line("every bill was answered; --check compares them with the server's books")?;
        }
    }
    if figures.connections == 0 {
        let why = population.last_failure().unwrap_or_else(|| "there was no time for it".to_owned());
        return Err(Failure::new(
            Exit::Unreachable,
            format!("no station ever connected to {}: {}", command.url, output::printable(&why)),
        ));
    }
    Ok(if told && equal { Exit::Done } else { Exit::Inconsistent })
}

/// A table of the stations that could not tell everything.
fn show_wrong(stations: &[switchboard_station::Summary]) -> Result<(), Failure> {
    let wrong: Vec<_> = stations.iter().filter(|one| !one.is_consistent()).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<String>> = wrong
        .iter()
        .take(SHOWN_MAX)
        .map(|one| {
            vec![
                one.station.clone(),
                one.version.to_owned(),
                one.quirks.join(","),
                one.transactions.to_string(),
                one.energy_wh.to_string(),
                one.unsettled.to_string(),
                one.unsent.to_string(),
                one.given_up.to_string(),
                one.refused.to_string(),
                one.unanswered.to_string(),
            ]
        })
        .collect();
    let heading = [
        "STATION",
        "VERSION",
        "QUIRKS",
        "TRANSACTIONS",
        "WH",
        "UNSETTLED",
        "UNSENT",
        "GIVEN UP",
        "REFUSED",
        "UNANSWERED",
    ];
    output::line(format!("\n{} stations could not tell everything:", wrong.len()))?;
    output::line(output::table(&heading, &rows).trim_end())?;
    Ok(())
}
