//! `switchboard trace`: lines of the running process, or of a data directory when none runs.

mod show;
mod summary;

use super::stations::Target;
use crate::{
    arguments::Trace,
    client::{Client, RequestError, segment},
    exit::{Exit, Failure},
    output,
    run::trace::folder,
    settings::{Resolved, Settings},
};
use http_body_util::BodyExt;
use hyper::{Method, body::Incoming};
use show::Show;
use std::{io, path::Path, time::Duration};
use switchboard_trace::Query;

/// A line of the stream is never longer: the largest frame, and what is said beside it.
const LINE_BYTES_MAX: usize = 80 << 20;
/// How long to wait for a process that has gone: at first, and at most.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Prints traffic: what was recorded, or what happens until it is interrupted.
pub(crate) async fn trace(command: Trace, resolved: &Resolved) -> Result<Exit, Failure> {
    let settings = &resolved.settings;
    let query = Query::parse(command.query(), switchboard_trace::now_ms())
        .map_err(|error| Failure { exit: Exit::Data, error: error.into() })?;
    let mut printer = Printer {
        show: (!command.json).then(|| Show {
            colours: output::colours(),
            width: output::width(),
            full: command.full,
            with_date: command.looks_back(),
        }),
        pending: Vec::new(),
    };
    let reading = async {
        if !query.looks_on()
            && let Target::DataDirectory(settings) = Target::find(resolved).await?
        {
            return read_folder(&settings.data_dir, query.clone(), &mut printer).await;
        }
        follow(&command, settings, &query, &mut printer).await
    };
    tokio::select! {
        ended = reading => ended,
        // Ctrl-C is how one ends it: no failure.
        _ = tokio::signal::ctrl_c() => Ok(Exit::Done),
    }
}

/// Prints what a process recorded that does not run any more.
async fn read_folder(data_dir: &Path, query: Query, printer: &mut Printer) -> Result<Exit, Failure> {
    output::note(format!("no process runs; this is what {} holds", data_dir.display()))?;
    let mut lines = match switchboard_trace::read_folder(&folder(data_dir), query) {
        Ok(lines) => lines,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let detail = format!("nothing was recorded in {}", data_dir.display());
            return Err(Failure::new(Exit::Data, detail));
        }
        Err(error) => return Err(error.into()),
    };
    while let Some(line) = lines.next().await {
        printer.print(&line)?;
    }
    Ok(Exit::Done)
}

/// Prints the lines of a running process, and waits for it when it goes while somebody follows.
async fn follow(
    command: &Trace,
    settings: &Settings,
    query: &Query,
    printer: &mut Printer,
) -> Result<Exit, Failure> {
    let mut pairs = command.query();
    let mut body = open(settings, &pairs).await?;
    if query.looks_on() && !command.json {
        output::note(format!("the traffic of {}, as it happens; Ctrl-C ends it", command.whose()))?;
    }
    // From the second time on it is about what happens then.
    pairs.retain(|(name, _)| !matches!(name.as_str(), "since" | "until" | "last" | "follow"));
    loop {
        let ended = read(&mut body, printer, settings).await?;
        if !query.looks_on() {
            return match ended {
                Ok(()) => Ok(Exit::Done),
                Err(error) => Err(Failure::new(Exit::Unreachable, format!("the stream broke off: {error}"))),
            };
        }
        output::note("the process has gone; waiting for it to come back. Ctrl-C ends it")?;
        let mut pause = AGAIN_AFTER.0;
        body = loop {
            tokio::time::sleep(pause).await;
            match open(settings, &pairs).await {
                Ok(body) => break body,
                Err(failure) if failure.exit == Exit::Unreachable => {
                    pause = (pause * 2).min(AGAIN_AFTER.1);
                }
                Err(failure) => return Err(failure),
            }
        };
        output::note("connected again; what happened meanwhile may be in the record: --since 1m")?;
    }
}

async fn open(settings: &Settings, pairs: &[(String, String)]) -> Result<Incoming, Failure> {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", segment(value))).collect();
    let path = format!("/v1/trace?{}", pairs.join("&"));
    let client = Client::new(settings);
    let response = client.open(Method::GET, &path, None).await?;
    if response.status().is_success() {
        return Ok(response.into_body());
    }
    // Asked again as a plain request, which reads the reason.
    client.request(Method::GET, &path, None).await?;
    Err(Failure::new(Exit::Internal, "the stream was refused"))
}

/// Prints a stream to its end; inside, whether that was a proper one.
async fn read(
    body: &mut Incoming,
    printer: &mut Printer,
    settings: &Settings,
) -> Result<Result<(), hyper::Error>, Failure> {
    printer.pending.clear();
    while let Some(frame) = body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Ok(Err(error)),
        };
        let Some(data) = frame.data_ref() else { continue };
        let known = printer.pending.len();
        printer.pending.extend_from_slice(data);
        printer.print_pending(known)?;
        if printer.pending.len() > LINE_BYTES_MAX {
            return Err(RequestError::Broken(settings.api_listen, "a line without an end".to_owned()).into());
        }
    }
    Ok(Ok(()))
}

/// Prints lines as they come.
struct Printer {
    /// None: as they are.
    show: Option<Show>,
    /// What has come of the next line.
    pending: Vec<u8>,
}

impl Printer {
    /// Prints the lines that are complete; the first so many bytes are known to hold no end of a line.
    fn print_pending(&mut self, known: usize) -> io::Result<()> {
        let mut start = 0;
        let mut from = known;
        while let Some(end) = self.pending[from..].iter().position(|byte| *byte == b'\n').map(|at| from + at)
        {
            let line = String::from_utf8_lossy(&self.pending[start..end]);
            if !line.is_empty() {
                self.print(&line)?;
            }
            (start, from) = (end + 1, end + 1);
        }
        self.pending.drain(..start);
        Ok(())
    }

    fn print(&self, line: &str) -> io::Result<()> {
        match &self.show {
            None => output::line(line),
            Some(show) => output::line(show.line(line)),
        }
    }
}
