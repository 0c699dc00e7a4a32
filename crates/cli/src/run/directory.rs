//! The directory: in a file of this machine, or at the server that the settings name.

use super::{
    Served,
    readiness::{self, Readiness},
};
use crate::{
    exit::{Exit, Failure},
    settings::{DirectoryPlace, Role, Settings, advice, split},
};
use anyhow::Context;
use bytestring::ByteString;
use std::{path::Path, sync::Arc, time::Duration};
use switchboard_bus::Connect;
use switchboard_directory::{Directory, DirectoryError, Embedded, embedded};
use switchboard_directory_nats::NatsKv;
use switchboard_directory_postgres as postgres;
use tokio_util::sync::CancellationToken;

/// A directory that was opened.
pub(crate) struct Opened {
    /// It.
    pub(crate) directory: Arc<dyn Directory>,
    /// The same, if it is in a file of ours.
    pub(crate) file: Option<Arc<Embedded>>,
    /// Where it is, for people.
    pub(crate) place: DirectoryPlace,
}

/// How often a directory that is away is asked again: at first, and at most.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Opens it, if it is in a file. It belongs to this process then.
pub(super) async fn open_file(settings: &Settings) -> Result<Option<Opened>, Failure> {
    let place = settings.directory_place();
    let DirectoryPlace::Sqlite(path) = &place else { return Ok(None) };
    let file = file(path).await?;
    let directory: Arc<dyn Directory> = Arc::<Embedded>::clone(&file);
    Ok(Some(Opened { directory, file: Some(file), place }))
}

/// Opens it wherever it is, once.
pub(crate) async fn open(settings: &Settings) -> Result<Opened, Failure> {
    if let Some(opened) = open_file(settings).await? {
        return Ok(opened);
    }
    let opened = server(settings)?;
    readiness::ask_directory(&*opened.directory)
        .await
        .with_context(|| format!("--directory {}", opened.place))
        .map_err(|error| Failure { exit: Exit::Unreachable, error })?;
    Ok(opened)
}

/// Opens one at a server and waits until that is there; none if told to stop before.
pub(super) async fn reach(
    settings: &Settings,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> Result<Option<Opened>, Failure> {
    let opened = server(settings)?;
    let what = format!("the directory {}", opened.place);
    let there = patiently(&what, readiness, stop, || readiness::ask_directory(&*opened.directory)).await;
    let there = there.with_context(|| format!("{what} cannot be used"));
    Ok(there.map_err(|error| Failure { exit: Exit::Unreachable, error })?.map(|()| opened))
}

/// Asks a directory something until it answers; none if told to stop before.
pub(super) async fn patiently<T, F: Future<Output = Result<T, DirectoryError>>>(
    what: &str,
    readiness: &Readiness,
    stop: &CancellationToken,
    mut ask: impl FnMut() -> F,
) -> Result<Option<T>, DirectoryError> {
    let mut pause = AGAIN_AFTER.0;
    let mut told = false;
    loop {
        let answer = tokio::select! {
            () = stop.cancelled() => return Ok(None),
            answer = ask() => answer,
        };
        match answer {
            Ok(answer) => {
                if told {
                    tracing::info!("{what} is there");
                    readiness.waits_for(None);
                }
                return Ok(Some(answer));
            }
            Err(error) if error.is_retryable() => {
                if !told {
                    let advice = advice("directory", &error);
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, advice, "waiting for {what}");
                    readiness.waits_for(Some(format!("waiting for {what}")));
                    told = true;
                }
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(AGAIN_AFTER.1);
    }
}

/// Has what is wrong with it noticed.
pub(super) fn watch(opened: &Opened, readiness: &Readiness) -> Served {
    match &opened.file {
        Some(file) => readiness::probe_directory_file(Arc::clone(file), readiness),
        None => {
            readiness::probe_directory(Arc::clone(&opened.directory), opened.place.to_string(), readiness)
        }
    }
}

/// Has all processes of a namespace agree on what they must have in common. Gives back by what they know this directory from
/// others; none if told to stop before.
pub(super) async fn agree(
    role: Role,
    settings: &Settings,
    directory: &dyn Directory,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> Result<Option<ByteString>, Failure> {
    let namespace = &settings.namespace;
    let partitions = settings.partitions.to_string();
    let mut facts = vec![(
        format!("{namespace}.partitions"),
        partitions,
        "set partitions to that, or give this installation a namespace of its own with --namespace",
    )];
    if role.has_processing() {
        facts.push((
            format!("{namespace}.workers"),
            SHARED.to_owned(),
            "a namespace has workers of one mode: stop the others and take another --namespace for gateways and workers, \
             or run workers of that mode",
        ));
    }
    for (name, ours, advice) in facts {
        let asking = patiently("the directory", readiness, stop, || directory.agree(&name, &ours));
        let Some(theirs) = asking.await.context("the directory cannot be asked")? else { return Ok(None) };
        if theirs != ours {
            let what = name.rsplit('.').next().unwrap_or_default();
            return Err(Failure::new(
                Exit::Configuration,
                format!(
                    "namespace {namespace}: {what} is {theirs} according to its directory, and {ours} here; {advice}"
                ),
            ));
        }
    }
    // Whoever asks first gives it its name.
    let (name, new) = (format!("{namespace}.directory"), uuid::Uuid::new_v4().simple().to_string());
    let asking = patiently("the directory", readiness, stop, || directory.agree(&name, &new));
    Ok(asking.await.context("the directory cannot be asked")?.map(ByteString::from))
}

/// How workers share the calls of a namespace: any takes any. The other way is to own partitions.
const SHARED: &str = "shared";

/// One at a server, which need not be there yet.
pub(super) fn server(settings: &Settings) -> Result<Opened, Failure> {
    let place = settings.directory_place();
    let directory: Arc<dyn Directory> = match &place {
        DirectoryPlace::Postgres(urls) => {
            let (url, password, tls) = settings.directory_access.for_postgres(urls);
            let mut config = postgres::Config::to(url);
            (config.password, config.tls) = (password, tls);
            Arc::new(postgres::Postgres::connect(config).map_err(|error| unusable(&place, error))?)
        }
        DirectoryPlace::NatsKv(urls) => {
            let access = &settings.directory_access;
            let connect = Connect {
                urls: urls.clone(),
                tls: access.tls(),
                user: access.user.clone(),
                password: access.secret(),
                ..Connect::to("")
            };
            Arc::new(NatsKv::connect(connect).map_err(|error| unusable(&place, error))?)
        }
        DirectoryPlace::Sqlite(_) => {
            let why = anyhow::Error::msg("this version of switchboard has no driver for it");
            return Err(unusable(&place, why));
        }
    };
    Ok(Opened { directory, file: None, place })
}

fn unusable(place: &DirectoryPlace, error: impl Into<anyhow::Error>) -> Failure {
    let error = error.into().context(format!("--directory {place} cannot be used"));
    Failure { exit: Exit::Configuration, error }
}

async fn file(path: &Path) -> Result<Arc<Embedded>, Failure> {
    let (folder, name) = split(path);
    let mut config = embedded::Config::in_dir(&folder);
    config.file_name = name;
    // Checking a large file takes a while.
    let opened =
        tokio::task::spawn_blocking(move || Embedded::open(&config)).await.context("the directory")?;
    opened.map(Arc::new).map_err(|error| super::store::failure(&folder, error))
}
