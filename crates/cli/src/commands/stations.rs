//! `switchboard stations`: through the running process, or on the data directory when none runs.

use super::policy::policy;
use crate::{
    arguments::{AddStation, Stations, StationsAction},
    client::{Answer, Client, RequestError, segment},
    exit::{Exit, Failure},
    output,
    run::store,
    settings::{Origin, Resolved, Setting, Settings},
};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use std::{io::BufRead, path::PathBuf};

/// How many stations one request asks for.
const PAGE: usize = 1000;

/// Does what was asked.
pub(crate) async fn stations(command: Stations, resolved: &Resolved) -> Result<Exit, Failure> {
    let action = match command.action {
        // The books belong to the running process.
        Some(StationsAction::Policy(command)) => return policy(command, &resolved.settings).await,
        other => other,
    };
    let target = Target::find(resolved).await?;
    match action {
        None | Some(StationsAction::Policy(_)) => list(&target, command.json).await,
        Some(StationsAction::List { json }) => list(&target, json).await,
        Some(StationsAction::Add(add)) => self::add(&target, add).await,
        Some(StationsAction::Remove { station, json }) => remove(&target, &station, json).await,
    }
}

/// Where the accounts are reached.
pub(super) enum Target {
    /// Through the running process.
    Process(Client),
    /// Where these settings say, since no process runs.
    DataDirectory(Box<Settings>),
}

