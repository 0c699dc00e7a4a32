//! `switchboard tags`.

use crate::{
    arguments::tags::{AddTag, ImportTags, ListSwitch, ListTags, OneTag, TagLists, Tags, TagsAction},
    client::{Answer, Client, RequestError, segment},
    exit::{Exit, Failure},
    output,
    settings::Settings,
};
use hyper::Method;
use serde_json::{Map, Value, json};
use std::{
    collections::HashMap,
    io::{IsTerminal, Read},
    path::Path,
    time::Duration,
};

/// How many tags one request asks for.
const PAGE: usize = 1000;
/// Bytes of a file; more than an import takes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// How many faults of a file are told.
const FAULTS_MAX: usize = 20;
/// The columns of a file.
const COLUMNS: [&str; 5] = ["tag", "group", "expires", "status", "type"];

/// Does what was asked.
pub(crate) async fn tags(command: Tags, settings: &Settings) -> Result<Exit, Failure> {
    let client = Client::new(settings);
    match command.action {
        None => list(&client, &command.list).await,
        Some(TagsAction::List(which)) => list(&client, &which).await,
        Some(TagsAction::Add(tag)) => add(&client, &tag).await,
        Some(TagsAction::Block(tag)) => change(&client, &tag, "Blocked").await,
        Some(TagsAction::Unblock(tag)) => change(&client, &tag, "Accepted").await,
        Some(TagsAction::Remove(tag)) => remove(&client, &tag).await,
        Some(TagsAction::Import(file)) => import(client, &file).await,
        Some(TagsAction::Export) => export(&client).await,
        Some(TagsAction::Lists(lists)) => self::lists(&client, &lists).await,
    }
}

/// All tags that a query asks for, page by page.
async fn all(client: &Client, query: &str) -> Result<Vec<Value>, Failure> {
    let mut list: Vec<Value> = Vec::new();
    loop {
        let after = list.last().and_then(|last| last["tag"].as_str()).map(segment).unwrap_or_default();
        let path = format!("/v1/tags?limit={PAGE}&after={after}{query}");
        let mut answer = client.request(Method::GET, &path, None).await?.value;
        let Some(page) = answer["tags"].as_array_mut() else { return Ok(list) };
        let length = page.len();
        list.append(page);
        if length < PAGE {
            return Ok(list);
        }
    }
}

async fn list(client: &Client, which: &ListTags) -> Result<Exit, Failure> {
    let mut query = String::new();
    for (name, value) in [
        ("status", which.status.map(super::super::arguments::tags::TagStatus::as_str)),
        ("group", which.group.as_deref()),
        ("containing", which.containing.as_deref()),
    ] {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", segment(value)));
        }
    }
    let list = all(client, &query).await?;
    if which.json {
        output::line(format!("{:#}", json!({ "tags": list })))?;
        return Ok(Exit::Done);
    }
    if list.is_empty() {
        output::note(if query.is_empty() {
            "no tags are registered: whoever comes may charge (central.unknown_tokens); add one: switchboard tags add A1"
        } else {
            "no such tags"
        })?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|tag| COLUMNS.iter().map(|column| tag[*column].as_str().unwrap_or("-").to_owned()).collect())
        .collect();
    output::line(output::table(&["TAG", "GROUP", "EXPIRES", "STATUS", "TYPE"], &rows).trim_end())?;
    Ok(Exit::Done)
}

async fn add(client: &Client, tag: &AddTag) -> Result<Exit, Failure> {
    let body = json!({
        "status": tag.status.as_str(), "group": tag.group, "expires": tag.expires, "type": tag.kind,
    });
    let path = format!("/v1/tags/{}", segment(&tag.tag));
    let answer = client.request(Method::PUT, &path, Some(body.to_string())).await?;
    told(&answer, tag.json)
}

async fn change(client: &Client, tag: &OneTag, status: &str) -> Result<Exit, Failure> {
    let path = format!("/v1/tags/{}", segment(&tag.tag));
    let body = json!({ "status": status }).to_string();
    let answer = client.request(Method::PATCH, &path, Some(body)).await?;
    told(&answer, tag.json)
}

