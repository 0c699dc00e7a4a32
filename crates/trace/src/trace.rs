//! The trace of a running process: started beside a gateway, read by anybody.

use crate::{
    Query,
    config::Config,
    line::remark,
    metrics::Metrics,
    redact::{Redactor, random_key},
    ring::{LookBack, Snapshot, Stored},
    scribe::{Desk, Request, Scribe, wall_ms},
    watcher::{Watcher, Watching},
};
use prometheus_client::registry::Registry;
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
};
use switchboard_gateway::Tap;
use tokio::sync::{mpsc, oneshot};

/// The trace of a running process. Clones are the same.
#[derive(Clone)]
pub struct Trace(Arc<Inner>);

struct Inner {
    desk: Arc<Desk>,
    redactor: Arc<Redactor>,
    config: Config,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Why there are no lines.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// What was recorded is asked for, and nothing is recorded.
    #[error("nothing is recorded here: trace.ring is 0")]
    NothingRecorded,
    /// The trace has ended.
    #[error("the trace has ended")]
    Ended,
}

impl fmt::Debug for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Trace").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Trace {
    /// What makes this trace's texts fit to be shown, for texts of stations that come from elsewhere.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.0.redactor
    }

    /// Follows a gateway's traffic in a thread of its own. Its metrics are registered under `switchboard_trace_…`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(tap: Tap, config: Config, registry: &mut Registry) -> io::Result<Self> {
        let metrics = Metrics::register(registry);
        let redactor = Arc::new(match key(&config) {
            Ok(key) => Redactor::new(key),
            Err(error) => {
                tracing::warn!(
                    %error, folder = %config.folder.display(),
                    "the key of the trace's digests cannot be kept; after a restart equal tags look different"
                );
                Redactor::random()
            }
        });
        let desk = Arc::new(Desk::new());
        let scribe = Scribe::new(tap, Arc::clone(&desk), Arc::clone(&redactor), &config, metrics);
        let thread = thread::Builder::new().name("trace".to_owned()).spawn(move || scribe.run())?;
        Ok(Self(Arc::new(Inner { desk, redactor, config, thread: Mutex::new(Some(thread)) })))
    }

    /// The lines that a query asks for: what was recorded, and then, if it asks for that, what happens until the reader
    /// goes.
    ///
    /// # Errors
    /// When nothing is recorded and the query asks for it, or the trace has ended.
    pub async fn read(&self, query: Query) -> Result<Lines, ReadError> {
        if query.looks_back() && self.0.config.ring_bytes == 0 {
            return Err(ReadError::NothingRecorded);
        }
        let (reply, snapshot) = oneshot::channel();
        let mut watching = None;
        self.0.desk.leave(if query.looks_on() {
            let (watcher, ours) = Watcher::new(query.clone(), self.0.config.lines_behind_max);
            watching = Some(ours);
            Request::Watch(Box::new(watcher), reply)
        } else {
            Request::Flush(reply)
        });
        self.wake();
        let snapshot = snapshot.await.map_err(|_| ReadError::Ended)?;
        let recorded = query.looks_back().then(|| look_back(snapshot, query, Arc::clone(&self.0.redactor)));
        Ok(Lines { recorded, watching })
    }

    /// Writes what is in hand and ends; readers get what is theirs and then their end.
    pub async fn close(&self) {
        let thread = self.0.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        self.0.desk.stop.store(true, Ordering::Release);
        thread.thread().unpark();
        // A thread that panicked has been reported by the hook.
        drop(tokio::task::spawn_blocking(move || thread.join()).await);
    }

    fn wake(&self) {
        if let Some(thread) = &*self.0.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            thread.thread().unpark();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.desk.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner) {
            thread.thread().unpark();
        }
    }
}

/// The lines of a reader, each a JSON object without a line end.
#[derive(Debug)]
pub struct Lines {
    recorded: Option<mpsc::Receiver<Arc<str>>>,
    watching: Option<Watching>,
}

