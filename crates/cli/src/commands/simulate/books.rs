//! The stations' books beside the server's.

use crate::{
    client::{Client, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde_json::{Value, json};
use std::{collections::HashMap, net::ToSocketAddrs};
use switchboard_station::{Books, Population};

/// The most that the API gives of one station.
const LIMIT: usize = 1000;
/// How many differences are shown.
const SHOWN_MAX: usize = 20;

/// The server whose books are compared.
pub(super) struct Server(Client);

/// What the comparison brought.
#[derive(Debug, Default)]
pub(super) struct Compared {
    transactions: u64,
    stations_wh: u64,
    server_wh: f64,
    /// Older than what both keep ready, and not compared.
    left_out: u64,
    /// What is not the same, in sentences.
    pub(super) differences: Vec<String>,
}

impl Server {
    /// The one behind this URL.
    pub(super) fn new(url: &str, settings: &Settings) -> Result<Self, Failure> {
        let wrong = || {
            Failure::new(
                Exit::Data,
                format!(
                    "--check wants the address of an API, for example http://127.0.0.1:8181, and not {url}"
                ),
            )
        };
        let host = url.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
        let address = host.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(wrong)?;
        Ok(Self(Client::at(address, settings)))
    }

    /// Compares what every station of the population sold.
    pub(super) async fn compare(&self, population: &Population) -> Result<Compared, Failure> {
        let mut compared = Compared::default();
        for (station, _, _, books) in population.books() {
            let path = format!("/v1/transactions?station={}&limit={LIMIT}", segment(station));
            let answer = self.0.request(Method::GET, &path, None).await?;
            let list = answer.value["transactions"].as_array().cloned().unwrap_or_default();
            compared.station(station, &books, &list, population.begin_ms());
        }
        Ok(compared)
    }
}

impl Compared {
    fn station(&mut self, station: &str, books: &Books, list: &[Value], begin_ms: i64) {
        let mut there: HashMap<&str, Vec<&Value>> = HashMap::new();
        for one in list {
            there.entry(one["transactionId"].as_str().unwrap_or_default()).or_default().push(one);
        }
        self.left_out += books.forgotten;
        let mut differ = |text: String| self.differences.push(format!("{station}: {text}"));
        for own in books.transactions.values() {
            let Some(id) = own.id.as_deref() else {
                differ(format!("a transaction of {} Wh never got an id", own.energy_wh()));
                continue;
            };
            self.transactions += 1;
            self.stations_wh += own.energy_wh();
            let found = there.remove(id).unwrap_or_default();
            let [found] = found.as_slice() else {
                differ(format!(
                    "transaction {id} of {} Wh is in the server's books {} times",
                    own.energy_wh(),
                    found.len()
                ));
                continue;
            };
            let energy = found["energyWh"].as_f64();
            self.server_wh += energy.unwrap_or_default();
            #[expect(clippy::cast_precision_loss, reason = "nobody charges 2^53 Wh")]
            let equal = energy.is_some_and(|energy| (energy - own.energy_wh() as f64).abs() < 0.000_5);
            if !equal {
                let energy = energy.map_or_else(|| "unknown".to_owned(), |energy| format!("{energy} Wh"));
                differ(format!(
                    "transaction {id}: {} Wh sold, {energy} in the server's books",
                    own.energy_wh()
                ));
            }
            if own.ended != (found["state"] == "ended") {
                differ(format!(
                    "transaction {id} has {}ended, and the server says {}",
                    if own.ended { "" } else { "not " },
                    found["state"]
                ));
            }
        }
        // What the server has beside that and began in our time was never sold; what is older is of another run.
        for (id, rest) in there {
            for one in rest {
                let started = one["startedAt"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
                if started.is_some_and(|started| started.as_millisecond() >= begin_ms) && books.forgotten == 0
                {
                    differ(format!("the server's transaction {id} was never sold"));
                }
            }
        }
    }

    /// For `--json`.
    pub(super) fn json(&self) -> Value {
        json!({
            "transactions": self.transactions,
            "stationsWh": self.stations_wh,
            "serverWh": self.server_wh,
            "leftOut": self.left_out,
            "differences": self.differences,
        })
    }

    /// For people.
    pub(super) fn print(&self) -> Result<(), Failure> {
        if self.differences.is_empty() {
            output::line(format!(
                "the books agree: {} transactions, {} kWh on both sides",
                super::display::grouped(self.transactions),
                super::display::kwh(self.stations_wh),
            ))?;
        } else {
            output::line(format!("\nthe books differ in {} places:", self.differences.len()))?;
            for difference in self.differences.iter().take(SHOWN_MAX) {
                output::line(format!("  {}", output::printable(difference)))?;
            }
        }
        if self.left_out > 0 {
            output::note(format!("{} older transactions were not compared", self.left_out))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_station::Transaction;

    fn books(list: &[(&str, u64)]) -> Books {
        let mut books = Books::default();
        for (number, (id, energy_wh)) in (0..).zip(list) {
            books.transactions.insert(
                number,
                Transaction {
                    id: Some((*id).to_owned()),
                    connector: 1,
                    token: "A".to_owned(),
                    start_wh: 100,
                    meter_wh: 100 + energy_wh,
                    ended: true,
                    settled: true,
                },
            );
        }
        books
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let row = |id: &str, energy: f64, state: &str| json!({ "transactionId": id, "energyWh": energy, "state": state, "startedAt": "2026-01-01T00:00:00Z" });
        let begin = "2025-12-31T00:00:00Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
        for (list, differences) in [
            (vec![row("1", 10.0, "ended"), row("2", 20.0, "ended")], 0),
            (vec![row("1", 10.0, "ended")], 1),
            (vec![row("1", 10.0, "ended"), row("2", 20.0, "ended"), row("2", 20.0, "ended")], 1),
            (vec![row("1", 10.0, "ended"), row("2", 21.0, "ended")], 1),
            (vec![row("1", 10.0, "ended"), row("2", 20.0, "running")], 1),
            (vec![row("1", 10.0, "ended"), row("2", 20.0, "ended"), row("3", 1.0, "ended")], 1),
        ] {
            let mut compared = Compared::default();
            compared.station("A", &books(&[("1", 10), ("2", 20)]), &list, begin);
            assert_eq!(compared.differences.len(), differences, "{:?}", compared.differences);
        }
        let mut compared = Compared::default();
        let older = begin + 86_400_000 * 400;
        compared.station("A", &books(&[]), &[row("3", 1.0, "ended")], older);
        assert_eq!(compared.differences, Vec::<String>::new(), "of another run");
    }
}
