//! What servers leave behind whose owner could not clean up.
//!
//! A server that all tests of a process share is never dropped, and one whose test is killed is not either. So a shell
//! waits for the end of this process, however that comes: then its standard input ends, and it removes the folders.

use anyhow::{Context, Result};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Each line names a folder. The servers end with this process, and have a moment to.
const WAIT: &str =
    r#"while IFS= read -r folder; do set -- "$@" "$folder"; done; sleep 1; test $# -eq 0 || rm -rf -- "$@""#;

static WAITING: Mutex<Option<Child>> = Mutex::new(None);

/// Has this folder removed when this process has ended.
///
/// # Errors
/// There is no shell.
pub(super) fn remove_at_the_end(folder: &Path) -> Result<()> {
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let shell = match &mut *waiting {
        Some(shell) => shell,
        none => {
            let mut command = Command::new("sh");
            command.args(["-c", WAIT]);
            // Whatever ends us, an interrupt from the keyboard say, must not end it.
            command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            none.insert(command.spawn().context("cannot start a shell")?)
        }
    };
    let line = format!("{}\n", folder.display());
    shell.stdin.as_mut().context("the shell has no input")?.write_all(line.as_bytes())?;
    Ok(())
}
