//! Software of others that tests run, installed by `cargo xtask tools --install`.
//!
//! A test that needs some asks here. Where it is missing the test is skipped, which is said on standard error and, when
//! `cargo xtask test` runs it, noted in the list that the closing table counts; with `--install` it fails instead.

use anyhow::{Result, bail};
use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The Python that has the packages of `xtask/tools/requirements.txt`, or none if `test` has to be skipped.
///
/// # Errors
/// It is missing, and the tests were told that it is there.
pub fn python(test: &str) -> Result<Option<PathBuf>> {
    let python = root().join(".tools/venv/bin/python");
    // The copy of the list is written when everything is installed.
    let is_here = root().join(".tools/venv/requirements.txt").is_file() && python.is_file();
    if is_here { Ok(Some(python)) } else { missing(test, "the PyPI packages") }
}

/// The folder that holds `node_modules` with the packages of `xtask/tools/package.json`, or none if `test` has to be
/// skipped.
///
/// # Errors
/// It is missing, and the tests were told that it is there.
pub fn node_packages(test: &str) -> Result<Option<PathBuf>> {
    let folder = root().join(".tools/node");
    if folder.join("node_modules/ocpp-rpc/package.json").is_file() {
        Ok(Some(folder))
    } else {
        missing(test, "the npm packages")
    }
}

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.ancestors().nth(2).unwrap_or(folder).to_path_buf()
}

/// Notes that `test` has to be skipped; an error if the tests were told that everything is there.
pub(crate) fn missing(test: &str, what: &str) -> Result<Option<PathBuf>> {
    if env::var_os("TESTKIT_TOOLS_REQUIRED").is_some_and(|value| value == "1") {
        bail!("{test} needs {what}: cargo xtask tools --install");
    }
    note_skipped(test, what)?;
    Ok(None)
}

fn note_skipped(test: &str, what: &str) -> Result<()> {
    eprintln!("{test}: SKIPPED for want of {what}; cargo xtask tools --install");
    if let Some(file) = env::var_os("TESTKIT_SKIPPED_FILE") {
        writeln!(OpenOptions::new().append(true).create(true).open(file)?, "{test}: needs {what}")?;
    }
    Ok(())
}

/// A file system of its own and of this size, at a folder; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one; none if `test` has to be skipped, since this user or this container may not mount. That is never a
    /// failure: no installation gives the right.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn of_kilobytes(test: &str, size: u32) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let options = format!("size={size}k,mode=0700");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if mounted {
            return Ok(Some(Self(folder)));
        }
        note_skipped(test, "the right to mount a file system")?;
        Ok(None)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it up with a file.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn fill(&self) -> Result<()> {
        let mut file = std::fs::File::create(self.0.path().join("filler"))?;
        while file.write_all(&[b'x'; 4096]).is_ok() {}
        Ok(())
    }

    /// Takes that file away again.
    ///
    /// # Errors
    /// It was not there.
    pub fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.0.path().join("filler"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is just being killed may still have files there.
        drop(std::process::Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}