fn told(answer: &Answer, as_json: bool) -> Result<Exit, Failure> {
    if as_json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let tag = &answer.value;
    let text = |name: &str| tag[name].as_str().map(output::printable);
    let mut line =
        format!("{}: {}", text("tag").unwrap_or_default(), text("status").unwrap_or_default().to_lowercase());
    for (name, value) in [("group", text("group")), ("expires", text("expires")), ("type", text("type"))] {
        if let Some(value) = value {
            line.push_str(&format!(", {name} {value}"));
        }
    }
    output::line(line)?;
    Ok(Exit::Done)
}

async fn remove(client: &Client, tag: &OneTag) -> Result<Exit, Failure> {
    client.request(Method::DELETE, &format!("/v1/tags/{}", segment(&tag.tag)), None).await?;
    if tag.json {
        output::line(json!({ "tag": tag.tag, "removed": true }).to_string())?;
    } else {
        output::line(format!("{}: removed", output::printable(&tag.tag)))?;
    }
    Ok(Exit::Done)
}

async fn import(client: Client, import: &ImportTags) -> Result<Exit, Failure> {
    let text = content(&import.file)?;
    let (lines, tags) = parse(&text)?;
    let count = tags.len();
    if std::io::stderr().is_terminal() && count > PAGE {
        output::note(format!(
            "{count} tags read; they are registered in one piece, which takes some seconds"
        ))?;
    }
    let client = client.patient(Duration::from_secs(120));
    let body = json!({ "tags": tags }).to_string();
    let answer = client
        .request(Method::POST, "/v1/tag-import", Some(body))
        .await
        .map_err(|error| in_lines(error, &lines))?;
    if import.json {
        output::line(&answer.text)?;
    } else {
        output::line(format!("{count} tags imported, {} are registered", answer.value["registered"]))?;
    }
    Ok(Exit::Done)
}

fn content(file: &Path) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::new(Exit::Data, format!("{} cannot be read: {error}", file.display()))
    };
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(unreadable)?;
    // Spreadsheets put a byte order mark in front.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The line of each tag, and the tags as the API wants them.
fn parse(text: &str) -> Result<(Vec<u64>, Vec<Value>), Failure> {
    let wrong = |line: u64, what: String| Failure::new(Exit::Data, format!("line {line}: {what}"));
    let first = text.lines().next().unwrap_or_default();
    // Spreadsheets of half of the world write semicolons.
    let delimiter = if first.contains(';') && !first.contains(',') { b';' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| wrong(1, error.to_string()))?.clone();
    let mut columns = Vec::new();
    for name in &header {
        let name = name.to_ascii_lowercase();
        let Some(known) = COLUMNS.iter().find(|column| **column == name) else {
            let expected = COLUMNS.join(", ");
            return Err(wrong(
                1,
                format!("there is no column {name:?}; the first line names some of {expected}"),
            ));
        };
        columns.push(*known);
    }
    if !columns.contains(&"tag") {
        return Err(wrong(1, "the first line must name the columns, and one of them tag".to_owned()));
    }
    let (mut lines, mut tags, mut seen) = (Vec::new(), Vec::new(), HashMap::new());
    let mut faults = Vec::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                faults.push(format!("line {line}: {}", fault(&error)));
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        let mut tag = Map::new();
        for (column, value) in columns.iter().zip(&record) {
            if !value.is_empty() || *column == "tag" {
                tag.insert((*column).to_owned(), value.into());
            }
        }
        let name = tag["tag"].as_str().unwrap_or_default().to_lowercase();
        if let Some(before) = seen.insert(name, line) {
            faults.push(format!("line {line}: the same tag as in line {before}"));
        }
        lines.push(line);
        tags.push(Value::Object(tag));
    }
    if faults.is_empty() { Ok((lines, tags)) } else { Err(none_imported(&faults, faults.len())) }
}

fn fault(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} columns, and the first line names {expected_len}")
        }
        _ => error.to_string(),
    }
}

