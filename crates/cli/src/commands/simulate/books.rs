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

/// The most that the API gives in one answer.
const LIMIT: usize = 1000;
/// How far the server's clock may be ahead of ours.
const AHEAD_MS: i64 = 86_400_000;
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
    /// Older than what a station remembers one by one, and compared as a sum.
    summed: u64,
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
        let begin_ms = population.begin_ms();
        let (age, _) = population.age();
        let end_ms = begin_ms + i64::try_from(age.as_millis()).unwrap_or(0) + AHEAD_MS;
        for (station, _, _, books) in population.books() {
            let list = self.transactions(station, begin_ms, end_ms).await?;
            compared.station(station, &books, &list, begin_ms);
        }
        Ok(compared)
    }

    /// All transactions of a station that began between these times. What does not fit into one answer is asked for in
    /// halves, so that nothing that comes meanwhile can push anything from one page to another.
    async fn transactions(&self, station: &str, begin_ms: i64, end_ms: i64) -> Result<Vec<Value>, Failure> {
        let (mut all, mut spans) = (Vec::new(), vec![(begin_ms, end_ms)]);
        while let Some((since, until)) = spans.pop() {
            let time =
                |ms| jiff::Timestamp::from_millisecond(ms).map(|time| time.to_string()).unwrap_or_default();
            let path = format!(
                "/v1/transactions?station={}&since={}&until={}&limit={LIMIT}",
                segment(station),
                time(since),
                time(until)
            );
            let mut answer = self.0.request(Method::GET, &path, None).await?;
            let Value::Array(list) = answer.value["transactions"].take() else { continue };
            if list.len() < LIMIT || until - since <= 1 {
                all.extend(list);
                continue;
            }
            let middle = since + (until - since) / 2;
            spans.extend([(since, middle), (middle, until)]);
        }
        Ok(all)
    }
}

impl Compared {
    fn station(&mut self, station: &str, books: &Books, list: &[Value], begin_ms: i64) {
        let mut there: HashMap<&str, Vec<&Value>> = HashMap::new();
        for one in list {
            there.entry(one["transactionId"].as_str().unwrap_or_default()).or_default().push(one);
        }
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
        // What the server has beside that and began in our time; what is older is of another run.
        let began_here = |one: &&Value| {
            let started = one["startedAt"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            started.is_some_and(|started| started.as_millisecond() >= begin_ms)
        };
        let mut rest: Vec<&Value> = there.into_values().flatten().filter(began_here).collect();
        if books.forgotten == 0 {
            rest.sort_by_key(|one| one["id"].as_i64());
            for one in rest {
                differ(format!("the server's transaction {} was never sold", one["transactionId"]));
            }
            return;
        }
        let energy: f64 = rest.iter().filter_map(|one| one["energyWh"].as_f64()).sum();
        #[expect(clippy::cast_precision_loss, reason = "nobody charges 2^53 Wh")]
        let equal = (energy - books.forgotten_wh as f64).abs() < 0.000_5;
        if rest.len() as u64 != books.forgotten || !equal {
            differ(format!(
                "{} older transactions of {} Wh, {} of {energy} Wh in the server's books",
                books.forgotten,
                books.forgotten_wh,
                rest.len()
            ));
        }
        self.transactions += books.forgotten;
        self.summed += books.forgotten;
        self.stations_wh += books.forgotten_wh;
        self.server_wh += energy;
    }

    /// For `--json`.
    pub(super) fn json(&self) -> Value {
        json!({
            "transactions": self.transactions,
            "stationsWh": self.stations_wh,
            "serverWh": self.server_wh,
            "comparedAsSum": self.summed,
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
        if self.summed > 0 {
            output::note(format!("the oldest {} were compared as one sum for each station", self.summed))?;
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
        for (energy, differences) in [(30, 0), (31, 1)] {
            let forgotten = Books { forgotten: 2, forgotten_wh: energy, ..books(&[("1", 10)]) };
            let list = [row("1", 10.0, "ended"), row("2", 20.0, "ended"), row("3", 10.0, "ended")];
            let mut compared = Compared::default();
            compared.station("A", &forgotten, &list, begin);
            assert_eq!(compared.differences.len(), differences, "{:?}", compared.differences);
            assert_eq!((compared.transactions, compared.stations_wh), (3, energy + 10));
        }
        let mut compared = Compared::default();
        let older = begin + 86_400_000 * 400;
        compared.station("A", &books(&[]), &[row("3", 1.0, "ended")], older);
        assert_eq!(compared.differences, Vec::<String>::new(), "of another run");
    }
}
