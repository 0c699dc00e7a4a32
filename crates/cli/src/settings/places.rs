//! Where a bus, a directory and a database are: what `--bus`, `--directory` and `--database` take.
//!
//! Only what kind of thing an address names is understood here; the rest is its driver's matter. Nothing of it is shown
//! with its password.

use super::value::{Raw, Readable};
use std::{
    fmt,
    path::{Path, PathBuf},
};
use switchboard_bus::{Secret, Tls};

/// Whose broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// `nats://`, `tls://`
    Nats,
    /// `amqp://`, `amqps://`
    Amqp,
    /// `mqtt://`, `mqtts://`
    Mqtt,
    /// `http://`, `https://`
    Http,
}

/// Where the bus is.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) enum BusPlace {
    /// Within the process.
    #[default]
    Embedded,
    /// At a broker.
    Broker(Engine, Vec<String>),
}

/// Where the directory is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum DirectoryPlace {
    /// In this file.
    Sqlite(PathBuf),
    /// In PostgreSQL.
    Postgres(Vec<String>),
    /// In a bucket of NATS KV, the last segment of each URL's path.
    NatsKv(Vec<String>),
}

/// Where the books are.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum DatabasePlace {
    /// In this file.
    Sqlite(PathBuf),
    /// In PostgreSQL.
    Postgres(Vec<String>),
}

/// As whom and with which certificates a server is reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// Whom to trust besides the system's authorities.
    pub(crate) ca_file: Option<PathBuf>,
    /// Our certificate.
    pub(crate) certificate_file: Option<PathBuf>,
    /// Its key.
    pub(crate) key_file: Option<PathBuf>,
    /// Who we are, where the URL does not say.
    pub(crate) user: Option<String>,
    /// How that is proved.
    pub(crate) password: Option<Password>,
}

/// The password of a server of others, as short as they like it. Prints redacted.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Password(pub(crate) String);

impl Access {
    /// Our certificates, as drivers take them.
    pub(crate) fn tls(&self) -> Tls {
        Tls {
            ca_file: self.ca_file.clone(),
            certificate_file: self.certificate_file.clone(),
            key_file: self.key_file.clone(),
        }
    }

    /// Our password, as drivers take it.
    pub(crate) fn secret(&self) -> Option<Secret> {
        self.password.as_ref().map(|password| Secret::new(password.0.clone()))
    }

    /// The URL of a database, with the user in it; the password; and the certificates.
    pub(crate) fn for_postgres(&self, urls: &[String]) -> (String, Option<Secret>, Tls) {
        let mut url = urls.join(",");
        if let Some(user) = &self.user
            && !url.contains('@')
        {
            let mark = if url.contains('?') { '&' } else { '?' };
            url.push_str(&format!("{mark}user={}", crate::client::segment(user)));
        }
        (url, self.secret(), self.tls())
    }
}

impl Engine {
    fn of(scheme: &str) -> Option<Self> {
        match scheme {
            "nats" | "tls" => Some(Self::Nats),
            "amqp" | "amqps" => Some(Self::Amqp),
            "mqtt" | "mqtts" => Some(Self::Mqtt),
            "http" | "https" => Some(Self::Http),
            _ => None,
        }
    }
}

impl BusPlace {
    /// Whether functions of others process what it carries, and no workers of ours.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self, Self::Broker(Engine::Mqtt, urls) if urls.iter().any(|url| url.contains("mode=bare")))
    }
}

impl fmt::Display for BusPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => formatter.write_str("embedded:"),
            Self::Broker(_, urls) => formatter.write_str(&redacted(&urls.join(","))),
        }
    }
}

impl fmt::Display for DirectoryPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "sqlite:{}", path.display()),
            Self::Postgres(urls) | Self::NatsKv(urls) => formatter.write_str(&redacted(&urls.join(","))),
        }
    }
}

impl fmt::Display for DatabasePlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "sqlite:{}", path.display()),
            Self::Postgres(urls) => formatter.write_str(&redacted(&urls.join(","))),
        }
    }
}

macro_rules! prints_as_it_shows {
    ($($type:ty),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }
    )*};
}
prints_as_it_shows!(BusPlace, DirectoryPlace, DatabasePlace);

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(…)")
    }
}

impl Readable for Password {
    const SECRET: bool = true;
    fn expected() -> String {
        "a text".to_owned()
    }
    fn read(raw: Raw<'_>) -> Option<Self> {
        String::read(raw).map(Self)
    }
    fn show(&self) -> Option<String> {
        Some("\"…\"".to_owned())
    }
}

impl Readable for BusPlace {
    fn expected() -> String {
        "embedded:, nats://HOST, amqp://HOST, mqtt://HOST, mqtts://HOST or http://HOST; several of one broker with commas"
            .to_owned()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        let urls = texts(raw)?;
        if urls == ["embedded:"] {
            return Some(Self::Embedded);
        }
        let engine = of_one_kind(&urls, Engine::of)?;
        Some(Self::Broker(engine, urls))
    }