/// What the process finds wrong, by the lines of the file.
fn in_lines(error: RequestError, lines: &[u64]) -> Failure {
    let RequestError::Said { body, .. } = &error else { return error.into() };
    let Some(violations) = body["violations"].as_array() else { return error.into() };
    let faults: Vec<String> = violations
        .iter()
        .map(|violation| {
            let mut parts = violation["pointer"].as_str().unwrap_or_default().split('/').skip(2);
            let line =
                parts.next().and_then(|index| index.parse::<usize>().ok()).and_then(|index| lines.get(index));
            let column = parts.next().map_or_else(String::new, |column| format!(" {column}:"));
            let expected = violation["expected"].as_str().unwrap_or_default();
            format!("line {}:{column} {expected}", line.copied().unwrap_or_default())
        })
        .collect();
    none_imported(&faults, faults.len())
}

fn none_imported(faults: &[String], count: usize) -> Failure {
    let mut text = String::from("nothing was imported");
    for fault in faults.iter().take(FAULTS_MAX) {
        text.push_str(&format!("\n  {fault}"));
    }
    if count > FAULTS_MAX {
        text.push_str(&format!("\n  and {} more", count - FAULTS_MAX));
    }
    Failure::new(Exit::Data, text)
}

async fn export(client: &Client) -> Result<Exit, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let broken = |error: csv::Error| Failure { exit: Exit::Internal, error: error.into() };
    writer.write_record(COLUMNS).map_err(broken)?;
    for tag in all(client, "").await? {
        let row = COLUMNS.iter().map(|column| tag[*column].as_str().unwrap_or_default());
        writer.write_record(row).map_err(broken)?;
    }
    let text = writer.into_inner().map_err(|error| anyhow::anyhow!("{error}"))?;
    output::line(String::from_utf8_lossy(&text).trim_end())?;
    Ok(Exit::Done)
}

async fn lists(client: &Client, which: &TagLists) -> Result<Exit, Failure> {
    let answer = match (&which.station, which.switch) {
        (None, _) => client.request(Method::GET, "/v1/tag-lists", None).await?,
        (Some(station), ListSwitch::Status) => {
            client.request(Method::GET, &format!("/v1/stations/{}/tag-list", segment(station)), None).await?
        }
        (Some(station), switch) => {
            let body = json!({ "wanted": switch == ListSwitch::On }).to_string();
            client
                .request(Method::PUT, &format!("/v1/stations/{}/tag-list", segment(station)), Some(body))
                .await?
        }
    };
    if which.json {
        output::line(&answer.text)?;
        return Ok(Exit::Done);
    }
    let one = [answer.value.clone()];
    let lists = answer.value["lists"].as_array().map_or(&one[..], Vec::as_slice);
    if lists.is_empty() {
        output::note("no station keeps a list of tags; switch one on: switchboard tags lists CP001 on")?;
        return Ok(Exit::Done);
    }
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let rows: Vec<Vec<String>> = lists
        .iter()
        .map(|list| {
            vec![
                text(&list["station"]),
                if list["wanted"] == true { "on" } else { "off" }.to_owned(),
                text(&list["state"]),
                text(&list["desiredVersion"]),
                text(&list["reportedVersion"]),
                text(&list["reason"]),
            ]
        })
        .collect();
    output::line(
        output::table(&["STATION", "LIST", "STATE", "DESIRED", "REPORTED", "REASON"], &rows).trim_end(),
    )?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_its_lines() {
        let (lines, tags) = parse("Tag;expires;group\nA1;2027-01-01;\n\"B;2\";;fleet\n").unwrap();
        assert_eq!(lines, [2, 3]);
        assert_eq!(
            tags,
            [json!({ "tag": "A1", "expires": "2027-01-01" }), json!({ "tag": "B;2", "group": "fleet" })]
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_by_its_lines() {
        for (text, expected) in [
            ("", "line 1: the first line must name the columns"),
            ("A1\nB2\n", "line 1: there is no column \"a1\""),
            ("tag,group\nA1\nB2,x,y\n", "line 2: 1 columns, and the first line names 2\n  line 3: 3 columns"),
            ("tag\nA1\nB2\na1\n", "line 4: the same tag as in line 2"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}
