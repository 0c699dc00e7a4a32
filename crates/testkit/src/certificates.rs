//! Certificates of authorities that were made for the test, as files.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::path::{Path, PathBuf};

/// Files in PEM, in a folder: an authority, a server of its for `localhost`, a client of its, and an authority that has
/// signed nothing.
#[derive(Clone, Debug)]
pub struct Certificates(PathBuf);

impl Certificates {
    /// Makes them in this folder. `client` is the client's common name.
    ///
    /// # Errors
    /// They cannot be made or written.
    pub fn make(folder: &Path, client: &str) -> Result<Self> {
        let this = Self(folder.to_owned());
        let authority = authority("an authority")?;
        std::fs::write(this.authority(), authority.pem())?;
        std::fs::write(this.stranger(), self::authority("a stranger")?.pem())?;
        let server = CertificateParams::new(vec!["localhost".to_owned()])?;
        let mut known = CertificateParams::new(Vec::new())?;
        known.distinguished_name.push(DnType::CommonName, client);
        for (params, (certificate, key)) in [(server, this.server()), (known, this.client())] {
            let pair = KeyPair::generate()?;
            std::fs::write(key, pair.serialize_pem())?;
            std::fs::write(certificate, params.signed_by(&pair, &authority)?.pem())?;
        }
        Ok(this)
    }

    /// The authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// Another authority.
    #[must_use]
    pub fn stranger(&self) -> PathBuf {
        self.0.join("stranger.pem")
    }

    /// The server's certificate and key.
    #[must_use]
    pub fn server(&self) -> (PathBuf, PathBuf) {
        (self.0.join("server.pem"), self.0.join("server.key"))
    }

    /// The client's certificate and key.
    #[must_use]
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.0.join("client.pem"), self.0.join("client.key"))
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}
