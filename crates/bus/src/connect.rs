//! What every driver needs to know to reach its broker: the same for all, so that whoever composes need not know which.

mod endpoint;
#[cfg(feature = "tls")]
mod tls;

pub use endpoint::{Endpoint, Scheme};

use bytestring::ByteString;
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Where a broker is, and as whom it is reached.
///
/// A driver reads its endpoints with [`endpoints`](Self::endpoints), which also finds what can never work. Its `Debug`
/// shows no credentials.
#[derive(Clone)]
pub struct Connect {
    /// The endpoints of one broker or cluster; one of them may also hold several, separated by commas, where those
    /// without a scheme of their own have that of the one before. Which is taken first is the driver's matter.
    pub urls: Vec<String>,
    /// Keeps installations apart that share a broker: part of every address. Letters, digits, `-` and `_`, at most
    /// [`NAMESPACE_MAX`](Self::NAMESPACE_MAX).
    pub namespace: ByteString,
    /// The name of this process, by which the broker knows its connections. No two processes may have the same.
    pub participant: ByteString,
    /// How many partitions the stations are spread over; the same for all processes of an installation.
    pub partitions: u16,
    /// Certificates, where an endpoint's scheme asks for TLS.
    pub tls: Tls,
    /// Who we are, where an endpoint does not say.
    pub user: Option<String>,
    /// How that is proved.
    pub password: Option<Secret>,
}

/// Files for TLS, all in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Whom to trust besides the authorities of the system.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, with those between it and its authority. With `key_file` or not at all.
    pub certificate_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

/// A text that prints redacted.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// A configuration with which no connection can ever be made. No text of it holds a credential.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no endpoint.
    #[error("no URL of a broker is given; one looks like {example}")]
    NoUrl {
        /// What one looks like.
        example: String,
    },
    /// A URL that cannot be read.
    #[error("the URL {url} cannot be used: {reason}")]
    Url {
        /// It, without its credentials.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A namespace that not all transports could carry.
    #[error(
        "the namespace {namespace:?} cannot be used: give 1 to {} letters, digits, '-' or '_'",
        Connect::NAMESPACE_MAX
    )]
    Namespace {
        /// It.
        namespace: ByteString,
    },
    /// A name that not all transports could carry.
    #[error(
        "the name {participant:?} cannot be used on the bus: give 1 to {} characters, none of them a control character",
        Connect::PARTICIPANT_MAX
    )]
    Participant {
        /// It.
        participant: ByteString,
    },
    /// Partitions that stations cannot be spread over.
    #[error(
        "{partitions} partitions cannot be used: give a power of two from 1 to {}, the same in all processes",
        Connect::PARTITIONS_MAX
    )]
    Partitions {
        /// How many.
        partitions: u16,
    },
    /// A user without a password, or the other way round.
    #[error("{present} is given without {missing}: give both or neither")]
    Credentials {
        /// What is there.
        present: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// A file that cannot be used.
    #[error("the file {} for TLS cannot be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Files of which one is useless without the other.
    #[error("a certificate and its key go together: {missing} is missing")]
    HalfCertificate {
        /// Which setting is not there.
        missing: &'static str,
    },
    /// Anything else that the driver's library finds wrong before it connects.
    #[error("no connection can be made with this configuration")]
    Driver(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Connect {
    /// The longest namespace, in bytes.
    pub const NAMESPACE_MAX: usize = 64;
    /// The longest name of a participant, in bytes.
    pub const PARTICIPANT_MAX: usize = 128;
    /// The most partitions.
    pub const PARTITIONS_MAX: u16 = 1 << 15;

    /// Everything as usual: namespace `default`, the default partitions, no TLS files, no credentials but those of the
    /// URL. The participant is a new name.
    #[must_use]
    pub fn to(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            namespace: ByteString::from_static("default"),
            participant: uuid::Uuid::new_v4().simple().to_string().into(),
            partitions: crate::PARTITIONS_DEFAULT,
            tls: Tls::default(),
            user: None,
            password: None,
        }
    }

    /// The endpoints, with the credentials that are theirs, after everything has been checked that can be without a
    /// connection.
    ///
    /// # Errors
    /// When this can never work with a driver of these schemes.
    pub fn endpoints(&self, schemes: &[Scheme]) -> Result<Vec<Endpoint>, ConnectError> {
        self.check()?;
        let mut endpoints = endpoint::read(&self.urls, schemes)?;
        for endpoint in &mut endpoints {
            if endpoint.user.is_none() && endpoint.password.is_none() {
                endpoint.user.clone_from(&self.user);
                endpoint.password.clone_from(&self.password);
            }
        }
        Ok(endpoints)
    }

    fn check(&self) -> Result<(), ConnectError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !(1..=Self::NAMESPACE_MAX).contains(&self.namespace.len()) || !self.namespace.bytes().all(is_plain)
        {
            return Err(ConnectError::Namespace { namespace: self.namespace.clone() });
        }
        if !(1..=Self::PARTICIPANT_MAX).contains(&self.participant.len())
            || self.participant.chars().any(char::is_control)
        {
            return Err(ConnectError::Participant { participant: self.participant.clone() });
        }
        if !self.partitions.is_power_of_two() || self.partitions > Self::PARTITIONS_MAX {
            return Err(ConnectError::Partitions { partitions: self.partitions });
        }
        match (&self.user, &self.password) {
            (None, Some(_)) => {
                return Err(ConnectError::Credentials { present: "a password", missing: "a user" });
            }
            (Some(_), None) => {
                return Err(ConnectError::Credentials { present: "a user", missing: "a password" });
            }
            _ => {}
        }
        match (&self.tls.certificate_file, &self.tls.key_file) {
            (Some(_), None) => return Err(ConnectError::HalfCertificate { missing: "the key file" }),
            (None, Some(_)) => return Err(ConnectError::HalfCertificate { missing: "the certificate file" }),
            _ => {}
        }
        let Tls { ca_file, certificate_file, key_file } = &self.tls;
        [ca_file, certificate_file, key_file].into_iter().flatten().try_for_each(|path| readable(path))
    }
}

/// Drivers' libraries name no file when they cannot read one.
fn readable(path: &Path) -> Result<(), ConnectError> {
    let is_text = std::fs::read_to_string(path)
        .map_err(|source| ConnectError::File { path: path.to_owned(), source: source.into() })?
        .contains("-----BEGIN ");
    if is_text {
        Ok(())
    } else {
        Err(ConnectError::File { path: path.to_owned(), source: "it holds nothing in PEM".into() })
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.urls.iter().map(|url| endpoint::redacted(url)).collect();
        formatter
            .debug_struct("Connect")
            .field("urls", &urls)
            .field("namespace", &self.namespace)
            .field("participant", &self.participant)
            .field("partitions", &self.partitions)
            .field("tls", &self.tls)
            .field("user", &self.user)
            .field("password", &self.password)
            .finish()
    }
}

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whoever has to prove it to somebody.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests;
