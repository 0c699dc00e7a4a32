//! What the system lets the process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Each station is a file descriptor, and the soft limit is 1024 on most systems, for the sake of programs that use
/// `select`. This one does not, so it takes what the hard limit allows.
pub(crate) fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => info!(from = current, to = maximum, "limit of open files raised"),
        Err(error) => warn!(current, maximum, %error, "the limit of open files could not be raised"),
    }
}
