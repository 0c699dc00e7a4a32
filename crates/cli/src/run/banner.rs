//! What a newcomer reads first: where to look and what to try next.

use super::{demo::station_id, ports::Addresses};
use crate::{
    output,
    settings::{BusPlace, LogFormat, Role, Settings},
};
use std::net::SocketAddr;

/// Shows it, where people read the output.
pub(crate) fn show(role: Role, settings: &Settings, addresses: &Addresses) -> std::io::Result<()> {
    if settings.log_format == LogFormat::Json {
        Ok(())
    } else {
        output::line(text(&program(), role, settings, addresses))
    }
}

/// What to type for this program: whoever called it by its path, as `cargo run` does, has no other name for it.
fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    if called.contains('/') && !called.contains(char::is_whitespace) {
        called
    } else {
        "switchboard".to_owned()
    }
}

fn text(program: &str, role: Role, settings: &Settings, addresses: &Addresses) -> String {
    let usual = Settings::default().api_listen;
    // A command finds the process by itself where everything is as usual.
    let api = match addresses.api {
        None => String::new(),
        Some(address) if address == usual => String::new(),
        Some(address) => format!(" --api {}", near(address)),
    };
    // A gateway of its own shows its traffic at its admin port.
    let trace = if role == Role::Gateway { format!(" --api {}", near(addresses.admin)) } else { api.clone() };
    let what = if role == Role::Run { String::new() } else { format!(" {}", role.word()) };
    let mut text =
        format!("\nswitchboard{what} {} is running. Ctrl-C stops it.\n\n", env!("CARGO_PKG_VERSION"));
    let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<21} {value}\n"));
    if let Some(stations) = addresses.stations {
        line("stations connect to", format!("ws://{stations}/ocpp/STATION"));
    }
    if let Some(api) = addresses.api {
        line("API", format!("http://{}/v1/stations", near(api)));
    }
    line("health and metrics", format!("http://{}/metrics", near(addresses.admin)));
    if settings.bus != BusPlace::Embedded {
        line("bus", settings.bus.to_string());
    }
    if let Some(bus) = addresses.bus {
        line("the bus reaches it at", bus.to_string());
    }
    if let Some(directory) = &settings.directory {
        line("directory", directory.to_string());
    }
    if let (true, Some(database)) = (role.has_processing(), &settings.database) {
        line("books", database.to_string());
    }
    line("data", settings.data_dir.display().to_string());
    match role {
        Role::Worker => {
            text.push_str(&format!(
                "\nNext, in another terminal: {program} gateway with the same --bus and --directory; then\n\n  \
                 {program} stations{api}\n  {program} transactions{api}\n"
            ));
            return text;
        }
        Role::Gateway => {
            let next = if settings.bus.is_bare() {
                "whoever answers what comes on STATION/in of the broker"
            } else {
                &format!("{program} worker with the same --bus and --directory")
            };
            text.push_str(&format!(
                "\nNext: {next}; in another terminal:\n\n  {program} trace --all{trace}\n"
            ));
            return text;
        }
        Role::Run => {}
    }
    if settings.demo > 0 {
        let first = station_id(1);
        let all = if settings.demo == 1 {
            first.clone()
        } else {
            format!("{first} to {}", station_id(settings.demo))
        };
        text.push_str(&format!("  simulated stations    {all}\n"));
        text.push_str(&format!(
            "\nTry, in another terminal:\n\n  {program} stations{api}\n  {program} trace --all{api}\n  {program} send {first} RemoteStartTransaction '{{\"idTag\":\"A1\"}}'{api}\n  \
             {program} send {first} GetConfiguration{api}\n"
        ));
        if settings.demo > 1 {
            let second = station_id(2);
            text.push_str(&format!("  {program} send {second} Reset '{{\"type\":\"OnIdle\"}}'{api}\n"));
        }
        text.push_str(&format!("  {program} transactions{api}\n"));
    } else {
        text.push_str(&format!(
            "\nNext: point a station at the address above, or start again with --demo 5; in another terminal:\n\n  {program} stations{api}\n  \
             {program} trace --all{api}\n"
        ));
    }
    text
}

/// The address at which this machine reaches what listens there.
fn near(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            [127, 0, 0, 1].into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Engine;

    #[test]
    fn the_commands_to_copy_find_the_process() {
        let mut settings = Settings { demo: 5, ..Settings::default() };
        let mut addresses = Addresses {
            stations: Some(settings.listen),
            api: Some(settings.api_listen),
            admin: settings.admin_listen,
            bus: None,
        };
        let usual = text("switchboard", Role::Run, &settings, &addresses);
        assert!(usual.contains("switchboard stations\n") && usual.contains("DEMO001 to DEMO005"), "{usual}");
        assert!(usual.contains("ws://127.0.0.1:8180/ocpp/STATION"), "{usual}");
        addresses.api = Some(([0, 0, 0, 0], 9).into());
        settings.demo = 1;
        let other = text("switchboard", Role::Run, &settings, &addresses);
        assert!(other.contains("switchboard stations --api 127.0.0.1:9\n"), "{other}");
        let by_path = text("target/release/switchboard", Role::Run, &settings, &addresses);
        assert!(
            by_path.contains("  target/release/switchboard transactions --api 127.0.0.1:9\n"),
            "{by_path}"
        );
        assert!(!by_path.contains("  switchboard "), "{by_path}");
        let gateway = text("switchboard", Role::Gateway, &settings, &Addresses { api: None, ..addresses });
        assert!(gateway.contains("switchboard trace --all --api 127.0.0.1:8182\n"), "{gateway}");
        assert!(gateway.contains("switchboard worker with the same"), "{gateway}");
        settings.bus = BusPlace::Broker(Engine::Mqtt, vec!["mqtt://127.0.0.1:1883?mode=bare".to_owned()]);
        let bare = text("switchboard", Role::Gateway, &settings, &Addresses { api: None, ..addresses });
        assert!(!bare.contains("switchboard worker") && bare.contains("STATION/in"), "{bare}");
    }
}
