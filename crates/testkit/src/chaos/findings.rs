//! What a cell has cost.

use super::Plan;
use super::books::Audit;
use super::cell::Allowed;
use super::fleet::Tally;
use super::orders::Judged;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// What was counted in one cell.
#[derive(Clone, Debug)]
pub struct Findings {
    plan: Plan,
    /// Answers and transactions that were counted.
    answers: u64,
    transactions: usize,
    commands: usize,
    /// How long what befell them lasted.
    lasted: Duration,
    /// Answers a second, from the fault on.
    rate: f64,
    /// How many connections ended, by close code.
    closed: BTreeMap<u16, u64>,
    lost: u64,
    refused: u64,
    /// Of these, calls about money.
    refused_money: u64,
    /// Calls that were refused, or whose connection was closed, before their deadline.
    hasty: usize,
    doubled: usize,
    wrong: usize,
    without_outcome: usize,
    silent: usize,
    unknown: usize,
    invented: usize,
    gap: Duration,
    gap_of: String,
    /// Examples of each, for people.
    examples: Vec<String>,
}

/// Actions that are never refused: the station would forget what it is to be paid for.
const MONEY: [&str; 3] = ["StartTransaction", "MeterValues", "StopTransaction"];
/// Examples that are shown of each sort.
const SHOWN_MAX: usize = 5;

impl Findings {
    pub(super) fn new(
        plan: &Plan,
        tally: &Tally,
        judged: &Judged,
        audit: &Audit,
        unfinished: usize,
        (lasted, rate): (Duration, f64),
    ) -> Self {
        let mut examples = Vec::new();
        let mut show = |what: &str, all: &[String]| {
            examples.extend(all.iter().take(SHOWN_MAX).map(|one| format!("{what}: {one}")));
        };
        show("lost", &audit.lost);
        show("doubled", &audit.doubled);
        show("wrong in the books", &audit.wrong);
        show("wrong on the wire", &tally.wrong);
        show("invented", &judged.invented);
        show("before its deadline", &tally.hasty);
        if tally.unanswered > 0 {
            examples.push(format!("{} calls had no answer within 35 s", tally.unanswered));
        }
        if unfinished > 0 {
            examples.push(format!("{unfinished} stations could not end their transactions"));
        }
        examples.extend(tally.refused.iter().map(|(what, count)| format!("refused {count} times: {what}")));
        examples.extend(tally.closed.iter().map(|(code, count)| format!("closed {count} times with {code}")));
        Self {
            plan: plan.clone(),
            answers: tally.answers,
            transactions: audit.transactions,
            commands: judged.sent,
            lasted,
            rate,
            closed: tally.closed.clone(),
            lost: audit.lost.len() as u64 + tally.unanswered + unfinished as u64,
            refused: tally.refused.values().sum(),
            refused_money: tally
                .refused
                .iter()
                .filter(|(what, _)| MONEY.iter().any(|action| what.starts_with(action)))
                .map(|(_, count)| count)
                .sum(),
            hasty: tally.hasty.len(),
            doubled: audit.doubled.len() + judged.doubled,
            wrong: audit.wrong.len() + tally.wrong.len(),
            without_outcome: judged.without_outcome,
            silent: judged.silent,
            unknown: judged.unknown,
            invented: judged.invented.len(),
            gap: tally.longest.0,
            gap_of: tally.longest.1.clone(),
            examples,
        }
    }

    /// What is not as promised, whatever the speed of the machine; empty if all is.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let allowed = self.allowed();
        let mut broken = Vec::new();
        let mut none = |what: &str, count: u64| {
            if count > 0 {
                broken.push(format!("{count} {what}"));
            }
        };
        none("calls lost", self.lost);
        none("effects doubled", self.doubled as u64);
        none("wrong or late answers", self.wrong as u64);
        none("commands without an outcome", self.without_outcome as u64);
        none("invented outcomes", self.invented as u64);
        for (code, count) in &self.closed {
            if !allowed.closed.contains(code) {
                none(&format!("sockets closed with {code}"), *count);
            }
        }
        none("calls refused or closed before their deadline", self.hasty as u64);
        none("calls about money refused", self.refused_money);
        if !allowed.refused {
            none("calls refused", self.refused);
        }
        if !allowed.silent {
            none("commands lost without a word", self.silent as u64);
        }
        if self.transactions == 0 || self.commands == 0 {
            broken.push("nothing happened at all".to_owned());
        }
        broken
    }

    fn allowed(&self) -> Allowed {
        self.plan.cell.allowed(self.plan.bus, self.lasted)
    }

    /// Whether all is as promised, the longest gap included.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let most = self.allowed().gap_max.filter(|_| self.plan.measured);
        self.broken().is_empty() && most.is_none_or(|most| self.gap <= most)
    }

    /// One line for whoever looks on.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{} {} {}: {} answers ({:.0}/s), {} transactions, {} commands; closed {}, lost {}, refused {}, doubled {}, wrong {}, \
             without outcome {}, silent {}, unknown {}, invented {}; longest gap {:.2} s ({})",
            if self.is_good() { "ok    " } else { "FAILED" },
            self.plan.cell.name,
            self.plan.bus.name(),
            self.answers,
            self.rate,
            self.transactions,
            self.commands,
            self.closed.values().sum::<u64>(),
            self.lost,
            self.refused,
            self.doubled,
            self.wrong,
            self.without_outcome,
            self.silent,
            self.unknown,
            self.invented,
            self.gap.as_secs_f64(),
            self.gap_of,
        )
    }

    /// Everything that helps to find the cause, and how to run it alone.
    #[must_use]
    pub fn details(&self) -> String {
        format!(
            "{}\n{}\n{}\nalone: cargo xtask chaos --cell {} --bus {} --stations {} --seed {}\n",
            self.line(),
            self.broken().join(", "),
            self.examples.join("\n"),
            self.plan.cell.name,
            self.plan.bus.name(),
            self.plan.stations,
            self.plan.seed,
        )
    }

    /// As it is kept and as the table is made of it.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "cell": self.plan.cell.name, "bus": self.plan.bus.name(), "good": self.is_good(),
            "stations": self.plan.stations, "seed": self.plan.seed,
            "build": self.plan.build, "commit": self.plan.commit,
            "answers": self.answers, "transactions": self.transactions, "commands": self.commands,
            "rate": self.rate.round(), "closed": self.closed.values().sum::<u64>(),
            "codes": self.closed.keys().map(ToString::to_string).collect::<Vec<_>>().join(" "), "lost": self.lost, "refused": self.refused,
            "doubled": self.doubled, "wrong": self.wrong, "withoutOutcome": self.without_outcome, "silent": self.silent,
            "unknown": self.unknown, "invented": self.invented, "gapMs": self.gap.as_millis() as u64,
            "broken": self.broken(),
        })
    }
}
