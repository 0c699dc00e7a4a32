//! How the processes begin, and what is said when they cannot.

use crate::engine::{Engine, over_each_broker};
use crate::support::{BINARY, Installation, booted};
use anyhow::{Result, ensure};
use switchboard_directory::Directory as _;
use switchboard_directory_postgres::{Config, Postgres as Shared};
use switchboard_testkit::{Switchboard, http, servers::Postgres, wait};

over_each_broker! {
    a_broker_and_a_database_that_are_away_at_the_start_are_waited_for,
}

/// Whatever is away at the start is waited for; the log and `/readyz` say what it is.
async fn a_broker_and_a_database_that_are_away_at_the_start_are_waited_for(engine: Engine) -> Result<()> {
    let test = "split::start";
    let (Some(mut broker), Some(mut postgres)) = (engine.start(test).await?, Postgres::start(test).await?)
    else {
        return Ok(());
    };
    let (bus, directory) = (broker.url(), postgres.database()?);
    let scheme = bus.split("://").next().unwrap_or_default();
    broker.kill()?;
    postgres.kill()?;
    let books = postgres.address();
    let books = format!("postgres://postgres@{books}/postgres");
    let arguments = ["--bus", &bus, "--directory", &directory, "--database", &books];
    let mut gateway = Switchboard::begin(BINARY, "gateway", &arguments)?;
    let mut worker = Switchboard::begin(BINARY, "worker", &arguments)?;
    for server in [&gateway, &worker] {
        says(server, "waiting for the directory postgres://").await?;
    }
    postgres.start().await?;
    for server in [&gateway, &worker] {
        says(server, &format!("waiting for the bus {scheme}://")).await?;
    }
    broker.start().await?;
    gateway.ready().await?;
    worker.ready().await?;
    ensure!(gateway.log().contains("waiting for the directory"), "{}", gateway.log());
    // Once for each reason, of which there are two or three while it starts, and not for each attempt.
    let place = broker.address().to_string();
    let log = gateway.log();
    let warnings = log.lines().filter(|line| line.contains(" WARN ") && line.contains(&place)).count();
    ensure!((1..=4).contains(&warnings), "{warnings} in {log}");
    booted(&gateway, "CP1").await?;

    // And it is said when it goes again; one of the three takes many seconds to come back.
    if !matches!(engine, Engine::RabbitMq) {
        broker.kill()?;
        for server in [&gateway, &worker] {
            says(server, "is away").await?;
        }
        broker.start().await?;
        gateway.ready().await?;
        worker.ready().await?;
        booted(&gateway, "CP1").await?;
    }

    // Told to end while it waits, it ends.
    postgres.kill()?;
    let mut waiting = Switchboard::begin(BINARY, "gateway", &arguments)?;
    says(&waiting, "waiting for the directory").await?;
    ensure!(waiting.terminate().await? == 0, "{}", waiting.log());
    Ok(())
}

/// Waits until `/readyz` says this.
async fn says(server: &Switchboard, part: &str) -> Result<()> {
    wait::until(format!("/readyz saying {part:?}"), async || {
        let (status, text) = http::get(server.admin(), "/readyz").await.ok()?;
        (status == 503 && text.contains(part)).then_some(())
    })
    .await
}

