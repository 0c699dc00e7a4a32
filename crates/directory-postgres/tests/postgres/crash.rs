//! Servers that are killed, and servers that come late.

use crate::{NOW, key, open};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::{Duration, Instant};
use switchboard_directory::conformance::{Sharing, what_was_answered_survives_a_crash};
use switchboard_directory::{Directory, DirectoryError};
use switchboard_directory_postgres::{Config, Postgres, State};
use switchboard_rpc::Version;
use switchboard_testkit::Proxy;
use switchboard_testkit::servers::Postgres as Server;
use tokio::sync::Mutex;

#[derive(Debug)]
struct Mortal {
    server: Mutex<Server>,
    url: String,
}

impl Sharing for Mortal {
    fn join(&self) -> BoxFuture<'_, Arc<dyn Directory>> {
        Box::pin(async { open(&self.url).await as Arc<dyn Directory> })
    }

    fn crash(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut server = self.server.lock().await;
            server.kill().unwrap();
            server.start().await.unwrap();
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_that_the_server_is_killed() {
    let Some(server) = Server::start("a crash of PostgreSQL").await.unwrap() else { return };
    let url = server.database().unwrap();
    what_was_answered_survives_a_crash(&Mortal { server: Mutex::new(server), url }).await;
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_and_meanwhile_it_is_told_at_once() {
    let Some(mut server) = Server::start("a server that comes late").await.unwrap() else { return };
    let proxy = Proxy::to(server.address()).await.unwrap();
    let url = server.database().unwrap().replace(&server.address().to_string(), &proxy.address().to_string());
    server.kill().unwrap();
    let directory = Arc::new(Postgres::connect(Config::to(&url)).unwrap());
    assert_eq!(*directory.state().borrow(), State::Waiting);
    let ready = tokio::spawn({
        let directory = Arc::clone(&directory);
        async move { directory.ready().await }
    });
    // The first one waits a little, in case it is only for a moment; and so does nobody once it is known to be away.
    let mut told_at_once = false;
    let begun = Instant::now();
    while !told_at_once {
        let asked = Instant::now();
        let error = directory.locate(&key("CP1"), NOW).await.unwrap_err();
        assert!(matches!(error, DirectoryError::Away(_)), "{error:?}");
        told_at_once = asked.elapsed() < Duration::from_millis(500);
        assert!(begun.elapsed() < Duration::from_secs(30), "it is never told at once");
    }
    assert!(!ready.is_finished());
    server.start().await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), ready).await.unwrap().unwrap().unwrap();
    let claim = directory.claim(&key("CP1"), &"gateway".into(), Version::V16.into(), NOW).await.unwrap();
    assert_eq!(claim.previous, None);

    // A server that says nothing is as good as away, and is there again when it does.
    proxy.hold(true);
    let asked = Instant::now();
    let error = directory.locate(&key("CP1"), NOW).await.unwrap_err();
    assert!(matches!(error, DirectoryError::Away(_)), "{error:?}");
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    proxy.hold(false);
    let mut state = directory.state();
    let back = state.wait_for(|state| *state == State::There);
    tokio::time::timeout(Duration::from_secs(30), back).await.unwrap().unwrap();
    let again = directory.claim(&key("CP1"), &"gateway".into(), Version::V16.into(), NOW).await;
    assert!(again.unwrap().generation > claim.generation);
    directory.close().await.unwrap();
    assert!(matches!(directory.locate(&key("CP1"), NOW).await, Err(DirectoryError::Away(_))));
}
