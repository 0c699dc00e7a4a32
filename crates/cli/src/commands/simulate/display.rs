//! How it goes, while it goes: a display on a terminal, lines or JSON otherwise.

use crate::{
    arguments::simulate::{Progress, Simulate},
    exit::Failure,
    output,
};
use serde_json::json;
use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};
use switchboard_station::{Figures, Latencies, Population};

/// How often a line is written where there is no display.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How long it is said that connections fail, after one has.
const FAILING: Duration = Duration::from_secs(10);
/// The width of a terminal that does not tell its own.
const WIDTH: usize = 80;
/// The widest that a display is of use.
const WIDTH_MAX: usize = 100;

/// Shows how it goes.
pub(super) struct Display {
    how: How,
    scenario: String,
    lasts: Option<Duration>,
    before: (Duration, Figures, Latencies),
    /// When a connection failed last.
    failed: Option<Duration>,
}

enum How {
    Screen { drawn: Vec<String> },
    Lines { last: Option<Instant> },
    Json,
    Nothing,
}

/// How it goes at one moment.
struct Now {
    age: Duration,
    hours: f64,
    figures: Figures,
    rate: f64,
    recent: Latencies,
    /// Why connections fail, if they do.
    failing: Option<String>,
    /// How many stations are left, once they are being switched off.
    left: Option<usize>,
}

impl Display {
    /// As the flags and the terminal will have it.
    pub(super) fn new(command: &Simulate, population: &Population) -> Self {
        let how = match command.progress {
            Progress::Auto if io::stderr().is_terminal() => How::Screen { drawn: Vec::new() },
            Progress::Auto | Progress::Lines => How::Lines { last: None },
            Progress::Json => How::Json,
            Progress::None => How::Nothing,
        };
        Self {
            how,
            scenario: command.scenario.clone(),
            lasts: command.lasts,
            before: (Duration::ZERO, population.figures(), population.latencies()),
            failed: None,
        }
    }

    /// Shows how it goes now.
    pub(super) fn show(&mut self, population: &Population, stopping: bool) -> Result<(), Failure> {
        match &mut self.how {
            How::Nothing => return Ok(()),
            How::Lines { last } => {
                let now = Instant::from(tokio::time::Instant::now());
                if last.is_some_and(|last| now.saturating_duration_since(last) < LINE_EVERY) && !stopping {
                    return Ok(());
                }
                *last = Some(now);
            }
            How::Screen { .. } | How::Json => {}
        }
        let now = self.look(population, stopping);
        match &self.how {
            How::Screen { .. } => self.draw(&now, population)?,
            How::Json => output::line(now.json(population.speed()))?,
            _ => output::note(now.line(population))?,
        }
        self.before = (now.age, now.figures, population.latencies());
        Ok(())
    }

    fn look(&mut self, population: &Population, stopping: bool) -> Now {
        let (age, hours) = population.age();
        let figures = population.figures();
        let (before_age, before, before_latencies) = &self.before;
        let seconds = age.saturating_sub(*before_age).as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "calls of a few seconds")]
        let rate = figures.calls.saturating_sub(before.calls) as f64 / seconds;
        if figures.failures > before.failures {
            self.failed = Some(age);
        }
        let fails = self.failed.is_some_and(|failed| age.saturating_sub(failed) < FAILING);
        let short = figures.connected < population.len() as u64;
        Now {
            age,
            hours,
            figures,
            rate,
            recent: population.latencies().since(before_latencies),
            failing: population.last_failure().filter(|_| fails && short),
            left: stopping.then(|| population.running()),
        }
    }

    fn draw(&mut self, now: &Now, population: &Population) -> Result<(), Failure> {
        let width = width();
        let (of, share) = match (self.lasts, population.hours()) {
            (Some(lasts), _) => {
                (format!(" of {}", clock(lasts)), now.age.as_secs_f64() / lasts.as_secs_f64().max(1.0))
            }
            (None, Some(hours)) => (String::new(), now.hours / hours),
            (None, None) => (String::new(), f64::NAN),
        };
        let hours = match population.hours() {
            Some(hours) if self.lasts.is_none() => format!("hour {:.1} of {hours:.0}", now.hours.min(hours)),
            _ => format!("hour {:.1}", now.hours),
        };
        let times = population.speed();
        let speed = if times < 10.0 { format!("{times:.1}×") } else { format!("{times:.0}×") };
        let text = format!("{hours}, {}{of}, {speed}", clock(now.age));
        let name = output::printable(&self.scenario);
        let room = width.saturating_sub(name.chars().count() + text.chars().count() + 3);
        let head = if share.is_nan() || room < 8 {
            format!("{name}  {text}")
        } else {
            format!("{name} {} {text}", bar(share, room))
        };
        let mut lines = vec![
            head,
            format!("{}, {}", now.stations(population), now.latency()),
            format!("{} transactions, {}", grouped(now.figures.started), now.sold()),
        ];
        if let Some(left) = now.left {
            lines.push(format!("ending: {} have something to tell", stations(left)));
        }
        if let Some(why) = &now.failing {
            lines.push(format!("connections fail: {}", output::printable(why)));
        }
        self.redraw(lines, None)
    }

    /// Draws these lines in the place of those before, below a text that stays.
    fn redraw(&mut self, lines: Vec<String>, text: Option<&str>) -> Result<(), Failure> {
        let How::Screen { drawn } = &mut self.how else { return Ok(()) };
        let mut written = String::new();
        if let Some(text) = text {
            written += &over(drawn.len(), &[], WIDTH);
            written += text;
            written += "\r\n";
            drawn.clear();
        }
        written += &over(drawn.len(), &lines, width());
        *drawn = lines;
        let mut out = io::stderr().lock();
        out.write_all(written.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// Says something beside.
    pub(super) fn note(&mut self, text: &str) -> Result<(), Failure> {
        match &self.how {
            How::Screen { drawn } => {
                let lines = drawn.clone();
                self.redraw(lines, Some(text))
            }
            _ => Ok(output::note(text)?),
        }
    }

    /// Takes the display away.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        self.redraw(Vec::new(), None)
    }
}

