//! What the embedded directory promises beside the conformance suite.

use super::*;
use switchboard_bus::ConnectionKey;

fn key(station: &str) -> StationKey {
    StationKey { tenant: "default".into(), station: StationId::new(station, 48).unwrap() }
}

fn entry(station: &str, seq: u64) -> JournalEntry {
    JournalEntry {
        id: 0,
        key: key(station),
        version: Version::V16,
        connection: ConnectionKey { gateway: "gateway-1".into(), generation: 7 },
        seq,
        action: "MeterValues".into(),
        frame: Bytes::from(format!(r#"[2,"{seq}","MeterValues",{{}}]"#)),
        received_ms: 1_000,
    }
}

mod promises {
    use crate::conformance::{Harness, Opening};
    use crate::{Directory, Embedded, embedded::Config};
    use std::sync::Arc;

    fn harness() -> impl Harness {
        let folder = tempfile::tempdir().unwrap();
        Opening(move || {
            let directory: Arc<dyn Directory> =
                Arc::new(Embedded::open(&Config::in_dir(folder.path())).unwrap());
            std::future::ready(directory)
        })
    }

    crate::directory_conformance!(harness());
}

#[tokio::test]
async fn a_second_owner_is_refused_until_the_first_has_closed() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::in_dir(folder.path());
    let first = Embedded::open(&config).unwrap();
    let error = Embedded::open(&config).unwrap_err();
    let DirectoryError::Owned { path } = error else { panic!("{error:?}") };
    assert!(path.contains(FILE_NAME), "{path}");
    first.journal_append(entry("CP001", 1)).await.unwrap();
    first.close().await.unwrap();
    let second = Embedded::open(&config).unwrap();
    assert_eq!(second.journal_count(None).await.unwrap(), 1);
    assert_eq!(second.journal_read(Some(&key("CP001")), 10).await.unwrap().len(), 1);
}
