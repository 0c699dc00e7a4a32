//! `https://`, with an authority of one's own.

use crate::support::{answer_to, call, each, in_time, port, to_call};
use anyhow::Result;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use switchboard_bus::conformance::Recorder;
use switchboard_bus::{Bus, Connect, ConnectError, Consumer, PublishError, Subscription, Tls, Topic};
use switchboard_bus_http::Http;
use switchboard_testkit::Certificates;

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
    let bus = Http::connect(connect(url, Tls::default()))?;
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
