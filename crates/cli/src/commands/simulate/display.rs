//! How it goes, while it goes: a display on a terminal, lines or JSON otherwise.

use crate::{
    arguments::simulate::{Progress, Simulate},
    exit::Failure,
    output,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};
use switchboard_station::{Figures, Latencies, Population};

/// How often a line is written where there is no display.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows how it goes.
pub(super) struct Display {
    how: How,
    before: (Duration, Figures, Latencies),
}

enum How {
    Bar(ProgressBar),
    Lines { last: Option<Instant> },
    Json,
    Nothing,
}

impl Display {
    /// As the flags and the terminal will have it.
    pub(super) fn new(command: &Simulate, population: &Population) -> Self {
        let how = match command.progress {
            Progress::Auto if std::io::stderr().is_terminal() => {
                let lasts = command.lasts.or_else(|| population.lasts());
                let bar = match lasts {
                    Some(lasts) => ProgressBar::new(lasts.as_secs().max(1)),
                    None => ProgressBar::no_length(),
                };
                bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(4));
                let template = if lasts.is_some() {
                    "{elapsed_precise} {wide_bar:.cyan/blue} {percent}%\n{msg}"
                } else {
                    "{elapsed_precise} {spinner}\n{msg}"
                };
                // The templates are ours; a fault in them leaves the library's own.
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                How::Bar(bar)
            }
            Progress::Auto | Progress::Lines => How::Lines { last: None },
            Progress::Json => How::Json,
            Progress::None => How::Nothing,
        };
        Self { how, before: (Duration::ZERO, population.figures(), population.latencies()) }
    }

    /// Shows how it goes now.
    pub(super) fn show(&mut self, population: &Population, stopping: bool) -> Result<(), Failure> {
        if let How::Lines { last } = &mut self.how {
            let now = Instant::from(tokio::time::Instant::now());
            if last.is_some_and(|last| now.saturating_duration_since(last) < LINE_EVERY) && !stopping {
                return Ok(());
            }
            *last = Some(now);
        }
        if matches!(self.how, How::Nothing) {
            return Ok(());
        }
        let (age, hours) = population.age();
        let (figures, latencies) = (population.figures(), population.latencies());
        let (before_age, before, before_latencies) = &self.before;
        let seconds = age.saturating_sub(*before_age).as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "calls of a few seconds")]
        let rate = figures.calls.saturating_sub(before.calls) as f64 / seconds;
        let recent = latencies.since(before_latencies);
        let millis = |share| recent.quantile(share).map(|latency| latency.as_secs_f64() * 1000.0);
        let shown = |share| millis(share).map_or_else(|| "-".to_owned(), |millis| format!("{millis:.1}"));
        // Said as long as it happens.
        let failing = population
            .last_failure()
            .filter(|_| figures.failures > before.failures)
            .map_or_else(String::new, |why| format!("\n  connections fail: {}", output::printable(&why)));
        let text = || {
            let errors = figures.refused + figures.unanswered + figures.given_up;
            format!(
                "{} of {} connected, {} charging, {rate:.0} calls/s, p50 {} ms, p99 {} ms, {} kWh, {} errors, hour {hours:.1}{}",
                grouped(figures.connected),
                grouped(population.len() as u64),
                grouped(figures.charging),
                shown(0.5),
                shown(0.99),
                kwh(figures.energy_wh),
                grouped(errors),
                if stopping { ", ending" } else { "" },
            ) + &failing
        };
        match &self.how {
            How::Bar(bar) => {
                bar.set_position(age.as_secs());
                bar.set_message(text());
            }
            How::Lines { .. } => output::note(text())?,
            How::Json => output::line(
                json!({
                    "seconds": age.as_secs_f64(),
                    "hours": hours,
                    "connected": figures.connected,
                    "charging": figures.charging,
                    "callsPerSecond": rate,
                    "p50Ms": millis(0.5),
                    "p99Ms": millis(0.99),
                    "energyWh": figures.energy_wh,
                    "transactions": figures.started,
                    "refused": figures.refused,
                    "unanswered": figures.unanswered,
                    "givenUp": figures.given_up,
                    "failedConnections": figures.failures,
                    "stopping": stopping,
                })
                .to_string(),
            )?,
            How::Nothing => {}
        }
        self.before = (age, figures, latencies);
        Ok(())
    }

    /// Says something beside.
    pub(super) fn note(&self, text: &str) -> Result<(), Failure> {
        match &self.how {
            How::Bar(bar) => bar.println(text),
            _ => output::note(text)?,
        }
        Ok(())
    }

    /// Takes the display away.
    pub(super) fn end(&self) {
        if let How::Bar(bar) = &self.how {
            bar.finish_and_clear();
        }
    }
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
    fn numbers_are_for_people() {
        assert_eq!(
            (grouped(0), grouped(999), grouped(1_234_567)),
            ("0".into(), "999".into(), "1,234,567".into())
        );
        assert_eq!(kwh(1_234_567), "1,234.567");
        assert_eq!(duration(Duration::from_millis(1500)), "1.5 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(duration(Duration::from_secs(7300)), "2 h 1 min");
    }
}
