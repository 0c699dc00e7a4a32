//! `switchboard transactions`.

use clap::{Args, Subcommand};

/// List transactions.
#[derive(Args, Debug)]
pub(crate) struct Transactions {
    /// What to do; without it: list
    #[command(subcommand)]
    pub(crate) action: Option<TransactionsAction>,
    /// Only those of this station
    #[arg(long)]
    pub(crate) station: Option<String>,
    /// Only those that this tag began or ended
    #[arg(long)]
    pub(crate) tag: Option<String>,
    /// Only those that have not ended
    #[arg(long)]
    pub(crate) open: bool,
    /// Only those that began since: a time, or a duration ago
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only those that began before: a time, or a duration ago
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// At most this many, the newest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
    /// Show drivers' tags and tokens
    #[arg(long)]
    pub(crate) show_personal: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print CSV
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}

/// What to do with transactions.
#[derive(Debug, Subcommand)]
pub(crate) enum TransactionsAction {
    /// Show one transaction with its meter values, events and oddities
    #[command(
        after_help = "Examples:\n  switchboard transactions show 59770001\n  switchboard transactions show 59770001 --json"
    )]
    Show {
        /// Its number, or the id that its station gave it
        id: String,
        /// Show drivers' tags and tokens
        #[arg(long)]
        show_personal: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}
