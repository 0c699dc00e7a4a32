//! Passwords of stations: Argon2 to keep them, and a keyed memory of the last good one so that a storm of reconnections
//! does not cost an Argon2 each.

use crate::{Account, PasswordHash, StationKey};
use argon2::password_hash::{self, try_generate_salt};
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

/// Why a password could not be hashed.
#[derive(Debug, thiserror::Error)]
#[error("the password could not be hashed")]
pub struct HashError(#[source] password_hash::Error);

/// Why a password could not be checked. Neither says that it is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Too many are being checked; the station is to come again (H16).
    #[error("too many passwords are being checked")]
    Busy,
    /// What is stored is no Argon2 hash in PHC form.
    #[error("the stored password hash cannot be used")]
    Stored(#[source] password_hash::Error),
    /// There is no randomness, no memory or no thread to be had.
    #[error("the password could not be checked")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A password as it is stored: Argon2id with a random salt, 19 MiB and two passes.
///
/// The bytes are taken as they are. Only a 1.6 key, 32 to 40 hexadecimal digits, is hashed as the bytes that it stands
/// for, since some stations send those and others the digits (H09). Takes tens of milliseconds: not for an async task.
///
/// # Errors
/// When there is no randomness or memory.
pub fn hash(password: &[u8]) -> Result<PasswordHash, HashError> {
    let hashed = Argon2::default().hash_password(&canonical(password)).map_err(HashError)?;
    Ok(PasswordHash(hashed.to_string()))
}

/// Checks passwords against accounts.
///
/// Argon2 runs on the runtime's blocking threads, [`PARALLEL_MAX`](Self::PARALLEL_MAX) at once, since each takes 19 MiB.
/// [`WAITING_MAX`](Self::WAITING_MAX) may wait for that. The last good and the last bad password of a station are remembered as HMACs
/// under a key that this process drew by lot, and compared in constant time; changing the account makes them worthless.
pub struct Verifier {
    key: [u8; 32],
    remembered: Mutex<HashMap<StationKey, Remembered>>,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

#[derive(Clone, Copy, Default)]
struct Remembered {
    good: Option<Tag>,
    bad: Option<Tag>,
}

type Tag = [u8; 32];

impl Verifier {
    /// How many Argon2 computations run at once.
    pub const PARALLEL_MAX: usize = 4;
    /// How many may wait for their turn; the next one is [`VerifyError::Busy`].
    pub const WAITING_MAX: usize = 512;
    /// Of how many stations passwords are remembered, at about 200 bytes each; any one makes room for the next.
    pub const REMEMBERED_MAX: usize = 100_000;

    /// A verifier with a key of its own.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn new() -> Result<Self, VerifyError> {
        let mut key = [0; 32];
        for half in key.chunks_exact_mut(16) {
            half.copy_from_slice(
                &try_generate_salt().map_err(|error| VerifyError::Failed(error.to_string().into()))?,
            );
        }
        let parallel = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self {
            key,
            remembered: Mutex::default(),
            running: Arc::new(Semaphore::new(parallel.min(Self::PARALLEL_MAX))),
            waiting: Arc::new(Semaphore::new(Self::WAITING_MAX)),
        })
    }

    /// Whether this is the account's password. An account without password takes any.
    ///
    /// # Errors
    /// When it could not be checked.
    pub async fn verify(&self, account: &Account, password: &[u8]) -> Result<bool, VerifyError> {
        let Some(stored) = &account.password else { return Ok(true) };
        let tag = self.tag(stored, password)?;
        if let Some(known) = self.recall(&account.key, &tag) {
            return Ok(known);
        }
        let place = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| VerifyError::Busy)?;
        let turn = Arc::clone(&self.running).acquire_owned().await.map_err(|_| VerifyError::Busy)?;
        drop(place);
        // The one before may have been the same station with the same password.
        if let Some(known) = self.recall(&account.key, &tag) {
            return Ok(known);
        }
        let (stored, password) = (stored.clone(), password.to_vec());
        let checked = tokio::task::spawn_blocking(move || {
            let outcome = check(&stored, &password);
            // Held until here also when nobody waits for the outcome any more.
            drop(turn);
            outcome
        });
        let good = checked.await.map_err(|error| VerifyError::Failed(Box::new(error)))??;
        self.remember(&account.key, tag, good);
        Ok(good)
    }

    /// Forgets what is remembered of a station.
    pub fn forget(&self, key: &StationKey) {
        self.lock().remove(key);
    }

    fn recall(&self, key: &StationKey, tag: &Tag) -> Option<bool> {
        let remembered = self.lock().get(key).copied()?;
        let is = |known: Option<Tag>| known.is_some_and(|known| bool::from(known.ct_eq(tag)));
        match (is(remembered.good), is(remembered.bad)) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    fn remember(&self, key: &StationKey, tag: Tag, good: bool) {
        let mut remembered = self.lock();
        if remembered.len() >= Self::REMEMBERED_MAX && !remembered.contains_key(key) {
            let any = remembered.keys().next().cloned();
            if let Some(any) = any {
                remembered.remove(&any);
            }
        }
        let entry = remembered.entry(key.detached()).or_default();
        if good {
            entry.good = Some(tag);
        } else {
            entry.bad = Some(tag);
        }
    }

    /// The stored hash is part of it, so that a new password makes the old one's tag worthless.
    fn tag(&self, stored: &PasswordHash, password: &[u8]) -> Result<Tag, VerifyError> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key);
        let mut mac = mac.map_err(|error| VerifyError::Failed(Box::new(error)))?;
        // Its length first: otherwise the end of one could be the beginning of the other.
        mac.update(&(stored.0.len() as u64).to_be_bytes());
        mac.update(stored.0.as_bytes());
        mac.update(password);
        Ok(mac.finalize().into_bytes().into())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StationKey, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Verifier").finish_non_exhaustive()
    }
}

