//! The contract's promises.

use std::sync::Arc;
use switchboard_directory::Directory;
use switchboard_directory::conformance::Opening;
use switchboard_directory_postgres::{Config, Postgres};

switchboard_directory::directory_conformance!({
    let Some(server) = crate::server().await else { return };
    let url = server.database().unwrap();
    Opening(move || {
        let url = url.clone();
        async move {
            let directory = Postgres::connect(Config::to(url)).unwrap();
            directory.ready().await.unwrap();
            Arc::new(directory) as Arc<dyn Directory>
        }
    })
});
