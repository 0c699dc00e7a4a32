//! The register of tags, and the lists of them that stations keep.

use crate::books::TokenStatus;
use crate::books::local_list;
use crate::books::tags::{self, Entry};
use crate::central::Central;
use crate::duty::At;
use crate::store::StoreError;
use crate::views::Token;
use serde::Serialize;
use switchboard_rpc::StationId;

/// A tag (1.6: idTag; 2.x: idToken) as the register has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// What stands on the card; upper and lower case are the same.
    pub tag: Token,
    /// What was laid down of it. One that is accepted and whose time is over is told to stations as expired.
    pub status: TokenStatus,
    /// Its group (1.6: parentIdTag; 2.x: groupIdToken): a station lets one tag of a group end what another began.
    pub group: Option<String>,
    /// When it expires, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// The only type of 2.x that it is valid in, for example `eMAID`; none: any.
    pub kind: Option<String>,
}

/// Why a tag cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// It is none.
    #[error("a tag has 1 to {TAG_CHARACTERS_MAX} characters, none of them control characters")]
    Tag,
    /// The group is none.
    #[error("a group has 1 to {TAG_CHARACTERS_MAX} characters, none of them control characters")]
    Group,
    /// The type is none.
    #[error("a type has 1 to 20 characters, for example ISO14443, ISO15693, KeyCode, eMAID or Local")]
    Kind,
    /// The status is for answers only.
    #[error("a registered tag is Accepted, Blocked, Expired or Invalid")]
    Status,
}

/// Characters of an idToken of 2.x. 1.6 takes 20, and cannot be told longer ones.
const TAG_CHARACTERS_MAX: usize = 36;

impl Tag {
    /// A tag that may charge.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn new(tag: &str) -> Result<Self, TagError> {
        let tag = tag.trim();
        if !fits(tag, TAG_CHARACTERS_MAX) {
            return Err(TagError::Tag);
        }
        Ok(Self {
            tag: Token::new(tag.to_owned()),
            status: TokenStatus::Accepted,
            group: None,
            expires_ms: None,
            kind: None,
        })
    }

    /// Whether it can be registered.
    ///
    /// # Errors
    /// When it cannot; why.
    pub fn check(&self) -> Result<(), TagError> {
        if matches!(self.status, TokenStatus::ConcurrentTx | TokenStatus::Unknown) {
            return Err(TagError::Status);
        }
        if self.group.as_deref().is_some_and(|group| !fits(group, TAG_CHARACTERS_MAX)) {
            return Err(TagError::Group);
        }
        if self.kind.as_deref().is_some_and(|kind| !fits(kind, 20)) {
            return Err(TagError::Kind);
        }
        Ok(())
    }

    /// What a station is told of it at this moment.
    #[must_use]
    pub fn status_at(&self, now_ms: i64) -> TokenStatus {
        if self.status == TokenStatus::Accepted && self.expires_ms.is_some_and(|expires| expires <= now_ms) {
            TokenStatus::Expired
        } else {
            self.status
        }
    }

    fn entry(&self) -> Entry {
        Entry {
            token: self.tag.as_str().to_owned(),
            status: self.status,
            group: self.group.clone(),
            expiry_ms: self.expires_ms,
            kind: self.kind.clone(),
            changed: 0,
        }
    }

    fn of(entry: Entry) -> Self {
        Self {
            tag: Token::new(entry.token),
            status: entry.status,
            group: entry.group,
            expires_ms: entry.expiry_ms,
            kind: entry.kind,
        }
    }
}

fn fits(text: &str, most: usize) -> bool {
    !text.is_empty() && text.chars().count() <= most && !text.chars().any(char::is_control)
}

/// Which tags to list.
#[derive(Clone, Debug, Default)]
pub struct TagFilter {
    /// Only those of this status; accepted ones whose time is over count as expired.
    pub status: Option<TokenStatus>,
    /// Only those of this group.
    pub group: Option<String>,
    /// Only those with this in them.
    pub containing: Option<String>,
    /// Only those after this one.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// A station's list of tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TagList {
    /// Which station.
    pub station: String,
    /// Whether it shall keep one; off: it is being emptied.
    pub wanted: bool,
    /// `applied`: it has all tags. `owed`: it is to be told, as soon as it is there. `failed`: it does not take them.
    pub state: String,
    /// Why, in words.
    pub reason: Option<String>,
    /// The version that it shall have.
    pub desired_version: i64,
    /// The version that it reported last, or took since.
    pub reported_version: Option<i64>,
    /// How many tags it takes in one message, if it told.
    pub tags_per_message: Option<i64>,
    /// How many tags it keeps, if it told.
    pub tags_max: Option<i64>,
    /// When this last changed, in milliseconds since 1970.
    pub changed_ms: i64,
}