/// As what it is, and where it is a hexadecimal key also as the bytes or the digits: hashes that others made may be of
/// either.
fn check(stored: &PasswordHash, password: &[u8]) -> Result<bool, VerifyError> {
    let canonical = canonical(password);
    if matches(stored, &canonical)? {
        return Ok(true);
    }
    match canonical {
        Cow::Owned(_) => matches(stored, password),
        Cow::Borrowed(_) => Ok(false),
    }
}

fn matches(stored: &PasswordHash, password: &[u8]) -> Result<bool, VerifyError> {
    match Argon2::default().verify_password(password, stored.0.as_str()) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(VerifyError::Stored(error)),
    }
}

/// The bytes that a hexadecimal key stands for, else the bytes themselves.
fn canonical(password: &[u8]) -> Cow<'_, [u8]> {
    let digits = |pair: &[u8]| {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        Some(digit(pair[0])? << 4 | digit(pair[1])?)
    };
    if !KEY_DIGITS.contains(&password.len()) || !password.len().is_multiple_of(2) {
        return Cow::Borrowed(password);
    }
    let bytes: Option<Vec<u8>> = password.chunks_exact(2).map(digits).collect();
    bytes.map_or(Cow::Borrowed(password), Cow::Owned)
}

/// OCPP 1.6 security white paper, AuthorizationKey: 16 to 20 bytes, written with two digits each.
const KEY_DIGITS: std::ops::RangeInclusive<usize> = 32..=40;

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_rpc::StationId;

    const DIGITS: &[u8] = b"0001020304050607FFfe3a0a0b0c0d0e0f101112";
    const BYTES: &[u8] = &[0, 1, 2, 3, 4, 5, 6, 7, 0xff, 0xfe, b':', 10, 11, 12, 13, 14, 15, 16, 17, 18];

    fn account(password: Option<PasswordHash>) -> Account {
        let station = StationId::new("CP001", 48).unwrap();
        Account { key: StationKey { tenant: "default".into(), station }, password, created_ms: 0 }
    }

    #[tokio::test]
    async fn a_key_in_digits_is_the_same_as_its_bytes() {
        let foreign = Argon2::default().hash_password(DIGITS).unwrap().to_string();
        let lower = DIGITS.to_ascii_lowercase();
        for (name, stored, candidate, expected) in [
            ("digits, digits", hash(DIGITS).unwrap(), DIGITS, true),
            ("digits, bytes", hash(DIGITS).unwrap(), BYTES, true),
            ("digits, lower case", hash(DIGITS).unwrap(), &*lower, true),
            ("bytes, digits", hash(BYTES).unwrap(), DIGITS, true),
            ("bytes, bytes", hash(BYTES).unwrap(), BYTES, true),
            ("bytes, shorter", hash(BYTES).unwrap(), &BYTES[..19], false),
            ("digits hashed by others", PasswordHash(foreign), DIGITS, true),
            ("text with a colon", hash(b"a:b\xff").unwrap(), b"a:b\xff", true),
            ("empty for text", hash(b"a:b").unwrap(), b"", false),
        ] {
            let verifier = Verifier::new().unwrap();
            let account = account(Some(stored));
            assert_eq!(verifier.verify(&account, candidate).await.unwrap(), expected, "{name}");
            assert_eq!(verifier.verify(&account, candidate).await.unwrap(), expected, "{name}, remembered");
        }
    }

    #[tokio::test]
    async fn a_password_seen_before_costs_no_argon2_until_the_account_changes() {
        let verifier = Verifier::new().unwrap();
        let first = account(Some(hash(b"correct horse").unwrap()));
        assert!(verifier.verify(&first, b"correct horse").await.unwrap());
        assert!(!verifier.verify(&first, b"battery staple").await.unwrap());
        // With nobody allowed to compute, only what is remembered can be answered.
        verifier.waiting.close();
        assert!(verifier.verify(&first, b"correct horse").await.unwrap());
        assert!(!verifier.verify(&first, b"battery staple").await.unwrap());
        let other = verifier.verify(&first, b"something else").await;
        assert!(matches!(other, Err(VerifyError::Busy)), "{other:?}");
        let changed = account(Some(hash(b"battery staple").unwrap()));
        let outcome = verifier.verify(&changed, b"correct horse").await;
        assert!(matches!(outcome, Err(VerifyError::Busy)), "{outcome:?}");
        verifier.forget(&first.key);
        let forgotten = verifier.verify(&first, b"correct horse").await;
        assert!(matches!(forgotten, Err(VerifyError::Busy)), "{forgotten:?}");
    }

    #[tokio::test]
    async fn no_password_asked_for_is_none_needed_and_a_broken_hash_is_no_wrong_password() {
        let verifier = Verifier::new().unwrap();
        assert!(verifier.verify(&account(None), b"anything").await.unwrap());
        let broken = account(Some(PasswordHash("plain".to_owned())));
        let outcome = verifier.verify(&broken, b"plain").await;
        assert!(matches!(outcome, Err(VerifyError::Stored(_))), "{outcome:?}");
    }

    #[test]
    fn two_hashes_of_one_password_differ_and_print_nothing() {
        let (one, two) = (hash(b"secret").unwrap(), hash(b"secret").unwrap());
        assert_ne!(one, two);
        assert_eq!(format!("{one:?}"), "PasswordHash(…)");
        assert!(one.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", one.0);
    }
}