    fn culprit(raw: Raw<'_>) -> Option<String> {
        shown(raw)
    }

    fn show(&self) -> Option<String> {
        self.to_string().show()
    }
}

impl Readable for DirectoryPlace {
    fn expected() -> String {
        "sqlite:PATH, postgres://HOST/DATABASE or nats://HOST/BUCKET; several of one server with commas"
            .to_owned()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        let urls = texts(raw)?;
        if let Some(path) = sqlite(&urls) {
            return Some(Self::Sqlite(path));
        }
        if of_one_kind(&urls, postgres).is_some() {
            return Some(Self::Postgres(urls));
        }
        let is_nats = |scheme: &str| (Engine::of(scheme) == Some(Engine::Nats)).then_some(());
        of_one_kind(&urls, is_nats)?;
        let names_bucket = |url: &String| {
            let after = url.split_once("://").map_or("", |(_, rest)| rest);
            after.split_once('/').is_some_and(|(_, bucket)| !bucket.is_empty() && !bucket.contains('/'))
        };
        // Of several endpoints one may name it for all.
        urls.iter().any(names_bucket).then_some(Self::NatsKv(urls))
    }

    fn culprit(raw: Raw<'_>) -> Option<String> {
        shown(raw)
    }

    fn show(&self) -> Option<String> {
        self.to_string().show()
    }
}

impl Readable for DatabasePlace {
    fn expected() -> String {
        "sqlite:PATH or postgres://HOST/DATABASE".to_owned()
    }

    fn read(raw: Raw<'_>) -> Option<Self> {
        let urls = texts(raw)?;
        if let Some(path) = sqlite(&urls) {
            return Some(Self::Sqlite(path));
        }
        of_one_kind(&urls, postgres)?;
        Some(Self::Postgres(urls))
    }

    fn culprit(raw: Raw<'_>) -> Option<String> {
        shown(raw)
    }

    fn show(&self) -> Option<String> {
        self.to_string().show()
    }
}

/// The addresses of a value: a text with commas, or a list of texts. None if there is none, or one is empty.
fn texts(raw: Raw<'_>) -> Option<Vec<String>> {
    let urls: Vec<String> = match raw {
        Raw::Toml(toml::Value::Array(list)) => {
            list.iter().map(|one| one.as_str().map(|text| text.trim().to_owned())).collect::<Option<_>>()?
        }
        raw => String::read(raw)?.split(',').map(|one| one.trim().to_owned()).collect(),
    };
    (!urls.is_empty() && urls.iter().all(|url| !url.is_empty())).then_some(urls)
}

/// What all of them are. Those behind the first may leave their scheme away.
fn of_one_kind<K: PartialEq>(urls: &[String], kind: impl Fn(&str) -> Option<K>) -> Option<K> {
    let mut found = None;
    for url in urls {
        let Some((scheme, rest)) = url.split_once("://") else {
            found.as_ref()?;
            continue;
        };
        let this = kind(scheme)?;
        if rest.is_empty() || found.as_ref().is_some_and(|found| *found != this) {
            return None;
        }
        found = Some(this);
    }
    found
}

/// Whether stations can be spread over so many.
pub(super) fn is_partitions(count: &u16) -> bool {
    count.is_power_of_two() && *count <= switchboard_bus::Connect::PARTITIONS_MAX
}

fn postgres(scheme: &str) -> Option<()> {
    matches!(scheme, "postgres" | "postgresql").then_some(())
}

fn sqlite(urls: &[String]) -> Option<PathBuf> {
    let [url] = urls else { return None };
    let path = url.strip_prefix("sqlite:")?;
    // As in other programs' URLs; a path that begins with two slashes means nothing else.
    let path = path.strip_prefix("//").unwrap_or(path);
    (!path.is_empty() && Path::new(path).file_name().is_some()).then(|| PathBuf::from(path))
}

fn shown(raw: Raw<'_>) -> Option<String> {
    let text = match raw {
        Raw::Text(text) => redacted(text),
        Raw::Toml(value) => redacted(value.as_str()?),
    };
    Some(Raw::Text(&text).to_string())
}

