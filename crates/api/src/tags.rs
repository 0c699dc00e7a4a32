//! `/v1/tags`: who may charge, and the lists of them that stations keep.

use crate::parts::{Path, Query};
use crate::{
    State,
    problem::{Place, Problem},
    stations::station_id,
    time,
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State as FromState},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use switchboard_central::{Tag, TagFilter, TagList, TokenStatus};

/// How many tags an answer holds, unless the caller says less.
const PAGE: usize = 1000;
/// How many tags one import may have: it is one transaction, and stations' calls wait for it.
const IMPORT_MAX: usize = 200_000;
/// Where imports go.
pub(crate) const IMPORT: &str = "/v1/tag-import";
/// Bytes of an import.
pub(crate) const IMPORT_BYTES_MAX: usize = 64 << 20;
/// How many faults of an import are told.
const FAULTS_MAX: usize = 50;

/// The routes.
pub(crate) fn routes() -> Router<State> {
    Router::new()
        .route("/v1/tags", get(list))
        .route("/v1/tags/{tag}", get(one).put(put).patch(change).delete(remove))
        .route(IMPORT, post(import).layer(DefaultBodyLimit::max(IMPORT_BYTES_MAX)))
        .route("/v1/tag-lists", get(lists))
        .route("/v1/stations/{id}/tag-list", get(station_list).put(want_list))
}

/// A tag as the API shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TagView {
    tag: String,
    status: &'static str,
    group: Option<String>,
    expires: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