impl Now {
    fn millis(&self, share: f64) -> Option<f64> {
        self.recent.quantile(share).map(|latency| latency.as_secs_f64() * 1000.0)
    }

    fn stations(&self, population: &Population) -> String {
        format!(
            "{} of {} connected, {} charging",
            grouped(self.figures.connected),
            grouped(population.len() as u64),
            grouped(self.figures.charging)
        )
    }

    fn latency(&self) -> String {
        let shown =
            |share| self.millis(share).map_or_else(|| "-".to_owned(), |millis| format!("{millis:.1} ms"));
        format!("{:.0} calls/s, p50 {}, p99 {}", self.rate, shown(0.5), shown(0.99))
    }

    fn sold(&self) -> String {
        let errors = self.figures.refused + self.figures.unanswered + self.figures.given_up;
        format!("{} kWh sold, {} errors", kwh(self.figures.energy_wh), grouped(errors))
    }

    fn line(&self, population: &Population) -> String {
        let left = self.left.map_or_else(String::new, |left| format!(", ending: {} left", stations(left)));
        let failing = self
            .failing
            .as_ref()
            .map_or_else(String::new, |why| format!("\n  connections fail: {}", output::printable(why)));
        let (stations, latency, sold) = (self.stations(population), self.latency(), self.sold());
        format!("{stations}, {latency}, {sold}, hour {:.1}{left}{failing}", self.hours)
    }

    fn json(&self, speed: f64) -> String {
        let figures = &self.figures;
        json!({
            "seconds": self.age.as_secs_f64(),
            "hours": self.hours,
            "speed": speed,
            "connected": figures.connected,
            "charging": figures.charging,
            "callsPerSecond": self.rate,
            "p50Ms": self.millis(0.5),
            "p99Ms": self.millis(0.99),
            "energyWh": figures.energy_wh,
            "transactions": figures.started,
            "refused": figures.refused,
            "unanswered": figures.unanswered,
            "givenUp": figures.given_up,
            "failedConnections": figures.failures,
            "stopping": self.left.is_some(),
            "running": self.left,
        })
        .to_string()
    }
}

/// Minutes and seconds, or with hours as well.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..3600 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
    }
}

fn stations(number: usize) -> String {
    if number == 1 { "1 station".to_owned() } else { format!("{} stations", grouped(number as u64)) }
}

/// How wide a line on standard error may be.
fn width() -> usize {
    let width = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if width == 0 { WIDTH } else { width.min(WIDTH_MAX) }
}

/// What to write so that these lines stand where `drawn` lines stood. The cursor is left at the beginning of the last one,
/// so that the ^C that a terminal writes there makes no further line, and is gone with the next drawing.
fn over(drawn: usize, lines: &[String], width: usize) -> String {
    let mut written = String::new();
    if drawn > 1 {
        written += &format!("\x1b[{}A", drawn - 1);
    }
    written += "\r\x1b[J";
    for (index, line) in lines.iter().enumerate() {
        written += if index > 0 { "\r\n" } else { "" };
        // The last column stays free: some terminals begin a new line with it.
        if line.chars().count() < width {
            written += line;
        } else {
            written.extend(line.chars().take(width.saturating_sub(2)));
            written.push('…');
        }
    }
    written += if lines.is_empty() { "" } else { "\r" };
    written
}

fn bar(share: f64, width: usize) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a line"
    )]
    let full = (share.clamp(0.0, 1.0) * width as f64) as usize;
    "█".repeat(full) + &"░".repeat(width - full)
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Watt-hours as kilowatt-hours.
pub(super) fn kwh(energy_wh: u64) -> String {
    format!("{}.{:03}", grouped(energy_wh / 1000), energy_wh % 1000)
}

/// A duration for people.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_drawn_is_drawn_over_whatever_was_typed_on_it() {
        let lines = ["one".to_owned(), "two and more".to_owned()];
        assert_eq!(over(0, &lines, 8), "\r\x1b[Jone\r\ntwo an…\r");
        assert_eq!(over(2, &lines, 80), "\x1b[1A\r\x1b[Jone\r\ntwo and more\r");
        assert_eq!(over(2, &[], 80), "\x1b[1A\r\x1b[J");
    }

    #[test]
    fn a_bar_fills_what_is_left_of_the_line() {
        for (share, drawn) in [(0.0, "░░░░"), (0.5, "██░░"), (1.0, "████"), (7.0, "████"), (f64::NAN, "░░░░")]
        {
            assert_eq!(bar(share, 4), drawn, "{share}");
        }
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(
            (grouped(0), grouped(999), grouped(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!(kwh(1_234_567), "1,234.567");
        assert_eq!(clock(Duration::from_secs(125)), "2:05");
        assert_eq!(clock(Duration::from_secs(7325)), "2:02:05");
        assert_eq!(duration(Duration::from_millis(1500)), "1.5 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(duration(Duration::from_secs(7300)), "2 h 1 min");
    }
}