/// Nothing is shared between them that could refuse them, so that they hear of it on the bus.
#[tokio::test]
async fn workers_of_other_books_and_gateways_of_another_directory_are_told_of() -> Result<()> {
    let Some(place) = Installation::over(Engine::Nats, "split::astray").await? else { return Ok(()) };
    let Some(other) = Installation::over(Engine::Nats, "split::astray").await? else { return Ok(()) };
    let (gateway, worker) = (place.gateway(&[]).await?, place.one_of_many().await?);
    let second = place.one_of_many().await?;
    // Calls flow meanwhile: by now they have heard each other.
    booted(&gateway, "CP1").await?;
    // It is ready until it has heard of the others, and no longer.
    let astray = Switchboard::begin(BINARY, "worker", &place.arguments(&["--database", other.books()]))?;
    for server in [&worker, &second, &astray] {
        says(server, "writes other books than this one").await?;
        ensure!(server.log().contains("give all workers the same --database"), "{}", server.log());
    }
    let folder = tempfile::tempdir()?;
    let file = format!("sqlite:{}", folder.path().join("directory.db").display());
    let mut arguments = place.arguments(&[]);
    for argument in &mut arguments {
        if *argument == place.directory {
            *argument = &file;
        }
    }
    let alone = Switchboard::begin(BINARY, "gateway", &arguments)?;
    wait::until("a word about the directory", async || {
        alone.log().contains("a worker asks another directory than this gateway").then_some(())
    })
    .await?;
    ensure!(!gateway.log().contains("another directory"), "{}", gateway.log());
    drop(astray);
    for server in [&worker, &second] {
        wait::until("order", async || {
            http::get(server.admin(), "/readyz").await.ok().filter(|(status, _)| *status == 200).map(|_| ())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_work_together_ends_with_what_to_do() -> Result<()> {
    let Some(place) = Installation::over(Engine::Nats, "split::combinations").await? else { return Ok(()) };
    let (bus, directory) = (place.bus.as_str(), place.directory.as_str());
    let folder = tempfile::tempdir()?;
    let file = format!("sqlite:{}", folder.path().join("directory.db").display());
    for (name, role, arguments, advice) in [
        ("no broker", "worker", vec!["--directory", directory], "must name a broker"),
        (
            "the bus of one process",
            "gateway",
            vec!["--bus", "embedded:", "--directory", directory],
            "switchboard run",
        ),
        ("no directory", "gateway", vec!["--bus", bus], "For the only gateway"),
        ("no directory for a worker", "worker", vec!["--bus", bus], "postgres://"),
        ("a file for a worker", "worker", vec!["--bus", bus, "--directory", &file], "belongs to one process"),
        ("no disk", "worker", vec!["--bus", bus, "--directory", "nats://127.0.0.1/B"], "synced disk"),
        ("no such thing", "gateway", vec!["--bus", "redis://a", "--directory", directory], "nats://HOST"),
    ] {
        let mut server = Switchboard::begin(BINARY, role, &arguments)?;
        let code = server.ended().await?;
        ensure!(code == Some(64) && server.log().contains(advice), "{name}: {code:?} {}", server.log());
    }

    // A second process on one file.
    let alone = ["--bus", bus, "--directory", &file, "--namespace", "alone"];
    let first = Switchboard::gateway(BINARY, &alone).await?;
    let mut second = Switchboard::begin(BINARY, "gateway", &alone)?;
    let code = second.ended().await?;
    ensure!(
        code == Some(69) && second.log().contains("belongs to another process"),
        "{code:?} {}",
        second.log()
    );
    drop(first);

    // A second gateway of one name. The first is not disturbed.
    let named = place.gateway(&["--gateway-id", "twin"]).await?;
    let mut twin = Switchboard::begin(BINARY, "gateway", &place.arguments(&["--gateway-id", "twin"]))?;
    let (code, log) = (twin.ended().await?, twin.log());
    ensure!(code == Some(69) && log.contains("another --gateway-id"), "{code:?} {log}");
    ensure!(!log.contains("is running"), "it never ran, and says so: {log}");
    ensure!(http::get(named.admin(), "/readyz").await?.0 == 200, "{}", named.log());
    drop(named);

    // A second worker with books of its own.
    let worker = place.worker(&[]).await?;
    let mut second = Switchboard::begin(BINARY, "worker", &place.arguments(&[]))?;
    let code = second.ended().await?;
    ensure!(code == Some(64) && second.log().contains("--database postgres://"), "{code:?} {}", second.log());
    // One that comes later, with other books.
    let mut first = worker;
    let later = place.one_of_many().await?;
    says(&first, "books in SQLite belong to one worker").await?;
    ensure!(first.log().contains("is missing in the books here"), "{}", first.log());
    drop(later);
    first.ready().await?;
    drop(first);

    // Workers of two modes, and partitions of two numbers, in one namespace.
    let shared = Shared::connect(Config::to(directory))?;
    shared.ready().await?;
    shared.agree("odd.workers", "partitioned").await?;
    let mut worker = Switchboard::begin(
        BINARY,
        "worker",
        &["--bus", bus, "--directory", directory, "--namespace", "odd"],
    )?;
    let code = worker.ended().await?;
    let log = worker.log();
    ensure!(code == Some(64) && log.contains("partitioned") && log.contains("--namespace"), "{code:?} {log}");
    let _gateway = place.gateway(&[]).await?;
    let mut other = Switchboard::begin(BINARY, "gateway", &place.arguments(&["--partitions", "64"]))?;
    let code = other.ended().await?;
    let log = other.log();
    ensure!(
        code == Some(64) && log.contains("partitions is 256") && log.contains("64 here"),
        "{code:?} {log}"
    );
    Ok(())
}

/// One file for all roles: each takes of it what is its own, and `check-config` knows which are meant.
#[tokio::test]
async fn one_file_serves_all_roles() -> Result<()> {
    let Some(place) = Installation::over(Engine::Nats, "split::file").await? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("switchboard.toml");
    let text = format!(
        "bus = {:?}\ndirectory = {:?}\nnamespace = \"file\"\n\n[gateway]\nretry_after = \"7s\"\n\n[worker]\nin_hand_max = 10\n",
        place.bus, place.directory
    );
    std::fs::write(&file, text)?;
    let file = file.display().to_string();
    let gateway = Switchboard::gateway(BINARY, &["--config", &file]).await?;
    let worker = Switchboard::worker(BINARY, &["--config", &file]).await?;
    booted(&gateway, "CP1").await?;
    let checked = worker.run(&["check-config", "--config", &file, "--json"]).await?;
    ensure!(checked.code == 0 && checked.json()?["worker.in_hand_max"]["value"] == 10, "{checked:?}");
    let wrong = worker.run(&["check-config", "--role", "gateway", "--bus", "embedded:"]).await?;
    ensure!(wrong.code == 64 && wrong.stderr.contains("must name a broker"), "{wrong:?}");

    // The traffic is at the gateway, and the worker says so.
    let elsewhere = worker.run(&["trace", "CP1", "--last", "5"]).await?;
    ensure!(elsewhere.code == 65 && elsewhere.stderr.contains("gateway"), "{elsewhere:?}");
    let admin = gateway.admin().to_string();
    let seen = worker.run(&["trace", "CP1", "--last", "5", "--json", "--api", &admin]).await?;
    ensure!(seen.code == 0 && seen.stdout.contains("BootNotification"), "{seen:?}");
    Ok(())
}
