//! TLS as `sslmode` says.

use crate::{NOW, key};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use switchboard_directory::{Directory, DirectoryError};
use switchboard_directory_postgres::{AddressError, Config, ConnectError, Postgres};
use switchboard_testkit::servers::Postgres as Server;

fn openssl(folder: &Path, arguments: &[&str]) {
    let ran =
        Command::new("openssl").args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// An authority, and a certificate of it for this name.
fn certify(folder: &Path, name: &str) {
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority =
        ["req", "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(folder, &[&authority[..], &curve].concat());
    let subject = format!("/CN={name}");
    let request = ["req", "-subj", &subject, "-keyout", "server.key", "-out", "server.csr"];
    openssl(folder, &[&request[..], &curve].concat());
    std::fs::write(folder.join("names"), format!("subjectAltName=DNS:{name}\n")).unwrap();
    let sign = ["x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key"];
    openssl(folder, &[&sign[..], &["-CAcreateserial", "-extfile", "names", "-out", "server.pem"]].concat());
}

async fn reach(url: &str) -> Result<(), String> {
    let directory = Postgres::connect(Config::to(url)).map_err(|error| error.to_string())?;
    match tokio::time::timeout(Duration::from_secs(5), directory.ready()).await {
        Ok(Ok(())) => directory.locate(&key("CP1"), NOW).await.map(drop).map_err(|error| error.to_string()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => match directory.locate(&key("CP1"), NOW).await {
            Err(DirectoryError::Away(_)) => Err("away".to_owned()),
            other => panic!("{other:?}"),
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sslmode_decides_how_carefully_the_server_is_looked_at() {
    let Some(mut server) = Server::start("TLS to PostgreSQL").await.unwrap() else { return };
    if Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    let url = server.database().unwrap();
    assert_eq!(reach(&format!("{url}?sslmode=prefer")).await, Ok(()), "it has no TLS, and none is asked for");
    let certificates = server.folder().join("data");
    certify(&certificates, "localhost");
    let mut owned = Command::new("chown");
    owned.args(["--reference", "PG_VERSION", "server.key"]).current_dir(&certificates);
    assert!(owned.status().unwrap().success());
    for sql in ["ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl = on"] {
        server.psql("postgres", &format!("ALTER SYSTEM SET {sql}")).unwrap();
    }
    server.stop().unwrap();
    server.start().await.unwrap();
    let by_name = url.replace("127.0.0.1", "localhost");
    let ca = certificates.join("ca.pem").display().to_string();
    for (url, reached) in [
        (format!("{url}?sslmode=disable"), true),
        (format!("{url}?sslmode=prefer"), true),
        (format!("{url}?sslmode=require"), true),
        (format!("{url}?sslmode=verify-ca&sslrootcert={ca}"), true),
        (format!("{url}?sslmode=verify-full&sslrootcert={ca}"), false),
        (format!("{by_name}?sslmode=verify-full&sslrootcert={ca}"), true),
        (
            format!(
                "{by_name}?sslmode=verify-full&sslrootcert={}",
                certificates.join("server.pem").display()
            ),
            false,
        ),
    ] {
        assert_eq!(reach(&url).await.is_ok(), reached, "{url}");
    }
    let nothing = Postgres::connect(Config::to(format!("{url}?sslmode=verify-ca&sslrootcert=/no/such/file")));
    assert!(matches!(nothing, Err(ConnectError::Address(AddressError::File { .. }))), "{nothing:?}");
}
