//! The segments of a ring: files whose names say their order and when they begin.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where a segment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// Higher numbers are newer.
    pub(crate) number: u64,
    /// When it was begun, in milliseconds since 1970: what is in older ones happened before.
    pub(crate) begun_ms: i64,
}

impl Place {
    pub(crate) fn new(folder: &Path, number: u64, begun_ms: i64) -> Self {
        Self { path: folder.join(format!("{number:010}-{begun_ms}.{EXTENSION}")), number, begun_ms }
    }

    fn of(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (number, begun_ms) = name.strip_suffix(EXTENSION)?.strip_suffix('.')?.split_once('-')?;
        Some(Self { number: number.parse().ok()?, begun_ms: begun_ms.parse().ok()?, path })
    }
}

/// The segments of a folder and their lengths, the oldest first. What else is there is left alone.
pub(crate) fn list(folder: &Path) -> Vec<(Place, u64)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut places: Vec<(Place, u64)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((Place::of(entry.path())?, entry.metadata().ok()?.len()))
        })
        .collect();
    places.sort_by_key(|(place, _)| place.number);
    places
}

/// How each segment begins.
pub(crate) const fn header() -> [u8; HEADER_BYTES as usize] {
    *b"SWBTRACE\x01\0\0\0\0\0\0\0"
}

/// Bytes of the header.
pub(crate) const HEADER_BYTES: u64 = 16;
const EXTENSION: &str = "trace";
