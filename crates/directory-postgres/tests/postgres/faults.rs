//! What goes wrong around a server that is there.

use crate::{NOW, key, open, server};
use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::join_all;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use switchboard_bus::{ConnectionKey, Lane};
use switchboard_directory::{Directory, DirectoryError, Enqueued, JournalEntry, OutboxEntry, OutboxState};
use switchboard_directory_postgres::{Config, Postgres, State};
use switchboard_rpc::Version;
use switchboard_testkit::Proxy;

fn entry(station: &str, seq: u64, action: &'static str) -> JournalEntry {
    JournalEntry {
        id: 0,
        key: key(station),
        version: Version::V16,
        connection: ConnectionKey { gateway: "gateway".into(), generation: 7 },
        seq,
        action: action.into(),
        frame: Bytes::from_static(b"[2,\"1\",\"MeterValues\",{}]"),
        received_ms: NOW,
    }
}

fn database_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_cut_loses_nothing_and_doubles_nothing() {
    let Some(server) = server().await else { return };
    let proxy = Proxy::to(server.address()).await.unwrap();
    let url = server.database().unwrap().replace(&server.address().to_string(), &proxy.address().to_string());
    let directory = open(&url).await;
    let appending = join_all((0..6).map(|station| {
        let (directory, station) = (directory.clone(), format!("CP{station}"));
        async move {
            for seq in 0..40 {
                directory.journal_append(entry(&station, seq, "MeterValues")).await.unwrap();
            }
        }
    }));
    let cuts = std::cell::Cell::new(0);
    let cutting = async {
        let mut pause = Duration::from_millis(120);
        loop {
            tokio::time::sleep(pause).await;
            proxy.cut();
            cuts.set(cuts.get() + 1);
            // A slow machine needs longer for a connection and what is to be done on it.
            pause = pause.mul_f64(1.1);
        }
    };
    // Every operation is done again on the next connection, and the journal recognises what it has.
    tokio::select! {
        _ = appending => {}
        () = cutting => {}
    }
    assert!(cuts.get() > 0, "it was never cut");
    for station in 0..6 {
        let read = directory.journal_read(Some(&key(&format!("CP{station}"))), 0, 1000).await.unwrap();
        assert!(read.iter().map(|entry| entry.seq).eq(0..40), "{station}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_holds_a_row_delays_only_that_station_and_not_for_long() {
    let Some(server) = server().await else { return };
    let url = server.database().unwrap();
    let directory = open(&url).await;
    let gateway = ByteString::from("gateway");
    let claim = async |station: &str| {
        directory.claim(&key(station), &gateway, Version::V16.into(), NOW).await.map(|claim| claim.generation)
    };
    claim("CP1").await.unwrap();
    claim("CP2").await.unwrap();
    // Somebody is frozen in the middle of something, with the station's row locked.
    let database = database_of(&url).to_owned();
    let holding = std::thread::spawn(move || {
        let sql = "BEGIN; SELECT 1 FROM switchboard_directory.station WHERE station = 'CP1' FOR UPDATE; \
                   SELECT pg_sleep(9); COMMIT";
        server.psql(&database, sql)
    });
    let locked = || {
        server.psql(database_of(&url), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(9)%' AND wait_event = 'PgSleep'")
    };
    let begun = Instant::now();
    while locked().unwrap() != "1" {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody sleeps");
    }
    let asked = Instant::now();
    let (held, others) = tokio::join!(
        claim("CP1"),
        // Also of the same connection and the same batch.
        join_all((2..30).map(|number| {
            let (claim, station) = (&claim, format!("CP{number}"));
            async move { claim(&station).await.unwrap() }
        }))
    );
    assert!(matches!(held, Err(DirectoryError::Away(_))), "{held:?}");
    assert_eq!(others.len(), 28);
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    holding.join().unwrap().unwrap();
    claim("CP1").await.unwrap();
}

#[tokio::test]
async fn processes_that_start_together_make_one_schema() {
    let Some(server) = server().await else { return };
    let url = server.database().unwrap();
    let directories = join_all((0..5).map(|_| open(&url))).await;
    directories[0].agree("partitions", "256").await.unwrap();
    for directory in &directories {
        assert_eq!(directory.agree("partitions", "512").await.unwrap(), "256");
    }
    // Another schema is another directory.
    let mut config = Config::to(&url);
    config.schema = "site_b".to_owned();
    let other = Postgres::connect(config).unwrap();
    other.ready().await.unwrap();
    assert_eq!(other.agree("partitions", "512").await.unwrap(), "512");
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_left_alone_and_named() {
    let Some(server) = server().await else { return };
    let url = server.database().unwrap();
    open(&url).await.close().await.unwrap();
    let sql = "UPDATE switchboard_directory.directory_schema SET version = 99";
    server.psql(database_of(&url), sql).unwrap();
    let directory = Postgres::connect(Config::to(&url)).unwrap();
    let refused = tokio::time::timeout(Duration::from_secs(30), directory.ready()).await.unwrap();
    let Err(DirectoryError::Damaged { detail }) = refused else { panic!("{refused:?}") };
    assert!(detail.contains("version 99") && detail.contains("start the newer program"), "{detail}");
    assert!(matches!(&*directory.state().borrow(), State::Refused(_)));
}

#[tokio::test]
async fn a_full_disk_is_told_as_such_and_takes_nobody_else_with_it() {
    let Some(server) = server().await else { return };
    let url = server.database().unwrap();
    let directory = open(&url).await;
    // The server's word for it, for what is appended under this name.
    let sql = "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$; \
               CREATE TRIGGER no_room BEFORE INSERT ON switchboard_directory.journal FOR EACH ROW \
               WHEN (new.action = 'Large') EXECUTE FUNCTION no_room()";
    server.psql(database_of(&url), sql).unwrap();
    let appended = join_all((0..40).map(|seq| {
        let action = if seq % 10 == 3 { "Large" } else { "Small" };
        directory.journal_append(entry("CP1", seq, action))
    }))
    .await;
    for (seq, one) in appended.into_iter().enumerate() {
        match one {
            Ok(_) => assert_ne!(seq % 10, 3),
            Err(DirectoryError::Full(_)) => assert_eq!(seq % 10, 3),
            Err(other) => panic!("{seq}: {other:?}"),
        }
    }
    assert_eq!(directory.journal_count(Some(&key("CP1"))).await.unwrap(), 36);
    let command = |number: usize| OutboxEntry {
        id: format!("{number}").into(),
        key: key("CP1"),
        action: "Reset".into(),
        payload: Bytes::from_static(b"{}"),
        lane: Lane::Normal,
        timeout: Duration::from_secs(30),
        expires_ms: i64::MAX,
        reply_to: None,
        context: None,
        state: OutboxState::Waiting,
    };
    let put = join_all((0..300).map(|number| directory.outbox_put(command(number)))).await;
    for one in &put {
        assert!(matches!(one, Ok(Enqueued::Fresh) | Err(DirectoryError::Full(_))), "{one:?}");
    }
    assert_eq!(put.iter().filter(|put| put.is_ok()).count(), 256);
}

/// Where somebody else makes the schemas.
#[tokio::test]
async fn a_user_who_may_make_no_schema_uses_the_one_that_is_its_own() {
    let Some(server) = server().await else { return };
    let url = server.database().unwrap();
    let sql =
        "CREATE ROLE tenant_of_one LOGIN; CREATE SCHEMA switchboard_directory AUTHORIZATION tenant_of_one";
    server.psql(database_of(&url), sql).unwrap();
    let directory = open(&url.replace("postgres@", "tenant_of_one@")).await;
    directory.journal_append(entry("CP1", 1, "MeterValues")).await.unwrap();
}

#[tokio::test]
async fn a_process_whose_clock_is_an_hour_off_takes_nobody_for_dead_and_nothing_for_expired() {
    fn wall_ms() -> i64 {
        i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
    }
    let Some(server) = server().await else { return };
    let url = server.database().unwrap();
    let right = open(&url).await;
    for off_ms in [-3_600_000, 3_600_000] {
        let theirs_ms = move || wall_ms() + off_ms;
        let wrong = Postgres::connect(Config::to(&url).with_clock(theirs_ms)).unwrap();
        wrong.ready().await.unwrap();
        let (one, two) = (ByteString::from("right"), ByteString::from(format!("wrong {off_ms}")));
        right.gateway_lease(&one, wall_ms() + 30_000).await.unwrap();
        wrong.gateway_lease(&two, theirs_ms() + 30_000).await.unwrap();
        let (here, there) = (key("CP1"), key("CP2"));
        right.claim(&here, &one, Version::V16.into(), wall_ms()).await.unwrap();
        let claim = wrong.claim(&there, &two, Version::V16.into(), theirs_ms()).await.unwrap();
        assert!(claim.generation.abs_diff(wall_ms().unsigned_abs()) < 60_000, "{}", claim.generation);
        let seen = wrong.locate(&here, theirs_ms()).await.unwrap().expect("it lives");
        assert!(seen.since_ms.abs_diff(theirs_ms()) < 60_000, "in their own time");
        assert!(right.locate(&there, wall_ms()).await.unwrap().is_some());
        // And the lease ends when it ends, whatever their clock says.
        assert_eq!(right.locate(&there, wall_ms() + 60_000).await.unwrap(), None);
        let id = ByteString::from(format!("command {off_ms}"));
        let command = OutboxEntry {
            id: id.clone(),
            key: here.clone(),
            action: "Reset".into(),
            payload: Bytes::from_static(b"{}"),
            lane: Lane::Normal,
            timeout: Duration::from_secs(30),
            expires_ms: theirs_ms() + 60_000,
            reply_to: None,
            context: None,
            state: OutboxState::Waiting,
        };
        wrong.outbox_put(command).await.unwrap();
        assert_eq!(right.outbox_sweep(wall_ms(), 100).await.unwrap(), []);
        let waiting = right.outbox_waiting(&here, wall_ms(), 100).await.unwrap();
        let waiting = waiting.iter().find(|entry| entry.id == id).unwrap();
        assert!((waiting.expires_ms - wall_ms()).abs() < 90_000, "{}", waiting.expires_ms);
        let lately = right.outbox_lately(&one, Duration::from_secs(30), 10).await.unwrap();
        assert_eq!(lately, std::slice::from_ref(&here));
        assert_eq!(right.outbox_lately(&two, Duration::from_secs(30), 10).await.unwrap(), []);
    }
}
