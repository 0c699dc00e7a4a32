//! Tokens (1.6: idTags): who may charge.

use super::Ledger;
use crate::config::UnknownTokens;
use crate::store::{OptionalExtension, Row, StoreError};
use serde::{Deserialize, Serialize};

/// What is known of a token, or what a station is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TokenStatus {
    /// It may charge.
    Accepted,
    /// It is barred.
    Blocked,
    /// Its time is over.
    Expired,
    /// It is not known (1.6), or no token at all.
    Invalid,
    /// It charges elsewhere already.
    ConcurrentTx,
    /// It is not known. 1.6 has no such status and is told `Invalid`.
    Unknown,
}

impl TokenStatus {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::Blocked, Self::Expired, Self::Invalid, Self::ConcurrentTx, Self::Unknown];

    /// Its name, as on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Blocked => "Blocked",
            Self::Expired => "Expired",
            Self::Invalid => "Invalid",
            Self::ConcurrentTx => "ConcurrentTx",
            Self::Unknown => "Unknown",
        }
    }

    /// The status of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// What a station is told of a token. It is kept with the message that asked, so that a repeat is told the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) status: TokenStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expiry_ms: Option<i64>,
}

impl Verdict {
    pub(crate) const fn of(status: TokenStatus) -> Self {
        Self { status, parent: None, expiry_ms: None }
    }

    /// As it is kept.
    pub(crate) fn to_text(this: Option<&Self>) -> String {
        serde_json::to_string(&this).unwrap_or_else(|_| "null".to_owned())
    }

    /// From how it is kept.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().flatten()
    }
}

/// 2.x: the type of token that says that nobody asked for one.
const NO_AUTHORIZATION: &str = "NoAuthorization";

impl Ledger<'_> {
    /// What a station is told of a token of a type (2.x), other than that it charges elsewhere.
    pub(crate) fn verdict_of_type(
        &self,
        token: &str,
        token_type: Option<&str>,
    ) -> Result<Verdict, StoreError> {
        if token_type == Some(NO_AUTHORIZATION) {
            return Ok(Verdict::of(TokenStatus::Accepted));
        }
        self.verdict_of(token, token_type)
    }

    /// What a station is told of a token, other than that it charges elsewhere.
    pub(crate) fn verdict(&self, token: &str) -> Result<Verdict, StoreError> {
        self.verdict_of(token, None)
    }

    fn verdict_of(&self, token: &str, token_type: Option<&str>) -> Result<Verdict, StoreError> {
        let known = self
            .db
            .prepare_cached(
                "SELECT status, parent, expiry_ms FROM token
                 WHERE tenant = ?1 AND token = ?2 AND (type IS NULL OR type = ?3 OR ?3 IS NULL)",
            )?
            .query_row((self.tenant, token, token_type), |row: &Row<'_>| {
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, Option<i64>>(2)?))
            })
            .optional()?;
        let Some((status, parent, expiry_ms)) = known else {
            return Ok(Verdict::of(if self.lets_unknown_charge()? {
                TokenStatus::Accepted
            } else {
                TokenStatus::Unknown
            }));
        };
        let mut status = TokenStatus::from_name(&status).unwrap_or(TokenStatus::Invalid);
        if status == TokenStatus::Accepted && expiry_ms.is_some_and(|expiry_ms| expiry_ms <= self.now_ms) {
            status = TokenStatus::Expired;
        }
        Ok(Verdict { status, parent, expiry_ms })
    }

    fn lets_unknown_charge(&self) -> Result<bool, StoreError> {
        Ok(match self.rules.unknown_tokens {
            UnknownTokens::Accept => true,
            UnknownTokens::Refuse => false,
            UnknownTokens::WhileNone => !self
                .db
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM token WHERE tenant = ?1 AND status = 'Accepted')",
                )?
                .query_row([self.tenant], |row| row.get(0))?,
        })
    }

    /// As [`verdict`](Self::verdict), for a transaction that begins: a token may be allowed only one at a time. `own` is
    /// the transaction itself, if messages of it came before its beginning.
    pub(crate) fn verdict_at_start(
        &self,
        token: &str,
        token_type: Option<&str>,
        own: Option<i64>,
    ) -> Result<Verdict, StoreError> {
        let mut verdict = self.verdict_of_type(token, token_type)?;
        if self.rules.refuse_concurrent
            && verdict.status == TokenStatus::Accepted
            && token_type != Some(NO_AUTHORIZATION)
        {
            self.db.lock("token", self.tenant, &token.to_ascii_lowercase())?;
            let elsewhere: bool = self
                .db
                .prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM charge JOIN station ON station.id = charge.station
                     WHERE charge.token = ?1 COLLATE NOCASE AND charge.ended = 0 AND station.tenant = ?2
                       AND charge.authorized = 'Accepted' AND charge.id IS DISTINCT FROM ?3)",
                )?
                .query_row((token, self.tenant, own), |row| row.get(0))?;
            if elsewhere {
                verdict.status = TokenStatus::ConcurrentTx;
            }
        }
        Ok(verdict)
    }
}
