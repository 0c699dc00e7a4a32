//! `switchboard firmware` and `switchboard logs`.

use super::show::{done, list, moment_if, query, text};
use crate::{
    arguments::operations::{
        Firmware, FirmwareAction, GetLog, JobStatus, LogKind, Logs, LogsAction, OneStation, UpdateFirmware,
    },
    client::{Client, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// More is no certificate and no signature.
const FILE_BYTES_MAX: usize = 64 << 10;

/// `switchboard firmware`
pub(crate) async fn firmware(command: Firmware, settings: &Settings) -> Result<Exit, Failure> {
    let client = Client::new(settings);
    match command.action {
        None => status(&client, "firmware", &all(command.json)).await,
        Some(FirmwareAction::Status(which)) => status(&client, "firmware", &which).await,
        Some(FirmwareAction::Update(update)) => self::update(&client, update).await,
        Some(FirmwareAction::Cancel(one)) => cancel(&client, "firmware", &one).await,
    }
}

/// `switchboard logs`
pub(crate) async fn logs(command: Logs, settings: &Settings) -> Result<Exit, Failure> {
    let client = Client::new(settings);
    match command.action {
        None => status(&client, "logs", &all(command.json)).await,
        Some(LogsAction::Status(which)) => status(&client, "logs", &which).await,
        Some(LogsAction::Get(log)) => get(&client, log).await,
        Some(LogsAction::Cancel(one)) => cancel(&client, "logs", &one).await,
    }
}

const fn all(json: bool) -> JobStatus {
    JobStatus { station: None, limit: 20, json }
}

fn file(path: &Path) -> Result<String, Failure> {
    let wrong = |detail: String| Failure::new(Exit::Data, format!("{}: {detail}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    if text.len() > FILE_BYTES_MAX {
        return Err(wrong("is too large".to_owned()));
    }
    Ok(text)
}

fn seconds(duration: Option<Duration>) -> Option<u64> {
    duration.map(|duration| duration.as_secs())
}

async fn update(client: &Client, update: UpdateFirmware) -> Result<Exit, Failure> {
    let request = json!({
        "url": update.url,
        "retrieveAt": moment_if(update.retrieve_at.as_ref(), 1)?,
        "installAt": moment_if(update.install_at.as_ref(), 1)?,
        "retries": update.retries,
        "retryInterval": seconds(update.retry_interval),
        "certificate": update.certificate.as_deref().map(file).transpose()?,
        "signature": update.signature.as_deref().map(file).transpose()?.map(|text| text.trim().to_owned()),
    });
    let path = format!("/v1/stations/{}/firmware", segment(&update.station));
    let answer = client.request(Method::POST, &path, Some(request.to_string())).await?;
    let sentence = format!(
        "update {} of {} is asked for; see: switchboard firmware status {}",
        answer.value["id"], update.station, update.station
    );
    done(&answer, update.json, &sentence)
}

async fn get(client: &Client, log: GetLog) -> Result<Exit, Failure> {
    let request = json!({
        "url": log.url,
        "kind": match log.kind {
            LogKind::Diagnostics => "diagnostics",
            LogKind::Security => "security",
        },
        "from": moment_if(log.from.as_ref(), -1)?,
        "to": moment_if(log.to.as_ref(), -1)?,
        "retries": log.retries,
        "retryInterval": seconds(log.retry_interval),
    });
    let path = format!("/v1/stations/{}/logs", segment(&log.station));
    let answer = client.request(Method::POST, &path, Some(request.to_string())).await?;
    let sentence = format!(
        "upload {} of {} is asked for; see: switchboard logs status {}",
        answer.value["id"], log.station, log.station
    );
    done(&answer, log.json, &sentence)
}

async fn cancel(client: &Client, what: &str, one: &OneStation) -> Result<Exit, Failure> {
    let path = format!("/v1/stations/{}/{what}", segment(&one.station));
    let answer = client.request(Method::DELETE, &path, None).await?;
    done(&answer, one.json, &format!("taken back before it was sent: {}", answer.value["cancelled"]))
}

async fn status(client: &Client, what: &str, which: &JobStatus) -> Result<Exit, Failure> {
    let query = query(&[("station", which.station.clone()), ("limit", Some(which.limit.to_string()))]);
    let answer = client.request(Method::GET, &format!("/v1/{what}{query}"), None).await?;
    if which.json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let jobs = list(&answer.value, "jobs");
    let stray = list(&answer.value, "stray");
    if jobs.is_empty() && stray.is_empty() {
        output::note("nothing was asked for yet")?;
        return Ok(Exit::Done);
    }
    if !jobs.is_empty() {
        let heading = ["ID", "STATION", "PHASE", "STATUS", "ASKED", "UPDATED", "FIRMWARE", "DETAIL"];
        output::line(output::table(&heading, &jobs.iter().map(row).collect::<Vec<_>>()).trim_end())?;
    }
    // Of one station all is told.
    if which.station.is_some()
        && let Some(job) = jobs.first()
    {
        output::line(format!("\nSteps of {}:", text(&job["id"])))?;
        let steps: Vec<Vec<String>> = list(job, "steps").iter().map(step).collect();
        output::line(output::table(&["AT", "STATUS", "REMARK"], &steps).trim_end())?;
    }
    if !stray.is_empty() {
        output::line("\nOf no job:")?;
        let rows: Vec<Vec<String>> = stray
            .iter()
            .map(|one| {
                let mut row = vec![text(&one["station"])];
                row.extend(step(one));
                row
            })
            .collect();
        output::line(output::table(&["STATION", "AT", "STATUS", "REMARK"], &rows).trim_end())?;
    }
    Ok(Exit::Done)
}

fn row(job: &Value) -> Vec<String> {
    let firmware = match (job["firmwareBefore"].as_str(), job["firmwareAfter"].as_str()) {
        (before, Some(after)) => format!("{} → {after}", before.unwrap_or("?")),
        (before, None) => before.unwrap_or("-").to_owned(),
    };
    vec![
        text(&job["id"]),
        text(&job["station"]),
        text(&job["phase"]),
        text(&job["status"]),
        text(&job["requestedAt"]),
        text(&job["updatedAt"]),
        if job["kind"] == "log" { text(&job["file"]) } else { firmware },
        job["detail"].as_str().map_or_else(|| text(&job["url"]), str::to_owned),
    ]
}

fn step(step: &Value) -> Vec<String> {
    let remark = match step["request"].as_i64() {
        Some(request) => format!("{} (request {request})", step["remark"].as_str().unwrap_or_default()),
        None => step["remark"].as_str().unwrap_or_default().to_owned(),
    };
    vec![text(&step["at"]), text(&step["status"]), remark.trim().to_owned()]
}
