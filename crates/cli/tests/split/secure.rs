//! TLS on every line behind the gateway, and passwords that nobody ever sees.

use crate::engine::{Engine, USER, over_each_broker};
use crate::support::{BINARY, booted};
use anyhow::{Result, ensure};
use switchboard_testkit::{Certificates, Switchboard, http, servers::Postgres, wait};
use tokio::sync::OnceCell;

over_each_broker! {
    all_lines_have_tls_and_no_password_is_ever_shown,
}

/// Their parts, too, must be seen nowhere: commas and slashes end what a careless reader takes for the password.
const BUS_PASSWORD: &str = "bussecret-4711";
const DATABASE_PASSWORD: &str = "booksecret-0815";

/// A database with TLS and an authority of its own.
struct Database {
    server: Postgres,
    certificates: Certificates,
    _folder: tempfile::TempDir,
}

impl Database {
    /// One for all tests here, none of which kills it.
    async fn shared(test: &str) -> Result<Option<&'static Self>> {
        static DATABASE: OnceCell<Option<Database>> = OnceCell::const_new();
        let start = async || {
            let Some(mut server) = Postgres::start(test).await? else { return Ok(None) };
            let folder = tempfile::tempdir()?;
            let certificates = Certificates::make(folder.path(), "nobody")?;
            server.speak_tls(&certificates).await?;
            server.user(USER, DATABASE_PASSWORD)?;
            anyhow::Ok(Some(Self { server, certificates, _folder: folder }))
        };
        Ok(DATABASE.get_or_try_init(start).await?.as_ref())
    }

    /// An empty database, for whoever looks at the server carefully and has the password.
    fn url(&self) -> Result<String> {
        let made = self.server.database()?;
        let name = made.rsplit('/').next().unwrap_or_default();
        self.server.psql("postgres", &format!("ALTER DATABASE {name} OWNER TO {USER}"))?;
        Ok(format!("postgres://{USER}@localhost:{}/{name}?sslmode=verify-full", self.server.address().port()))
    }

    fn authority(&self) -> String {
        self.certificates.authority().display().to_string()
    }
}

/// Waits until its log says all of this; it may not be ready meanwhile, nor show a password.
async fn logs(server: &Switchboard, parts: &[&str]) -> Result<()> {
    let said = wait::until(format!("a log with {parts:?}"), async || {
        let log = server.log();
        parts.iter().all(|part| log.contains(part)).then_some(())
    })
    .await;
    ensure!(said.is_ok(), "{parts:?} in {}", server.log());
    Ok(())
}

/// Neither its log nor what it says of itself holds a password.
async fn keeps_secrets(server: &Switchboard) -> Result<()> {
    let mut shown = server.log();
    for path in ["/readyz", "/metrics"] {
        // One that has ended says nothing any more.
        if let Ok((_, text)) = http::get(server.admin(), path).await {
            shown.push_str(&text);
        }
    }
    for secret in [BUS_PASSWORD, DATABASE_PASSWORD, "wrongsecret"] {
        ensure!(!shown.contains(secret), "{secret} in {shown}");
    }
    Ok(())
}

