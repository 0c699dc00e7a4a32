//! What MQTT brokers do that has to be known: each of these was a trap once.

#![expect(clippy::unwrap_used, reason = "what tests are made of fails like them")]

use anyhow::{Context as _, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};
use switchboard_bus::{
    Address, Bus, Connect, Consumer, Done, Envelope, Kind, Metadata, PublishError, Secret, State, Topic,
    conformance::Recorder,
};
use switchboard_bus_mqtt::Mqtt;
use switchboard_testkit::{Proxy, servers::Mosquitto};
use tokio::time::{Instant, timeout};

const DEADLINE: Duration = Duration::from_secs(30);

fn connect(url: String) -> Connect {
    Connect::to(url)
}

async fn connected(connect: Connect) -> Result<Arc<dyn Bus>> {
    let bus: Arc<dyn Bus> = Arc::new(Mqtt::connect(connect)?);
    is(&bus, State::Connected).await?;
    Ok(bus)
}

async fn is(bus: &Arc<dyn Bus>, wanted: State) -> Result<()> {
    let mut state = bus.state();
    let turned = timeout(DEADLINE, state.wait_for(|state| *state == wanted)).await;
    drop(turned.with_context(|| format!("it should be {wanted:?}"))??);
    Ok(())
}

fn call(seq: u64) -> Envelope {
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = Some(station());
    metadata.action = Some("Heartbeat".into());
    metadata.seq = Some(seq);
    metadata.attempt = 1;
    metadata.remaining = Some(Duration::from_secs(25));
    metadata.reply_to = Some("gateway-1".into());
    Envelope::new(metadata, format!(r#"[2,"{seq}","Heartbeat",{{}}]"#))
}

fn station() -> switchboard_rpc::StationId {
    switchboard_rpc::StationId::new("CP001", 48).unwrap()
}

fn to_call() -> Address {
    Address::Call { tenant: "default".into(), station: station() }
}

/// Publishes as a gateway does: again as long as nobody listens or everybody is busy.
async fn hand_over(bus: &Arc<dyn Bus>, to: Address, envelope: Envelope) -> Result<()> {
    let attempts = async {
        while let Err(error) = bus.publish(to.clone(), envelope.clone()).await {
            ensure!(error.is_retryable(), "{error:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    };
    timeout(DEADLINE, attempts).await?
}

/// Answers each call at its gateway's inbox.
#[derive(Debug)]
struct Answering(Arc<dyn Bus>);

impl Consumer for Answering {
    fn deliver(&self, mut envelope: Envelope, done: Done) {
        let bus = Arc::clone(&self.0);
        tokio::spawn(async move {
            envelope.metadata.kind = Kind::Answer;
            let to = Address::Inbox(envelope.metadata.reply_to.take().unwrap());
            bus.publish(to, envelope).await.unwrap();
            drop(done);
        });
    }
}

#[tokio::test]
async fn calls_one_after_another_do_not_wait_for_the_networks_acknowledgements() -> Result<()> {
    let Some(broker) = Mosquitto::start("calls over MQTT without delay").await? else { return Ok(()) };
    let gateway = connected(connect(broker.url())).await?;
    let worker = connected(connect(broker.url())).await?;
    let answers = Recorder::new();
    let _inbox = answers.listen(&gateway, Topic::Inbox("gateway-1".into()), 8).await;
    let calls = switchboard_bus::Subscription { topic: Topic::Calls, in_hand_max: 8.try_into()? };
    let _calls = worker.subscribe(calls, Arc::new(Answering(Arc::clone(&worker)))).await?;
    let mut took = Vec::new();
    for seq in 0..40 {
        let begun = Instant::now();
        hand_over(&gateway, to_call(), call(seq)).await?;
        answers.wait_for(usize::try_from(seq)? + 1).await;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    // With Nagle's algorithm each takes 40 ms at least; half of them do not, however busy the machine is.
    ensure!(took[took.len() / 2] < Duration::from_millis(30), "{took:?}");
    Ok(())
}

#[tokio::test]
async fn what_a_dead_worker_had_strands_nothing_of_the_others() -> Result<()> {
    let Some(broker) = Mosquitto::start("a dead worker over MQTT").await? else { return Ok(()) };
    let gateway = connected(connect(broker.url())).await?;
    let dying = connected(connect(broker.url())).await?;
    let held = Recorder::holding();
    let subscribed = held.listen(&dying, Topic::Calls, 8).await;
    for seq in 0..3 {
        hand_over(&gateway, to_call(), call(seq)).await?;
    }
    held.wait_for(3).await;
    let living = connected(connect(broker.url())).await?;
    let taken = Recorder::new();
    let _taken = taken.listen(&living, Topic::Calls, 8).await;
    // Without a word to the broker, as at a SIGKILL.
    std::mem::forget(subscribed);
    drop(dying);
    // All that comes after goes to the living one, and so does what the gateway hands over again.
    let mut seq = 3;
    let begun = Instant::now();
    loop {
        hand_over(&gateway, to_call(), call(seq)).await?;
        let all = taken.wait_for_some(Duration::from_millis(500), seq).await;
        seq += 1;
        if all {
            break;
        }
        // Until the broker has noticed, some go to the dead one.
        ensure!(begun.elapsed() < DEADLINE, "calls strand: {:?}", taken.all());
    }
    taken.forget();
    for seq in 0..20 {
        hand_over(&gateway, to_call(), call(seq)).await?;
    }
    let mut seqs: Vec<_> =
        taken.wait_for(20).await.iter().filter_map(|envelope| envelope.metadata.seq).collect();
    seqs.sort_unstable();
    ensure!(seqs.iter().copied().eq(0..20), "{seqs:?}");
    Ok(())
}

trait WaitForSome {
    /// Whether the call of this number comes within a time.
    async fn wait_for_some(&self, time: Duration, seq: u64) -> bool;
}

impl WaitForSome for Recorder {
    async fn wait_for_some(&self, time: Duration, seq: u64) -> bool {
        let came = async {
            while !self.all().iter().any(|envelope| envelope.metadata.seq == Some(seq)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(time, came).await.is_ok()
    }
}

#[tokio::test]
async fn a_worker_has_in_hand_what_it_may_and_gives_the_rest_back_at_once() -> Result<()> {
    let Some(broker) = Mosquitto::start("a full worker over MQTT").await? else { return Ok(()) };
    let gateway = connected(connect(broker.url())).await?;
    let worker = connected(connect(broker.url())).await?;
    let returns = Recorder::new();
    let _inbox = returns.listen(&gateway, Topic::Inbox("gateway-1".into()), 100).await;
    let full = Recorder::holding();
    // Far more than Mosquitto has on its way to one client by default.
    let _calls = full.listen(&worker, Topic::Calls, 60).await;
    for seq in 0..70 {
        hand_over(&gateway, to_call(), call(seq)).await?;
    }
    full.wait_for(60).await;
    let back = returns.wait_for(10).await;
    ensure!(back.iter().all(|envelope| envelope.metadata.kind == Kind::Returned), "{back:?}");
    ensure!(full.count() == 60, "{}", full.count());
    // One hand is free, and the next call finds it.
    full.let_go();
    hand_over(&gateway, to_call(), call(70)).await?;
    ensure!(full.wait_for(61).await.last().and_then(|envelope| envelope.metadata.seq) == Some(70));
    Ok(())
}

#[tokio::test]
async fn what_was_on_its_way_when_the_line_broke_is_told_and_not_sent_again() -> Result<()> {
    let Some(broker) = Mosquitto::start("a broken line to an MQTT broker").await? else { return Ok(()) };
    let proxy = Proxy::to(broker.address()).await?;
    let sender = connected(connect(format!("mqtt://{}", proxy.address()))).await?;
    let receiver = connected(connect(broker.url())).await?;
    let recorder = Recorder::new();
    let _inbox = recorder.listen(&receiver, Topic::Inbox("gateway-1".into()), 64).await;
    let inbox = || Address::Inbox("gateway-1".into());
    proxy.hold(true);
    let (first, second) = (sender.publish(inbox(), call(1)), sender.publish(inbox(), call(2)));
    let told = tokio::spawn(async move { is(&receiver, State::Connected).await.map(|()| receiver) });
    let cut = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        proxy.cut();
        // What is held would else still be let through.
        is(&sender, State::Away).await?;
        proxy.hold(false);
        Ok::<_, anyhow::Error>(())
    };
    let (first, second, cut) = tokio::join!(first, second, cut);
    cut?;
    for outcome in [first, second] {
        // Somebody might have it, for all we know.
        ensure!(matches!(outcome, Err(PublishError::Refused(_))), "{outcome:?}");
    }
    let _receiver = told.await??;
    is(&sender, State::Connected).await?;
    hand_over(&sender, inbox(), call(3)).await?;
    let got = recorder.wait_for(1).await;
    let seqs: Vec<_> = got.iter().map(|envelope| envelope.metadata.seq).collect();
    ensure!(seqs == [Some(3)], "what was on its way is not sent again: {seqs:?}");
    Ok(())
}

#[tokio::test]
async fn no_more_is_on_its_way_than_the_broker_takes_and_no_packet_is_larger() -> Result<()> {
    let settings = "allow_anonymous true\nmax_inflight_messages 2\nmax_packet_size 30000\n";
    let Some(broker) = Mosquitto::start_with("limits of an MQTT broker", |_| Ok(settings.to_owned())).await?
    else {
        return Ok(());
    };
    let bus = connected(connect(broker.url())).await?;
    let recorder = Recorder::new();
    let _inbox = recorder.listen(&bus, Topic::Inbox("gateway-1".into()), 1000).await;
    let inbox = || Address::Inbox("gateway-1".into());
    // Mosquitto closes the connection of whoever has more than two on their way.
    let all = (0..200).map(|seq| bus.publish(inbox(), call(seq)));
    for outcome in futures_util::future::join_all(all).await {
        outcome?;
    }
    recorder.wait_for(200).await;
    let limit = bus.capabilities().body_bytes_max;
    ensure!((10_000..30_000).contains(&limit), "{limit}");
    for (bytes, fits) in [(limit, true), (limit + 1, true), (30_000, false)] {
        let mut large = call(1);
        large.body = vec![b' '; bytes].into();
        let outcome = bus.publish(inbox(), large).await;
        match outcome {
            Ok(()) => ensure!(fits, "{bytes} bytes do not fit"),
            Err(PublishError::TooLarge { limit: told, .. }) => {
                ensure!(!fits && told < 30_000, "{bytes} {told}");
            }
            other => other?,
        }
    }
    ensure!(*bus.state().borrow() == State::Connected);
    Ok(())
}

#[tokio::test]
async fn a_broker_with_tls_passwords_and_client_certificates_is_reached_where_it_is() -> Result<()> {
    let test = "MQTT over TLS";
    let mut folder = PathBuf::new();
    let started = Mosquitto::start_with(test, |place| {
        place.clone_into(&mut folder);
        certificates(place)?;
        let passwords = place.join("passwords");
        run("mosquitto_passwd", &["-b", "-c", text(&passwords)?, "gateway", "correct horse"])?;
        let file = |name: &str| place.join(name).display().to_string();
        Ok(format!(
            "allow_anonymous false\npassword_file {}\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
            passwords.display(),
            file("ca.pem"),
            file("server.pem"),
            file("server.key")
        ))
    });
    let Some(broker) = started.await? else { return Ok(()) };
    let port = broker.address().port();
    // The first endpoint is not there; the second is.
    let mut right = connect(format!("mqtts://localhost:1,mqtts://localhost:{port}"));
    right.tls.ca_file = Some(folder.join("ca.pem"));
    right.tls.certificate_file = Some(folder.join("client.pem"));
    right.tls.key_file = Some(folder.join("client.key"));
    right.user = Some("gateway".to_owned());
    right.password = Some(Secret::new("correct horse"));
    let bus = connected(right.clone()).await?;
    let recorder = Recorder::new();
    let _inbox = recorder.listen(&bus, Topic::Inbox("gateway-1".into()), 8).await;
    bus.publish(Address::Inbox("gateway-1".into()), call(1)).await?;
    recorder.wait_for(1).await;

    let mut uncertified = right.clone();
    (uncertified.tls.certificate_file, uncertified.tls.key_file) = (None, None);
    let mut wrong = right.clone();
    wrong.password = Some(Secret::new("battery staple"));
    let mut distrusting = right;
    distrusting.tls.ca_file = None;
    for refused in [uncertified, wrong, distrusting] {
        let bus: Arc<dyn Bus> = Arc::new(Mqtt::connect(refused)?);
        ensure!(timeout(Duration::from_millis(700), is(&bus, State::Connected)).await.is_err());
        let outcome = bus.publish(to_call(), call(1)).await;
        ensure!(matches!(outcome, Err(PublishError::Away)), "{outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn two_of_one_name_do_not_take_it_from_each_other_many_times_a_second() -> Result<()> {
    let Some(broker) = Mosquitto::start("a name used twice over MQTT").await? else { return Ok(()) };
    let first = connected(connect(broker.url())).await?;
    let mut same = connect(broker.url());
    same.participant = "twice".into();
    let (one, other) = (connected(same.clone()).await?, connected(same).await?);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let kicks = broker.log().matches("already connected").count();
    ensure!((1..=14).contains(&kicks), "{kicks} in two seconds:\n{}", broker.log());
    drop((first, one, other));
    Ok(())
}

/// An authority, and certificates of it for a server and a client.
fn certificates(place: &Path) -> Result<()> {
    let file = |name: &str| place.join(name).display().to_string();
    let extensions = place.join("extensions");
    std::fs::write(&extensions, "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")?;
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-batch"];
    let new = |arguments: &[&str]| run("openssl", &[&["req"], &curve[..], arguments].concat());
    new(&[
        "-x509",
        "-subj",
        "/CN=authority",
        "-keyout",
        &file("ca.key"),
        "-out",
        &file("ca.pem"),
        "-days",
        "2",
    ])?;
    for name in ["server", "client"] {
        let (key, request) = (file(&format!("{name}.key")), file("request"));
        new(&["-subj", &format!("/CN={name}"), "-keyout", &key, "-out", &request])?;
        let (authority, authority_key, certificate) =
            (file("ca.pem"), file("ca.key"), file(&format!("{name}.pem")));
        let sign = ["-CA", &authority, "-CAkey", &authority_key, "-CAcreateserial", "-days", "2"];
        let about = ["x509", "-req", "-in", &request, "-out", &certificate, "-extfile", text(&extensions)?];
        run("openssl", &[&about[..], &sign[..]].concat())?;
    }
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let ran =
        Command::new(program).args(arguments).output().with_context(|| format!("cannot run {program}"))?;
    ensure!(ran.status.success(), "{program}: {}", String::from_utf8_lossy(&ran.stderr));
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}