impl Lines {
    /// A line that is there already.
    pub fn ready(&mut self) -> Option<Arc<str>> {
        match &mut self.recorded {
            // At its end `next` goes on with the other.
            Some(recorded) => recorded.try_recv().ok(),
            None => self.watching.as_mut()?.ready(),
        }
    }

    /// The next line; none at the end.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        if let Some(recorded) = &mut self.recorded {
            match recorded.recv().await {
                Some(line) => return Some(line),
                None => self.recorded = None,
            }
        }
        self.watching.as_mut()?.next().await
    }
}

/// The lines of a folder into which no process writes now.
///
/// # Errors
/// When there is no such folder.
pub fn read_folder(folder: &Path, query: Query) -> io::Result<Lines> {
    fs::read_dir(folder)?;
    // Who has the folder has the key beside it as well.
    let redactor = fs::read(folder.join(KEY_FILE)).ok().and_then(|key| key.try_into().ok());
    let redactor = Arc::new(redactor.map_or_else(Redactor::random, Redactor::new));
    let query = Query { follow: false, ..query };
    Ok(Lines { recorded: Some(look_back(Snapshot::of(folder), query, redactor)), watching: None })
}

/// Reads on a thread of its own, as far as the reader goes along.
fn look_back(snapshot: Snapshot, query: Query, redactor: Arc<Redactor>) -> mpsc::Receiver<Arc<str>> {
    let (sender, receiver) = mpsc::channel(64);
    tokio::task::spawn_blocking(move || {
        snapshot.look_back(&query, &mut |found| {
            let lines = match found {
                LookBack::Found(stored) => recorded_lines(&stored, &query, &redactor),
                LookBack::Remark(remark) => vec![remark],
            };
            lines.into_iter().all(|line| sender.blocking_send(line.into()).is_ok())
        });
    });
    receiver
}

/// The lines of a recorded entry: the one that was written, without personal data unless it is asked for; or the frames
/// of which it was made.
fn recorded_lines(stored: &Stored<'_>, query: &Query, redactor: &Redactor) -> Vec<String> {
    let line = if query.personal {
        stored.line.to_owned()
    } else {
        match redactor.line(stored.line, stored.head.action) {
            Ok(line) => line,
            // It was written by us, so that this is a fault of ours; nothing is shown that was not looked at.
            Err(_) => remark("damaged", stored.head.time_ms, "an entry of the record is no JSON", None),
        }
    };
    if query.frames
        && let Some(frames) = crate::frames::of(&line)
    {
        return frames;
    }
    vec![line]
}

/// What makes texts fit to be shown in a process that follows no traffic: with the key in this folder, so that equal tags
/// look equal after a restart. A key of its own where none can be kept there.
#[must_use]
pub fn redactor_in(folder: &Path) -> Redactor {
    let mut config = Config::default();
    folder.clone_into(&mut config.folder);
    // Nothing is recorded, and the key is kept all the same.
    config.ring_bytes = 1;
    key(&config).map_or_else(|_| Redactor::random(), Redactor::new)
}

/// The key of the digests, kept in a file so that they are the same after a restart.
fn key(config: &Config) -> io::Result<[u8; 32]> {
    if config.ring_bytes == 0 {
        return Ok(random_key());
    }
    fs::create_dir_all(&config.folder)?;
    let path = config.folder.join(KEY_FILE);
    let mut key = Vec::new();
    match fs::File::open(&path) {
        Ok(file) => {
            file.take(33).read_to_end(&mut key)?;
            if let Ok(key) = key.try_into() {
                return Ok(key);
            }
            // Torn by a crash: nothing was written with it.
            fs::remove_file(&path)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let key = random_key();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&path)?.write_all(&key)?;
    Ok(key)
}

/// Where the key is.
const KEY_FILE: &str = "key";

/// Now, for who parses a query.
#[must_use]
pub fn now_ms() -> i64 {
    wall_ms()
}