async fn all_lines_have_tls_and_no_password_is_ever_shown(engine: Engine) -> Result<()> {
    let test = "split::tls";
    let folder = tempfile::tempdir()?;
    let certificates = Certificates::make(folder.path(), USER)?;
    let Some(broker) = engine.start_secure(test, &certificates, BUS_PASSWORD).await? else { return Ok(()) };
    let Some(database) = Database::shared(test).await? else { return Ok(()) };
    let (scheme, port) = (engine.secure_scheme(), broker.address().port());
    let bare = format!("{scheme}://localhost:{port}");
    let full = format!("{scheme}://{USER}:{BUS_PASSWORD}@localhost:{port}");
    let (ca, database_ca) = (certificates.authority().display().to_string(), database.authority());
    let (directory, books) = (database.url()?, database.url()?);
    let stored = [
        "--directory",
        &directory,
        "--directory-ca-file",
        &database_ca,
        "--directory-password",
        DATABASE_PASSWORD,
    ];
    let beside = ["--bus-user", USER, "--bus-password", BUS_PASSWORD];
    let with = |bus: &[&'static str], rest: &[&str]| -> Vec<String> {
        [&stored[..], bus, rest].concat().into_iter().map(str::to_owned).collect()
    };
    let begin = |role, arguments: &[String]| {
        Switchboard::begin(BINARY, role, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut gateway = begin("gateway", &with(&beside, &["--bus", &bare, "--bus-ca-file", &ca]))?;
    let of_books = ["--database", &books, "--database-ca-file", &database_ca];
    let secret = ["--database-password", DATABASE_PASSWORD, "--bus", &full, "--bus-ca-file", &ca];
    let mut worker = begin("worker", &with(&[], &[&of_books[..], &secret].concat()))?;
    gateway.ready().await?;
    worker.ready().await?;
    booted(&gateway, "CP1").await?;
    for server in [&gateway, &worker] {
        keeps_secrets(server).await?;
    }

    // Whom it does not trust it does not talk to, and says which setting is about that; likewise who is not let in.
    let stranger = certificates.stranger().display().to_string();
    let distrusting = begin("gateway", &with(&beside, &["--bus", &bare, "--bus-ca-file", &stranger]))?;
    let wrong = format!("{scheme}://{USER}:wrongsecret@localhost:{port}");
    let unknown = begin("gateway", &with(&[], &["--bus", &wrong, "--bus-ca-file", &ca]))?;
    logs(&distrusting, &["UnknownIssuer", "ca_file"]).await?;
    logs(&unknown, &["password"]).await?;
    for server in [&distrusting, &unknown] {
        // It connects to the bus before it waits for it, so that the log may be first.
        wait::until("it waits for the bus", async || {
            let (code, why) = http::get(server.admin(), "/readyz").await.ok()?;
            (code == 503 && why.contains("waiting for the bus")).then_some(())
        })
        .await?;
        keeps_secrets(server).await?;
    }
    let checked = unknown.run(&["check-config", "--bus", &wrong, "--bus-password", BUS_PASSWORD]).await?;
    ensure!(!format!("{checked:?}").contains("secret"), "{checked:?}");

    // A certificate instead of a password.
    if matches!(engine, Engine::RabbitMq) {
        let (certificate, key) = certificates.client();
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        let ours = [
            "--bus-certificate-file",
            &certificate,
            "--bus-key-file",
            &key,
            "--bus",
            &bare,
            "--bus-ca-file",
            &ca,
        ];
        begin("gateway", &with(&[], &ours))?.ready().await?;
    }
    Ok(())
}

/// The database is there and is another one, or we are nobody there: each is told with the setting that it is about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_trusted_or_does_not_let_us_in_is_told_with_its_setting() -> Result<()> {
    let test = "split::database-tls";
    let Some(bus) = Engine::Nats.shared(test).await? else { return Ok(()) };
    let Some(database) = Database::shared(test).await? else { return Ok(()) };
    let (directory, books) = (database.url()?, database.url()?);
    let ca = database.authority();
    let stranger = database.certificates.stranger().display().to_string();
    let right = |kind: &&str| {
        [format!("--{kind}-ca-file"), ca.clone(), format!("--{kind}-password"), DATABASE_PASSWORD.to_owned()]
    };
    for (flag, wrong, parts) in [
        ("--directory-ca-file", stranger.as_str(), ["UnknownIssuer", "directory_ca_file"]),
        ("--directory-password", "wrongsecret", ["password", "directory_password"]),
        ("--database-ca-file", stranger.as_str(), ["UnknownIssuer", "database_ca_file"]),
        ("--database-password", "wrongsecret", ["password", "database_password"]),
    ] {
        let places = ["--bus", &bus, "--directory", &directory, "--database", &books, "--namespace", "tls"];
        let mut arguments: Vec<String> = places.map(str::to_owned).to_vec();
        arguments.extend(["directory", "database"].iter().flat_map(right));
        if let Some(place) = arguments.iter().position(|argument| argument == flag) {
            wrong.clone_into(&mut arguments[place + 1]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let server = Switchboard::begin(BINARY, "worker", &arguments)?;
        logs(&server, &parts).await?;
        keeps_secrets(&server).await?;
    }
    Ok(())
}
