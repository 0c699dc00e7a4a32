//! What a newcomer reads first: where to look and what to try next.

use super::{demo::station_id, ports::Addresses};
use crate::{
    output,
    settings::{LogFormat, Settings},
};
use std::net::SocketAddr;

/// Shows it, where people read the output.
pub(crate) fn show(settings: &Settings, addresses: &Addresses) -> std::io::Result<()> {
    if settings.log_format == LogFormat::Json { Ok(()) } else { output::line(text(settings, addresses)) }
}

fn text(settings: &Settings, addresses: &Addresses) -> String {
    // A command finds the process by itself where everything is as usual.
    let api = if addresses.api == Settings::default().api_listen {
        String::new()
    } else {
        format!(" --api {}", near(addresses.api))
    };
    let mut text = format!(
        "\nswitchboard {} is running. Ctrl-C stops it.\n\n  stations connect to   ws://{}/ocpp/STATION\n  API                   http://{}/v1/stations\n  \
         health and metrics    http://{}/metrics\n  data                  {}\n",
        env!("CARGO_PKG_VERSION"),
        addresses.stations,
        near(addresses.api),
        near(addresses.admin),
        settings.data_dir.display(),
    );
    if settings.demo > 0 {
        let first = station_id(1);
        let all = if settings.demo == 1 {
            first.clone()
        } else {
            format!("{first} to {}", station_id(settings.demo))
        };
        text.push_str(&format!("  simulated stations    {all}\n"));
        text.push_str(&format!(
            "\nTry, in another terminal:\n\n  switchboard stations{api}\n  switchboard trace --all{api}\n  switchboard send {first} RemoteStartTransaction '{{\"idTag\":\"A1\"}}'{api}\n  \
             switchboard send {first} GetConfiguration{api}\n"
        ));
        if settings.demo > 1 {
            let second = station_id(2);
            text.push_str(&format!("  switchboard send {second} Reset '{{\"type\":\"OnIdle\"}}'{api}\n"));
        }
        text.push_str(&format!("  switchboard transactions{api}\n"));
    } else {
        text.push_str(&format!(
            "\nNext: point a station at the address above, or start again with --demo 5; in another terminal:\n\n  switchboard stations{api}\n  \
             switchboard trace --all{api}\n"
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

    #[test]
    fn the_commands_to_copy_find_the_process() {
        let mut settings = Settings { demo: 5, ..Settings::default() };
        let mut addresses =
            Addresses { stations: settings.listen, api: settings.api_listen, admin: settings.admin_listen };
        let usual = text(&settings, &addresses);
        assert!(usual.contains("switchboard stations\n") && usual.contains("DEMO001 to DEMO005"), "{usual}");
        assert!(usual.contains("ws://127.0.0.1:8180/ocpp/STATION"), "{usual}");
        addresses.api = ([0, 0, 0, 0], 9).into();
        settings.demo = 1;
        let other = text(&settings, &addresses);
        assert!(other.contains("switchboard stations --api 127.0.0.1:9\n"), "{other}");
    }
}