/// An address, or several with commas, without what stands between the user's name and the `@`.
fn redacted(urls: &str) -> String {
    let parts: Vec<&str> = urls.split(',').collect();
    // The end of a password with a comma in it: what stands before the comma is then a part of that, too.
    let ends_credentials = |part: &&str| part.contains('@') && !part.contains("://");
    let one = |place: usize, url: &str| {
        let is_end = !url.contains("://") && parts[..place].iter().any(|part| part.contains("password="));
        if is_end || parts[place + 1..].iter().any(ends_credentials) {
            return url
                .split_once("://")
                .map_or_else(|| "…".to_owned(), |(scheme, _)| format!("{scheme}://…"));
        }
        let url = url
            .split_once("password=")
            .map_or_else(|| url.to_owned(), |(before, _)| format!("{before}password=…"));
        let (scheme, rest) =
            url.split_once("://").map_or(("", url.as_str()), |(scheme, rest)| (scheme, rest));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        // A password may hold what should have been percent-encoded, also the end of the host.
        let Some(at) = rest.rfind('@') else { return url };
        let (who, host) = rest.split_at(at);
        let user = who.split(':').next().unwrap_or_default();
        let user = if at > end && !who.contains(':') { "…" } else { user };
        let who = match who.contains(':') {
            true => format!("{user}:…"),
            // Alone it is a token to some brokers, and only a name to the database.
            false if scheme.starts_with("postgres") => user.to_owned(),
            false => "…".to_owned(),
        };
        if scheme.is_empty() { format!("{who}{host}") } else { format!("{scheme}://{who}{host}") }
    };
    parts.iter().enumerate().map(|(place, url)| one(place, url)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_kind_of_thing_is_there() {
        let bus = |text| BusPlace::read(Raw::Text(text));
        assert_eq!(bus("embedded:"), Some(BusPlace::Embedded));
        for (text, engine) in [
            ("nats://127.0.0.1", Engine::Nats),
            ("nats://a:4222,nats://b:4222", Engine::Nats),
            ("nats://a:4222,b:4222", Engine::Nats),
            ("tls://a", Engine::Nats),
            ("amqp://guest:guest@a/vhost", Engine::Amqp),
            ("amqps://a", Engine::Amqp),
            ("mqtt://a?mode=bare", Engine::Mqtt),
            ("mqtts://a:8883", Engine::Mqtt),
            ("http://a:8080/calls", Engine::Http),
        ] {
            let urls: Vec<String> = text.split(',').map(str::to_owned).collect();
            assert_eq!(bus(text), Some(BusPlace::Broker(engine, urls)), "{text}");
        }
        for wrong in [
            "",
            "embedded",
            "nats",
            "nats://",
            "127.0.0.1:4222",
            "nats://a,amqp://b",
            "redis://a",
            "nats://a,",
        ] {
            assert_eq!(bus(wrong), None, "{wrong}");
        }
        let list: toml::Value =
            toml::from_str::<toml::Table>("x = ['nats://a', 'nats://b']").unwrap()["x"].clone();
        assert_eq!(BusPlace::read(Raw::Toml(&list)), bus("nats://a,nats://b"));

        let directory = |text| DirectoryPlace::read(Raw::Text(text)).map(|place| place.to_string());
        for right in [
            "sqlite:a/b.db",
            "sqlite:/a.db",
            "postgres://a/b",
            "postgresql://a,postgresql://b",
            "nats://a/BUCKET",
        ] {
            assert_eq!(directory(right).as_deref(), Some(right));
        }
        assert_eq!(directory("sqlite:///a.db").as_deref(), Some("sqlite:/a.db"));
        for wrong in ["sqlite:", "sqlite:/", "nats://a", "nats://a/", "nats://a/b/c", "mysql://a", "a.db"] {
            assert_eq!(directory(wrong), None, "{wrong}");
        }
        let database = |text| DatabasePlace::read(Raw::Text(text)).is_some();
        assert!(database("sqlite:a.db") && database("postgres://a/b") && !database("nats://a/B"));
    }

    #[test]
    fn a_password_in_an_address_is_never_shown() {
        for (text, shown) in [
            ("amqp://guest:secret@a/vhost", "amqp://guest:…@a/vhost"),
            ("nats://token@a:4222", "nats://…@a:4222"),
            ("nats://u:secret@a:1,nats://u:secret@b:1", "nats://u:…@a:1,nats://u:…@b:1"),
            ("postgres://u:sec/ret@a/b", "postgres://u:…@a/b"),
            ("postgres://a/b", "postgres://a/b"),
            ("postgres://user@a/b", "postgres://user@a/b"),
            ("u:secret@a", "u:…@a"),
            ("postgres://a/b?user=u&password=secret", "postgres://a/b?user=u&password=…"),
            ("nats://u:sec,ret@a", "nats://…,…@a"),
            ("nats://u:s@ec,ret@a", "nats://…,…@a"),
            ("postgres://a/b?password=sec,ret", "postgres://a/b?password=…,…"),
            ("nats://u:1,sec,ret@a,b", "nats://…,…,…@a,b"),
            ("nats://a:1,nats://u:secret@b", "nats://a:1,nats://u:…@b"),
        ] {
            assert_eq!(redacted(text), shown);
        }
        let place = BusPlace::read(Raw::Text("amqp://guest:secret@a")).unwrap();
        assert!(!format!("{place:?} {place} {:?}", place.show()).contains("secret"));
        let wrong = BusPlace::culprit(Raw::Text("redis://guest:secret@a"));
        assert_eq!(wrong.as_deref(), Some("\"redis://guest:…@a\""));
    }
}