fn view(tag: Tag, now_ms: i64) -> TagView {
    TagView {
        status: tag.status_at(now_ms).as_str(),
        tag: tag.tag.as_str().to_owned(),
        group: tag.group,
        expires: tag.expires_ms.map(time),
        kind: tag.kind,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    status: Option<String>,
    group: Option<String>,
    containing: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

async fn list(
    FromState(state): FromState<State>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let status = query.status.as_deref().map(status).transpose();
    let status = status.map_err(|detail| Problem::bad_request("invalid_status", detail))?;
    let filter = TagFilter {
        status,
        group: query.group,
        containing: query.containing,
        after: query.after.filter(|after| !after.is_empty()),
        limit: query.limit.unwrap_or(PAGE).clamp(1, PAGE),
    };
    let central = state.central()?;
    let now_ms = crate::now_ms();
    let tags = central.tags(state.tenant(), filter).await?;
    let tags: Vec<TagView> = tags.into_iter().map(|tag| view(tag, now_ms)).collect();
    Ok(Json(json!({ "tags": tags, "registered": central.tag_count(state.tenant()).await? })))
}

async fn one(FromState(state): FromState<State>, Path(tag): Path<String>) -> Result<Json<TagView>, Problem> {
    match state.central()?.tag(state.tenant(), &tag).await? {
        Some(tag) => Ok(Json(view(tag, crate::now_ms()))),
        None => Err(unknown()),
    }
}

/// What there is to say of a tag. In a change: what is absent stays, what is null goes.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    status: Option<String>,
    #[serde(default, deserialize_with = "said")]
    group: Option<Option<String>>,
    #[serde(default, deserialize_with = "said")]
    expires: Option<Option<String>>,
    #[serde(default, rename = "type", deserialize_with = "said")]
    kind: Option<Option<String>>,
}

/// Tells null from absence.
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

impl Said {
    /// The tag with what is said of it; or the member that is wrong, and why.
    fn apply(&self, mut tag: Tag) -> Result<Tag, (&'static str, String)> {
        if let Some(name) = &self.status {
            tag.status = status(name).map_err(|detail| ("status", detail))?;
        }
        if let Some(group) = &self.group {
            tag.group.clone_from(group);
        }
        if let Some(expires) = &self.expires {
            tag.expires_ms =
                expires.as_deref().map(moment).transpose().map_err(|detail| ("expires", detail))?;
        }
        if let Some(kind) = &self.kind {
            tag.kind.clone_from(kind);
        }
        tag.check().map_err(|error| ("", error.to_string()))?;
        Ok(tag)
    }
}

async fn put(
    FromState(state): FromState<State>,
    Path(tag): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<TagView>, Problem> {
    let said: Said = crate::json_body(&headers, &body)?;
    let tag = Tag::new(&tag).map_err(|error| Problem::bad_request("invalid_tag", error.to_string()))?;
    let tag = said.apply(tag).map_err(wrong)?;
    state.central()?.put_tags(state.tenant(), vec![tag.clone()]).await?;
    Ok(Json(view(tag, crate::now_ms())))
}

/// Changes a tag. One that is not registered is, if it is to be blocked: a card that was lost need not be known.
async fn change(
    FromState(state): FromState<State>,
    Path(tag): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<TagView>, Problem> {
    let said: Said = crate::json_body(&headers, &body)?;
    let fresh = Tag::new(&tag).map_err(|error| Problem::bad_request("invalid_tag", error.to_string()))?;
    // Judged beforehand, as inside the books nothing can be told any more.
    let judged = said.apply(fresh).map_err(wrong)?;
    let changed = state
        .central()?
        .change_tag(state.tenant(), &tag, move |known| match known {
            Some(known) => said.apply(known).ok(),
            None if judged.status == TokenStatus::Blocked => Some(judged.clone()),
            None => None,
        })
        .await?;
    changed.map(|tag| Json(view(tag, crate::now_ms()))).ok_or_else(unknown)
}

async fn remove(FromState(state): FromState<State>, Path(tag): Path<String>) -> Result<StatusCode, Problem> {
    if state.central()?.remove_tag(state.tenant(), &tag).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(unknown())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Import {
    tags: Vec<Imported>,
}

#[derive(Deserialize)]
struct Imported {
    tag: String,
    #[serde(flatten)]
    said: Said,
}

/// Registers many tags: all or, if anything is wrong with one, none.
async fn import(
    FromState(state): FromState<State>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let import: Import = crate::json_body(&headers, &body)?;
    if import.tags.len() > IMPORT_MAX {
        let detail = format!("one import has at most {IMPORT_MAX} tags; split it");
        return Err(Problem::bad_request("too_many", detail));
    }
    let mut tags = Vec::with_capacity(import.tags.len());
    let mut faults = Vec::new();
    for (index, imported) in import.tags.iter().enumerate() {
        let tag = Tag::new(&imported.tag).map_err(|error| ("tag", error.to_string()));
        match tag.and_then(|tag| imported.said.apply(tag)) {
            Ok(tag) => tags.push(tag),
            Err((member, expected)) => {
                let place = if member.is_empty() { String::new() } else { format!("/{member}") };
                faults.push(Place { pointer: format!("/tags/{index}{place}"), expected });
            }
        }
    }
    if !faults.is_empty() {
        let detail =
            format!("{} of {} tags are wrong, and none was registered", faults.len(), import.tags.len());
        faults.truncate(FAULTS_MAX);
        return Err(Problem::bad_request("invalid_tags", detail).at(faults));
    }
    let imported = tags.len();
    let central = state.central()?;
    central.put_tags(state.tenant(), tags).await?;
    tracing::info!(imported, "tags imported");
    Ok(Json(json!({ "imported": imported, "registered": central.tag_count(state.tenant()).await? })))
}

async fn lists(FromState(state): FromState<State>) -> Result<Json<Value>, Problem> {
    let lists = state.central()?.tag_lists(state.tenant(), None).await?;
    Ok(Json(json!({ "lists": lists })))
}

async fn station_list(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let station = station_id(id)?;
    let list = state.central()?.tag_lists(state.tenant(), Some(station.as_str())).await?.pop();
    Ok(Json(shown(station.as_str(), list)))
}

fn shown(station: &str, list: Option<TagList>) -> Value {
    match list {
        Some(list) => json!(list),
        None => json!({ "station": station, "wanted": false, "state": "off" }),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Want {
    wanted: bool,
}

async fn want_list(
    FromState(state): FromState<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let station = station_id(id)?;
    let Want { wanted } = crate::json_body(&headers, &body)?;
    let central = state.central()?;
    central.want_tag_list(state.tenant(), &station, wanted).await?;
    let list = central.tag_lists(state.tenant(), Some(station.as_str())).await?.pop();
    Ok(Json(shown(station.as_str(), list)))
}

/// A status by its name, in any case.
fn status(name: &str) -> Result<TokenStatus, String> {
    TokenStatus::ALL
        .into_iter()
        .find(|status| status.as_str().eq_ignore_ascii_case(name))
        .ok_or_else(|| "a status is accepted, blocked, expired or invalid".to_owned())
}

/// A moment: RFC 3339, or a day, which begins at midnight UTC.
fn moment(text: &str) -> Result<i64, String> {
    let text = text.trim();
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Ok(timestamp.as_millisecond());
    }
    text.parse::<jiff::civil::Date>()
        .ok()
        .and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .map(|midnight| midnight.timestamp().as_millisecond())
        .ok_or_else(|| "a day such as 2027-01-01, or a time such as 2027-01-01T12:00:00Z".to_owned())
}

fn wrong((member, detail): (&'static str, String)) -> Problem {
    let problem = Problem::bad_request("invalid_tag", detail.clone());
    if member.is_empty() {
        problem
    } else {
        Problem::bad_request("invalid_tag", format!("the {member} is wrong"))
            .at(vec![Place { pointer: format!("/{member}"), expected: detail }])
    }
}

fn unknown() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "unknown_tag", "this tag is not registered")
}
