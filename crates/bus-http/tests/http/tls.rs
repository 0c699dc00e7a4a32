//! `https://`, with an authority of one's own.

use crate::support::{answer_to, call, each, free, in_time, port, response, server, to_call};
use anyhow::{Context as _, Result};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use switchboard_bus::conformance::Recorder;
use switchboard_bus::{
    Address, Bus, Connect, ConnectError, Consumer, PublishError, Subscription, Tls, Topic,
};
use switchboard_bus_http::{Http, name_at};
use switchboard_testkit::Certificates;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring};

fn connect(url: String, tls: Tls) -> Connect {
    Connect { tls, ..Connect::to(url) }
}

#[tokio::test]
async fn a_function_with_a_certificate_is_reached_by_whoever_trusts_its_authority() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = Certificates::make(folder.path(), "a gateway")?;
    let (certificate, key) = files.server();
    let (listener, address) = port();
    let url = format!("https://localhost:{}/ocpp", address.port());
    let own = Tls { ca_file: None, certificate_file: Some(certificate), key_file: Some(key) };
    let function = Arc::new(Http::listen(connect(url.clone(), own), listener)?);
    let to: Arc<dyn Bus> = Arc::clone(&function) as _;
    let answering: Arc<dyn Consumer> = each(move |call| {
        let (to, answer) = (Arc::clone(&to), answer_to(&call, r#"[3,"1",{}]"#));
        Some(Box::pin(async move { to.publish(answer.0, answer.1).await.unwrap() }))
    });
    let calls = Subscription { topic: Topic::Calls, in_hand_max: NonZeroU32::MIN };
    let _calls = function.subscribe(calls, answering).await?;

    let trusting = Tls { ca_file: Some(files.authority()), ..Tls::default() };
    let bus: Arc<dyn Bus> = Arc::new(Http::connect(connect(url.clone(), trusting))?);
    let answers = Recorder::new();
    let _inbox = answers.listen(&bus, Topic::Inbox("gateway".into()), 8).await;
    in_time(bus.publish(to_call(), call(1))).await?;
    assert_eq!(answers.wait_for(1).await[0].body, r#"[3,"1",{}]"#);

    // Whoever does not know the authority says nothing at all.
    let elsewhere = Tls { ca_file: Some(files.stranger()), ..Tls::default() };
    let bus = Http::connect(connect(url, elsewhere))?;
    let refused = in_time(bus.publish(to_call(), call(2))).await;
    assert!(matches!(refused, Err(PublishError::NobodyListens)), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let tls = Tls { ca_file: Some(PathBuf::from("/nowhere/ca.pem")), ..Tls::default() };
    let refused = Http::connect(connect("https://localhost/".to_owned(), tls));
    assert!(matches!(refused, Err(ConnectError::File { .. })), "{refused:?}");
}

/// Ends TLS before a server, for those only who show a certificate of the same authority.
async fn demanding(files: &Certificates, server: SocketAddr) -> Result<SocketAddr> {
    let provider = Arc::new(ring::default_provider());
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_file(files.authority())?)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(&provider)).build()?;
    let (certificate, key) = files.server();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_file(certificate)?],
            PrivateKeyDer::from_pem_file(key)?,
        )?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut from) = acceptor.accept(stream).await else { return };
                let Ok(mut to) = TcpStream::connect(server).await else { return };
                drop(tokio::io::copy_bidirectional(&mut from, &mut to).await);
            });
        }
    });
    Ok(address)
}

#[tokio::test]
async fn a_function_that_demands_a_certificate_is_shown_ours() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = Certificates::make(folder.path(), "a gateway")?;
    let (function, posted) = server(response("200 OK", "", r#"[3,"1",{}]"#)).await?;
    let url = format!("https://localhost:{}/ocpp", demanding(&files, function).await?.port());
    let (certificate, key) = files.client();
    let nobody = Tls { ca_file: Some(files.authority()), ..Tls::default() };
    let known = Tls { certificate_file: Some(certificate), key_file: Some(key), ..nobody.clone() };

    let bus = Http::connect(connect(url.clone(), nobody))?;
    let refused = in_time(bus.publish(to_call(), call(1))).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(posted.load(Ordering::Relaxed), 0);

    let bus: Arc<dyn Bus> = Arc::new(Http::connect(connect(url, known))?);
    let answers = Recorder::new();
    let _inbox = answers.listen(&bus, Topic::Inbox("gateway".into()), 8).await;
    in_time(bus.publish(to_call(), call(2))).await?;
    assert_eq!(answers.wait_for(1).await[0].body, r#"[3,"1",{}]"#);
    Ok(())
}

/// Where an inbox is says whoever waits for it.
#[tokio::test]
async fn credentials_of_a_bus_with_tls_are_told_to_no_inbox_without() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = Certificates::make(folder.path(), "a gateway")?;
    let (listening, posted) = server(response("202 Accepted", "", "")).await?;
    let tls = Tls { ca_file: Some(files.authority()), ..Tls::default() };
    let bus = Http::connect(connect(format!("https://key@{}/ocpp", free()), tls.clone()))?;
    let inbox = name_at("gateway", &format!("http://{listening}"));
    let (_, answer) = answer_to(&call(1), r#"[3,"1",{}]"#);
    let outcome = in_time(bus.publish(Address::Inbox(inbox.clone()), answer.clone())).await;
    assert!(matches!(outcome, Err(PublishError::Away)), "{outcome:?}");
    assert_eq!(posted.load(Ordering::Relaxed), 0, "not a byte");

    // A bus without credentials has nothing to hide from it.
    let bus = Http::connect(connect(format!("https://{}/ocpp", free()), tls))?;
    in_time(bus.publish(Address::Inbox(inbox), answer)).await.context("it is posted")?;
    assert_eq!(posted.load(Ordering::Relaxed), 1);
    Ok(())
}
