//! `switchboard journal`.

use clap::{Args, Subcommand};

/// What `--help` adds.
pub(crate) const EXAMPLES: &str = "Examples:\n  switchboard journal\n  switchboard journal --show-personal --json\n  switchboard journal settle 17\n\n\
    While processing is away calls that need no answer of it are answered and kept, to be processed when it is back. Those that it then\n\
    refuses are listed here, since their stations were told that all is well.";

/// Calls that were answered before they were processed.
#[derive(Args, Debug)]
pub(crate) struct Journal {
    /// What to do; without it: list
    #[command(subcommand)]
    pub(crate) action: Option<JournalAction>,
    /// Show the calls as they were sent, with drivers' tags and tokens
    #[arg(long)]
    pub(crate) show_personal: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with the journal.
#[derive(Debug, Subcommand)]
pub(crate) enum JournalAction {
    /// Remove a call that was refused, once it has been dealt with
    #[command(after_help = "Examples:\n  switchboard journal settle 17")]
    Settle {
        /// Its number
        id: u64,
    },
}
