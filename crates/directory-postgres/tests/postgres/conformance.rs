//! The contract's promises.

use crate::open;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use switchboard_directory::Directory;
use switchboard_directory::conformance::{Opening, Sharing};

switchboard_directory::directory_conformance!({
    let Some(server) = crate::server().await else { return };
    let url = server.database().unwrap();
    Opening(move || {
        let url = url.clone();
        async move { open(&url).await as Arc<dyn Directory> }
    })
});

#[derive(Debug)]
struct Database(String);

impl Sharing for Database {
    fn join(&self) -> BoxFuture<'_, Arc<dyn Directory>> {
        Box::pin(async { open(&self.0).await as Arc<dyn Directory> })
    }

    fn crash(&self) -> BoxFuture<'_, ()> {
        unreachable!("others use this server")
    }
}

switchboard_directory::shared_directory_conformance!({
    let Some(server) = crate::server().await else { return };
    Database(server.database().unwrap())
});
