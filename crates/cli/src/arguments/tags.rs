//! `switchboard tags`.

use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Who may charge.
#[derive(Args, Debug)]
pub(crate) struct Tags {
    /// What to do; without it: list
    #[command(subcommand)]
    pub(crate) action: Option<TagsAction>,
    /// Which to list
    #[command(flatten)]
    pub(crate) list: ListTags,
}

/// What to do with tags.
#[derive(Debug, Subcommand)]
pub(crate) enum TagsAction {
    /// List tags
    #[command(
        after_help = "Examples:\n  switchboard tags list\n  switchboard tags list --status blocked\n  switchboard tags list --group fleet --json"
    )]
    List(ListTags),
    /// Register a tag, in place of what was known of it
    #[command(
        after_help = "Examples:\n  switchboard tags add A1\n  switchboard tags add A1 --group fleet --expires 2027-01-01\n  \
        switchboard tags add DE8ACC123456 --type eMAID\n\n\
        Tags of one group may end what another of it began. Upper and lower case are the same."
    )]
    Add(AddTag),
    /// Bar a tag; one that is not registered is registered as blocked
    #[command(
        after_help = "Examples:\n  switchboard tags block A1\n  switchboard tags block LOST-CARD --json"
    )]
    Block(OneTag),
    /// Let a tag charge again that was barred
    #[command(after_help = "Examples:\n  switchboard tags unblock A1")]
    Unblock(OneTag),
    /// Remove a tag from the register
    #[command(after_help = "Examples:\n  switchboard tags remove A1")]
    Remove(OneTag),
    /// Register the tags of a CSV file: all, or none if anything is wrong with one
    #[command(
        after_help = "Examples:\n  switchboard tags import tags.csv\n  switchboard tags export | switchboard tags import -\n\n\
        The first line names the columns: tag, and any of group, expires, status and type. What is empty is not set.\n  \
        tag,group,expires,status\n  A1,fleet,2027-01-01,\n  B2,,,blocked"
    )]
    Import(ImportTags),
    /// Write all tags as CSV, as import reads it
    #[command(after_help = "Examples:\n  switchboard tags export > tags.csv")]
    Export,
    /// Show or switch the list of all tags that a station keeps itself, to authorise while it is offline
    #[command(
        after_help = "Examples:\n  switchboard tags lists\n  switchboard tags lists CP001 on\n  switchboard tags lists CP001\n  switchboard tags lists CP001 off\n\n\
        A list that is on is brought up to date whenever tags change, as soon as the station is there. Off empties it."
    )]
    Lists(TagLists),
}

/// Which tags to list.
#[derive(Args, Debug)]
pub(crate) struct ListTags {
    /// Only those of this status
    #[arg(long, value_enum)]
    pub(crate) status: Option<TagStatus>,
    /// Only those of this group
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// Only those with this in them
    #[arg(long, value_name = "TEXT")]
    pub(crate) containing: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How it stands with a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TagStatus {
    /// It may charge
    Accepted,
    /// It is barred
    Blocked,
    /// Its time is over
    Expired,
    /// It is no valid tag
    Invalid,
}

impl TagStatus {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Blocked => "Blocked",
            Self::Expired => "Expired",
            Self::Invalid => "Invalid",
        }
    }
}

/// Register a tag.
#[derive(Args, Debug)]
pub(crate) struct AddTag {
    /// What the station reads from the card or app, at most 36 characters (1.6: 20)
    pub(crate) tag: String,
    /// Its group, for example all cards of one customer
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// When it expires: a day, which begins at midnight UTC, or a time such as 2027-01-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// How it stands with it
    #[arg(long, value_enum, default_value = "accepted")]
    pub(crate) status: TagStatus,
    /// The only type of OCPP 2.x that it is valid in, for example ISO14443 or eMAID; otherwise any
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// One tag.
#[derive(Args, Debug)]
pub(crate) struct OneTag {
    /// The tag
    pub(crate) tag: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Tags of a file.
#[derive(Args, Debug)]
pub(crate) struct ImportTags {
    /// The CSV file, or - for standard input
    pub(crate) file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Lists that stations keep.
#[derive(Args, Debug)]
pub(crate) struct TagLists {
    /// The station's id; without it: all stations that have a list
    pub(crate) station: Option<String>,
    /// What to do
    #[arg(value_enum, default_value = "status", requires = "station")]
    pub(crate) switch: ListSwitch,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to do with a station's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListSwitch {
    /// Keep it up to date
    On,
    /// Empty it, and keep it no more
    Off,
    /// Show how it stands
    Status,
}