impl Central {
    /// Tags in order of their letters.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn tags(&self, tenant: &str, filter: TagFilter) -> Result<Vec<Tag>, StoreError> {
        let (tenant, now_ms) = (tenant.to_owned(), self.0.clock.now_ms());
        let TagFilter { status, group, containing, after, limit } = filter;
        let wanted = tags::Wanted { status, group, containing, after, limit };
        let found = self.0.store.read(move |db| tags::list(At { db, now_ms }, &tenant, &wanted)).await?;
        Ok(found.into_iter().map(Tag::of).collect())
    }

    /// One tag, whatever the case of its letters.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn tag(&self, tenant: &str, tag: &str) -> Result<Option<Tag>, StoreError> {
        let (tenant, tag) = (tenant.to_owned(), tag.to_owned());
        Ok(self.0.store.read(move |db| tags::get(db, &tenant, &tag)).await?.map(Tag::of))
    }

    /// How many tags are registered.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn tag_count(&self, tenant: &str) -> Result<u64, StoreError> {
        let tenant = tenant.to_owned();
        self.0.store.read(move |db| tags::count(db, &tenant)).await
    }

    /// Registers tags, each in place of what was known of it: all or none. Stations with a list come to be owed the
    /// change.
    ///
    /// # Errors
    /// When they cannot be stored.
    pub async fn put_tags(&self, tenant: &str, list: Vec<Tag>) -> Result<(), StoreError> {
        let entries: Vec<Entry> = list.iter().map(Tag::entry).collect();
        self.change_tags(tenant, move |at, tenant| {
            entries.iter().try_for_each(|entry| tags::put(at.db, tenant, entry))
        })
        .await
    }

    /// Changes a tag; gives out what it is then. `change` may run more than once. None from it: it is left as it is.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn change_tag(
        &self,
        tenant: &str,
        tag: &str,
        change: impl Fn(Option<Tag>) -> Option<Tag> + Send + 'static,
    ) -> Result<Option<Tag>, StoreError> {
        let tag = tag.to_owned();
        self.change_tags(tenant, move |at, tenant| {
            let changed = change(tags::get(at.db, tenant, &tag)?.map(Tag::of));
            if let Some(tag) = &changed {
                tags::put(at.db, tenant, &tag.entry())?;
            }
            Ok(changed)
        })
        .await
    }

    /// Removes a tag; whether there was one.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub async fn remove_tag(&self, tenant: &str, tag: &str) -> Result<bool, StoreError> {
        let tag = tag.to_owned();
        self.change_tags(tenant, move |at, tenant| tags::remove(at.db, tenant, &tag)).await
    }

    /// The lists of tags that stations keep or shall keep, of one station or of all.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn tag_lists(&self, tenant: &str, station: Option<&str>) -> Result<Vec<TagList>, StoreError> {
        let (tenant, station) = (tenant.to_owned(), station.map(str::to_owned));
        let read = move |db: &crate::store::Connection| {
            let desired_version = tags::latest(db, &tenant)?.max(1);
            let held = local_list::list(db, &tenant, station.as_deref())?;
            Ok(held
                .into_iter()
                .map(|held| TagList {
                    station: held.station,
                    wanted: held.wanted,
                    state: held.state,
                    reason: held.reason,
                    desired_version,
                    reported_version: held.reported,
                    tags_per_message: held.part_max,
                    tags_max: held.list_max,
                    changed_ms: held.changed_ms,
                })
                .collect())
        };
        self.0.store.read(read).await
    }

    /// Lays down whether a station shall keep a list of all tags, to authorise by itself while it is offline. It comes to
    /// be owed the list, or its emptying.
    ///
    /// # Errors
    /// When that cannot be stored.
    pub async fn want_tag_list(
        &self,
        tenant: &str,
        station: &StationId,
        wanted: bool,
    ) -> Result<(), StoreError> {
        let (whose, which, now_ms) = (tenant.to_owned(), station.clone(), self.0.clock.now_ms());
        self.0
            .store
            .write(move |transaction| {
                transaction.lock_station(&whose, which.as_str())?;
                local_list::want(At { db: transaction, now_ms }, &whose, which.as_str(), wanted)
            })
            .await?;
        self.nudge(&tenant.into(), station);
        Ok(())
    }

    /// Changes the register, and lets stations with a list be told.
    async fn change_tags<R: Send + 'static>(
        &self,
        tenant: &str,
        change: impl Fn(At<'_>, &str) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (whose, now_ms) = (tenant.to_owned(), self.0.clock.now_ms());
        let (result, stations) = self
            .0
            .store
            .write(move |transaction| {
                let at = At { db: transaction, now_ms };
                tags::lock(at.db, &whose)?;
                let before = tags::latest(at.db, &whose)?;
                let result = change(at, &whose)?;
                let changed = tags::latest(at.db, &whose)? != before;
                let stations = if changed { local_list::changed(at, &whose)? } else { Vec::new() };
                Ok((result, stations))
            })
            .await?;
        for station in stations {
            if let Ok(station) = StationId::new(station, usize::MAX) {
                self.nudge(&tenant.into(), &station);
            }
        }
        Ok(result)
    }
}