impl Target {
    /// The running process if there is one; the data directory if there is none, or if the process runs on another
    /// one than the caller named.
    pub(super) async fn find(resolved: &Resolved) -> Result<Self, Failure> {
        let settings = &resolved.settings;
        let named =
            |path| Setting::find(path).is_some_and(|setting| resolved.origin(setting) != Origin::Default);
        let client = Client::new(settings);
        match client.request(Method::GET, "/v1/info", None).await {
            Ok(info) => {
                let theirs = info.value["dataDir"].as_str().map(PathBuf::from);
                let ours = std::fs::canonicalize(&settings.data_dir).ok();
                if named("data_dir") && theirs.is_some() && theirs != ours {
                    return Ok(Self::DataDirectory(Box::new(settings.clone())));
                }
                Ok(Self::Process(client))
            }
            // Whoever names a process means that process.
            Err(RequestError::Unreachable(..)) if !named("api.listen") || named("data_dir") => {
                Ok(Self::DataDirectory(Box::new(settings.clone())))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Where the accounts are when no process runs, for people.
fn place(settings: &Settings) -> String {
    settings.directory.as_ref().map_or_else(|| settings.data_dir.display().to_string(), ToString::to_string)
}

async fn list(target: &Target, as_json: bool) -> Result<Exit, Failure> {
    let mut list: Vec<Value> = Vec::new();
    match target {
        Target::Process(client) => loop {
            let after = list.last().and_then(|last| last["id"].as_str()).map(segment).unwrap_or_default();
            let path = format!("/v1/stations?limit={PAGE}&after={after}");
            let mut answer = client.request(Method::GET, &path, None).await?.value;
            let Some(page) = answer["stations"].as_array_mut() else { break };
            let length = page.len();
            list.append(page);
            if length < PAGE {
                break;
            }
        },
        Target::DataDirectory(settings) => {
            list = store::list(settings).await?;
            output::note(format!("no process runs; this is what {} holds", place(settings)))?;
        }
    }
    if as_json {
        output::line(format!("{:#}", json!({ "stations": list })))?;
        return Ok(Exit::Done);
    }
    if list.is_empty() {
        output::note("no stations yet; they connect to ws://HOST:8180/ocpp/STATION")?;
        return Ok(Exit::Done);
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let rows: Vec<Vec<String>> = list
        .iter()
        .map(|station| {
            let yes = |key: &str| station[key].as_bool().unwrap_or(false);
            vec![
                text(&station["id"]),
                if yes("connected") { "connected" } else { "offline" }.to_owned(),
                text(&station["version"]),
                text(&station["registration"]),
                match (yes("registered"), yes("hasPassword")) {
                    (true, true) => "password",
                    (true, false) => "no password",
                    (false, _) => "not registered",
                }
                .to_owned(),
                text(if yes("connected") { &station["since"] } else { &station["lastSeen"] }),
            ]
        })
        .collect();
    let heading = ["STATION", "STATE", "OCPP", "BOOT", "ACCOUNT", "SINCE"];
    output::line(output::table(&heading, &rows).trim_end())?;
    Ok(Exit::Done)
}

/// OCPP 2.x wants as many characters in a password, 1.6 twenty bytes.
const PASSWORD_USUAL_MIN: usize = 16;

async fn add(target: &Target, add: AddStation) -> Result<Exit, Failure> {
    let mut generated = false;
    let password = if add.no_password {
        None
    } else if add.password_stdin {
        let mut line = Vec::new();
        std::io::stdin().lock().read_until(b'\n', &mut line)?;
        let line = String::from_utf8(line).map_err(|_| {
            let what = "the password is not UTF-8; one of bytes is given as hexadecimal digits, and the station may \
                        send either";
            Failure::new(Exit::Data, what)
        })?;
        Some(line.trim_end_matches(['\r', '\n']).to_owned())
    } else if let Some(password) = add.password {
        Some(password)
    } else {
        generated = true;
        Some(generate())
    };
    if password.as_ref().is_some_and(String::is_empty) {
        return Err(Failure::new(
            Exit::Data,
            "the password is empty; --no-password lets a station in without one",
        ));
    }
    if password.as_ref().is_some_and(|password| password.chars().count() < PASSWORD_USUAL_MIN) {
        output::note(format!(
            "the password has fewer than the {PASSWORD_USUAL_MIN} characters that OCPP wants, and can be guessed"
        ))?;
    }
    match target {
        Target::Process(client) => {
            let request = json!({ "id": add.station, "password": password }).to_string();
            client.request(Method::POST, "/v1/stations", Some(request)).await?;
        }
        Target::DataDirectory(settings) => store::add(settings, &add.station, password.as_deref()).await?,
    }
    let shown = password.filter(|_| generated);
    if add.json {
        let mut answer = json!({ "id": add.station, "hasPassword": !add.no_password });
        if let Some(password) = shown {
            answer["password"] = password.into();
        }
        output::line(answer.to_string())?;
        return Ok(Exit::Done);
    }
    output::note(match target {
        Target::Process(_) => format!("{} is registered", add.station),
        Target::DataDirectory(settings) => format!("{} is registered in {}", add.station, place(settings)),
    })?;
    if let Some(password) = shown {
        output::note("its password, shown this once:")?;
        output::line(password)?;
    }
    Ok(Exit::Done)
}

async fn remove(target: &Target, station: &str, as_json: bool) -> Result<Exit, Failure> {
    let removed = match target {
        Target::Process(client) => {
            match client.request(Method::DELETE, &format!("/v1/stations/{}", segment(station)), None).await {
                Ok(Answer { .. }) => true,
                Err(RequestError::Said { status: StatusCode::NOT_FOUND, .. }) => false,
                Err(error) => return Err(error.into()),
            }
        }
        Target::DataDirectory(settings) => store::remove(settings, station).await?,
    };
    if !removed {
        return Err(Failure::new(Exit::Data, format!("{station} is not registered")));
    }
    if as_json {
        output::line(json!({ "id": station, "removed": true }).to_string())?;
    } else {
        output::note(format!(
            "{station} is no longer registered; a connection that it has stays until it ends"
        ))?;
    }
    Ok(Exit::Done)
}

/// Twenty random letters and digits: what every version of OCPP takes as a password, 119 bits.
pub(crate) fn generate() -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut password = String::new();
    while password.len() < 20 {
        // A version 4 UUID has 122 random bits; bytes 6 and 8 hold fixed ones and are left out.
        for (index, byte) in uuid::Uuid::new_v4().into_bytes().into_iter().enumerate() {
            // 248 = 4 × 62: what is above would make the first letters likelier.
            if index != 6 && index != 8 && byte < 248 && password.len() < 20 {
                password.push(char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
            }
        }
    }
    password
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn generated_passwords_fit_every_version_and_differ() {
        let passwords: HashSet<String> = (0..100).map(|_| generate()).collect();
        assert_eq!(passwords.len(), 100);
        assert!(
            passwords
                .iter()
                .all(|text| text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        );
    }
}
