//! What commands promise, against a directory and a gateway that do as they are told.

use super::*;
use crate::conformance::{Recorder, station};
use crate::{InProcess, OutcomeKind};
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::time::Instant;

const GATEWAY: &str = "gateway-1";

/// A directory that does as it is told.
#[derive(Debug, Default)]
struct Places {
    gateway: Mutex<Option<ByteString>>,
    away: Mutex<bool>,
    kept: Mutex<HashMap<ByteString, Entry>>,
}

#[derive(Debug)]
struct Entry {
    command: Stored,
    taken: bool,
    ended: Option<(OutcomeKind, Bytes)>,
}

impl Places {
    fn connected() -> Arc<Self> {
        let places = Self::default();
        *places.gateway.lock().unwrap() = Some(GATEWAY.into());
        Arc::new(places)
    }

    fn disconnect(&self) {
        *self.gateway.lock().unwrap() = None;
    }

    fn end(&self, id: &str, outcome: OutcomeKind, frame: &'static str) {
        let mut kept = self.kept.lock().unwrap();
        kept.get_mut(id).unwrap().ended = Some((outcome, Bytes::from_static(frame.as_bytes())));
    }

    fn reply<T: Send + 'static>(&self, value: T) -> BoxFuture<'static, Result<T, LocateError>> {
        let away = *self.away.lock().unwrap();
        let reply = if away { Err(LocateError("no line".into())) } else { Ok(value) };
        Box::pin(std::future::ready(reply))
    }
}

impl Locator for Places {
    fn locate<'a>(
        &'a self,
        _tenant: &'a ByteString,
        _station: &'a StationId,
    ) -> BoxFuture<'a, Result<Option<ByteString>, LocateError>> {
        self.reply(self.gateway.lock().unwrap().clone())
    }

    fn keep(&self, command: Stored) -> BoxFuture<'_, Result<Keeping, LocateError>> {
        let mut kept = self.kept.lock().unwrap();
        let keeping = kept.get(&command.id).map_or(Keeping::Fresh, Entry::keeping);
        if keeping == Keeping::Fresh {
            kept.insert(command.id.clone(), Entry { command, taken: false, ended: None });
        }
        self.reply(keeping)
    }

    fn kept<'a>(
        &'a self,
        _tenant: &'a ByteString,
        _station: &'a StationId,
        id: &'a ByteString,
    ) -> BoxFuture<'a, Result<Option<Kept>, LocateError>> {
        self.reply(self.kept.lock().unwrap().get(id).map(|one| Kept {
            action: one.command.action.clone(),
            payload: one.command.payload.clone(),
            keeping: one.keeping(),
        }))
    }

    fn withdraw<'a>(
        &'a self,
        _tenant: &'a ByteString,
        _station: &'a StationId,
        id: &'a ByteString,
        outcome: OutcomeKind,
    ) -> BoxFuture<'a, Result<bool, LocateError>> {
        let mut kept = self.kept.lock().unwrap();
        let waits = kept.get_mut(id).filter(|kept| !kept.taken && kept.ended.is_none());
        let withdrawn = waits.map(|kept| kept.ended = Some((outcome, Bytes::new())));
        self.reply(withdrawn.is_some())
    }
}

impl Entry {
    fn keeping(&self) -> Keeping {
        match &self.ended {
            Some((outcome, frame)) => Keeping::Ended { outcome: *outcome, frame: frame.clone() },
            None => Keeping::UnderWay,
        }
    }
}

/// A bus with a commander on it, and a gateway that keeps what it is given.
struct Setting {
    bus: Arc<dyn Bus>,
    places: Arc<Places>,
    commander: Commander,
    gateway: Arc<Recorder>,
    _listening: Subscribed,
}

async fn setting(places: Arc<Places>) -> Setting {
    let bus: Arc<dyn Bus> = Arc::new(InProcess::new());
    let gateway = Recorder::new();
    let listening = gateway.listen(&bus, Topic::Inbox(GATEWAY.into()), 2000).await;
    let locator: Arc<dyn Locator> = Arc::<Places>::clone(&places);
    let commander = Commander::new(Arc::clone(&bus), "caller-1", locator).await.unwrap();
    Setting { bus, places, commander, gateway, _listening: listening }
}

impl Setting {
    async fn send(&self, options: Options) -> Result<Outcome, CommandError> {
        let payload = Bytes::from_static(br#"{"type":"Soft"}"#);
        self.commander.command(&"default".into(), &station("CP001"), "Reset", payload, options).await
    }

    /// The gateway tells an outcome of what it was given last.
    async fn tell(&self, outcome: OutcomeKind, frame: &'static str) {
        let command = self.gateway.wait_for(1).await.pop().unwrap().metadata;
        let mut metadata = Metadata::new(Kind::Outcome);
        metadata.station = command.station;
        metadata.command_id = command.command_id;
        metadata.outcome = Some(outcome);
        let envelope = Envelope::new(metadata, Bytes::from_static(frame.as_bytes()));
        self.bus.publish(Address::Inbox(command.reply_to.unwrap()), envelope).await.unwrap();
    }
}

/// Whether it has begun and is not at its end.
fn begun(future: std::pin::Pin<&mut impl Future>) -> bool {
    future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending()
}

fn refused(code: &str, description: &str) -> Outcome {
    Outcome::Refused { code: code.into(), description: description.into(), details: "{}".into() }
}

#[tokio::test]
async fn what_the_gateway_says_is_the_outcome() {
    let unreadable = refused("", "the station's answer could not be read");
    for (kind, frame, expected) in [
        (
            OutcomeKind::Answered,
            r#"[3,"x",{"status":"Accepted"}]"#,
            Outcome::Answered(r#"{"status":"Accepted"}"#.into()),
        ),
        (OutcomeKind::Refused, r#"[4,"x","NotSupported","no",{}]"#, refused("NotSupported", "no")),
        (OutcomeKind::Refused, r#"[4,"x","Odd"]"#, refused("Odd", "")),
        (OutcomeKind::Refused, "", unreadable.clone()),
        (OutcomeKind::Answered, "nonsense", unreadable),
        (OutcomeKind::Offline, "", Outcome::Offline),
        (OutcomeKind::Busy, "", Outcome::Busy),
        (OutcomeKind::Expired, "", Outcome::Expired),
        (OutcomeKind::Cancelled, "", Outcome::Cancelled),
        (OutcomeKind::NotSent, "", Outcome::NotSent),
        (OutcomeKind::Unknown, "", Outcome::Unknown),
    ] {
        let setting = setting(Places::connected()).await;
        let (outcome, ()) = tokio::join!(setting.send(Options::default()), setting.tell(kind, frame));
        assert_eq!(outcome.unwrap(), expected, "{kind:?} {frame}");
        assert_eq!(setting.commander.unexpected(), 0);
        setting.tell(kind, frame).await;
        assert_eq!(setting.commander.unexpected(), 1, "a second outcome is counted");
    }
}

/// A key is one station's: whoever resets all of them today may give all commands the key `reset-today`.
#[tokio::test]
async fn the_outcome_of_one_station_is_not_that_of_another_whose_command_has_the_same_id() {
    let setting = setting(Places::connected()).await;
    let tenant = ByteString::from("default");
    let (first, second) = (station("CP001"), station("CP002"));
    let options = || Options { id: Some("reset-today".into()), ..Options::default() };
    let payload = || Bytes::from_static(br#"{"type":"Soft"}"#);
    let mut one = std::pin::pin!(setting.commander.command(&tenant, &first, "Reset", payload(), options()));
    let mut two = std::pin::pin!(setting.commander.command(&tenant, &second, "Reset", payload(), options()));
    assert!(begun(one.as_mut()) && begun(two.as_mut()));
    setting.gateway.wait_for(2).await;
    // Of the one that was given a command last.
    setting.tell(OutcomeKind::Answered, r#"[3,"x",{"status":"Rejected"}]"#).await;
    assert_eq!(two.await.unwrap(), Outcome::Answered(r#"{"status":"Rejected"}"#.into()));
    assert!(begun(one.as_mut()), "its own station has said nothing yet");
    assert_eq!(setting.commander.unexpected(), 0);
}

#[tokio::test]
async fn the_gateway_is_given_all_that_it_needs() {
    let setting = setting(Places::connected()).await;
    let options = Options {
        timeout: Duration::from_secs(7),
        lane: Lane::Urgent,
        context: Some("job 7".into()),
        id: Some("mine".into()),
        ..Options::default()
    };
    let (_, ()) = tokio::join!(setting.send(options), setting.tell(OutcomeKind::Busy, ""));
    let command = setting.gateway.all().remove(0);
    assert_eq!(command.body, br#"[2,"command","Reset",{"type":"Soft"}]"#.as_slice());
    let metadata = command.metadata;
    assert_eq!(metadata.kind, Kind::Command);
    assert_eq!(metadata.station, Some(station("CP001")));
    assert_eq!(metadata.action.as_deref(), Some("Reset"));
    assert_eq!(metadata.command_id.as_deref(), Some("mine"));
    assert_eq!(metadata.reply_to.as_deref(), Some("caller-1"));
    assert_eq!(metadata.remaining, Some(Duration::from_secs(7)));
    assert_eq!((metadata.lane, metadata.outbox), (Lane::Urgent, false));
    assert_eq!(metadata.context.as_deref(), Some("job 7"));
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_offline_at_once() {
    let begin = Instant::now();
    let unplugged = setting(Arc::new(Places::default())).await;
    assert_eq!(unplugged.send(Options::default()).await.unwrap(), Outcome::Offline);
    // A stale route: the directory names a gateway that has gone (S06).
    let places = Places::connected();
    *places.gateway.lock().unwrap() = Some("gateway-9".into());
    let stale = setting(places).await;
    assert_eq!(stale.send(Options::default()).await.unwrap(), Outcome::Offline);
    let with_key = Options { key: Some("k".into()), ..Options::default() };
    assert_eq!(stale.send(with_key.clone()).await.unwrap(), Outcome::Offline);
    assert_eq!(stale.send(with_key).await.unwrap(), Outcome::Offline, "and stays so for this key");
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn silence_is_unknown_after_the_limits_of_everybody_else() {
    let setting = setting(Places::connected()).await;
    let begin = Instant::now();
    let options = Options { timeout: Duration::from_secs(10), ..Options::default() };
    assert_eq!(setting.send(options).await.unwrap(), Outcome::Unknown);
    assert_eq!(begin.elapsed(), Duration::from_secs(22));
}

/// S05
#[tokio::test(start_paused = true)]
async fn a_gateway_that_dies_makes_its_commands_unknown_within_seconds() {
    let setting = setting(Places::connected()).await;
    let begin = Instant::now();
    let dies = async {
        setting.gateway.wait_for(1).await;
        setting.places.disconnect();
    };
    let (outcome, ()) = tokio::join!(setting.send(Options::default()), dies);
    assert_eq!(outcome.unwrap(), Outcome::Unknown);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_goes_away_meanwhile_is_no_reason_to_give_up() {
    let setting = setting(Places::connected()).await;
    let goes = async {
        setting.gateway.wait_for(1).await;
        *setting.places.away.lock().unwrap() = true;
        tokio::time::sleep(Duration::from_secs(9)).await;
        setting.tell(OutcomeKind::Answered, r#"[3,"x",{}]"#).await;
    };
    let (outcome, ()) = tokio::join!(setting.send(Options::default()), goes);
    assert_eq!(outcome.unwrap(), Outcome::Answered("{}".into()));
    let next = setting.send(Options::default()).await;
    assert!(matches!(next, Err(CommandError::Locate(_))), "{next:?}");
    assert_eq!(setting.gateway.count(), 1);
}

#[tokio::test]
async fn what_is_no_command_goes_nowhere() {
    let setting = setting(Places::connected()).await;
    for (action, payload) in [
        ("", "{}"),
        ("Reset", "[]"),
        ("Reset", "7"),
        ("Reset", "{"),
        ("Reset", r#"{},"more""#),
        ("Reset", r#"{}],[2,"x","Reset",{}"#),
        ("Reset", "null"),
    ] {
        let (tenant, station) = ("default".into(), station("CP001"));
        let payload = Bytes::from_static(payload.as_bytes());
        let outcome =
            setting.commander.command(&tenant, &station, action, payload.clone(), Options::default()).await;
        assert!(matches!(outcome, Err(CommandError::Malformed(_))), "{action} {payload:?}: {outcome:?}");
    }
    let not_text = Bytes::from_static(b"{\"a\":\"\xff\"}");
    let tenant = "default".into();
    let outcome =
        setting.commander.command(&tenant, &station("CP001"), "Reset", not_text, Options::default()).await;
    assert!(matches!(outcome, Err(CommandError::Malformed(_))), "{outcome:?}");
    assert_eq!(setting.gateway.count(), 0);
}

#[tokio::test]
async fn a_closed_bus_is_an_error_and_no_outcome() {
    let setting = setting(Places::connected()).await;
    setting.bus.close().await;
    let outcome = setting.send(Options::default()).await;
    assert!(matches!(outcome, Err(CommandError::Bus(PublishError::Closed))), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn one_more_than_may_wait_is_busy_and_dropping_one_makes_room() {
    let setting = setting(Places::connected()).await;
    let mut waiting = Vec::new();
    for _ in 0..Commander::IN_FLIGHT_MAX {
        let mut sending = Box::pin(setting.send(Options::default()));
        assert!(begun(sending.as_mut()));
        waiting.push(sending);
    }
    assert_eq!(setting.send(Options::default()).await.unwrap(), Outcome::Busy);
    assert_eq!(setting.gateway.count(), Commander::IN_FLIGHT_MAX);
    waiting.pop();
    let mut sending = Box::pin(setting.send(Options::default()));
    assert!(begun(sending.as_mut()));
}

#[tokio::test(start_paused = true)]
async fn a_key_used_twice_is_one_command_and_both_learn_its_outcome() {
    let setting = setting(Places::connected()).await;
    let options = Options { key: Some("k".into()), ..Options::default() };
    let answers = async {
        setting.gateway.wait_for(1).await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        setting.places.end("k", OutcomeKind::Answered, r#"[3,"x",{"a":1}]"#);
        setting.tell(OutcomeKind::Answered, r#"[3,"x",{"a":1}]"#).await;
    };
    let (first, second, ()) =
        tokio::join!(setting.send(options.clone()), setting.send(options.clone()), answers);
    let expected = Outcome::Answered(r#"{"a":1}"#.into());
    assert_eq!((first.unwrap(), second.unwrap()), (expected.clone(), expected.clone()));
    setting.places.disconnect();
    assert_eq!(setting.send(options).await.unwrap(), expected, "also when the station has gone");
    assert_eq!(setting.gateway.count(), 1);
    assert!(setting.gateway.all()[0].metadata.outbox);
}

#[tokio::test(start_paused = true)]
async fn a_key_names_one_command_however_it_is_spaced_and_no_other() {
    let setting = setting(Places::connected()).await;
    let options = Options { key: Some("k".into()), ..Options::default() };
    let answer = async {
        setting.gateway.wait_for(1).await;
        setting.places.end("k", OutcomeKind::Answered, r#"[3,"x",{}]"#);
        setting.tell(OutcomeKind::Answered, r#"[3,"x",{}]"#).await;
    };
    let (first, ()) = tokio::join!(setting.send(options.clone()), answer);
    assert!(matches!(first, Ok(Outcome::Answered(_))), "{first:?}");
    for (action, payload, is_it) in [
        ("Reset", "{ \"type\": \"Soft\" }", true),
        ("Reset", r#"{"type":"Hard"}"#, false),
        ("Reset", r#"{"type":"So ft"}"#, false),
        ("Reset", r#"{"type":"Soft","a":"\" "}"#, false),
        ("ClearCache", r#"{"type":"Soft"}"#, false),
    ] {
        let tenant = "default".into();
        let station = station("CP001");
        let outcome = setting.commander.command(&tenant, &station, action, payload, options.clone()).await;
        assert_eq!(outcome.is_ok(), is_it, "{action} {payload}: {outcome:?}");
        assert!(is_it || matches!(outcome, Err(CommandError::KeyTaken { .. })), "{outcome:?}");
    }
    assert_eq!(setting.gateway.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn s07_a_key_without_a_time_to_live_waits_for_no_other_connection() {
    let setting = setting(Places::connected()).await;
    let options = Options { key: Some("k".into()), ..Options::default() };
    let leaving = async {
        setting.gateway.wait_for(1).await;
        setting.places.disconnect();
    };
    let begun = Instant::now();
    let (outcome, ()) = tokio::join!(setting.send(options.clone()), leaving);
    assert_eq!(outcome.unwrap(), Outcome::NotSent);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(setting.send(options).await.unwrap(), Outcome::NotSent, "the key's outcome stays");
}

#[tokio::test(start_paused = true)]
async fn a_command_with_a_time_to_live_waits_for_its_station() {
    let setting = setting(Arc::new(Places::default())).await;
    let options =
        Options { time_to_live: Duration::from_secs(600), id: Some("later".into()), ..Options::default() };
    let another_gateway_sends_it = async {
        tokio::time::sleep(Duration::from_secs(300)).await;
        setting.places.end("later", OutcomeKind::Answered, r#"[3,"x",{}]"#);
    };
    let (outcome, ()) = tokio::join!(setting.send(options), another_gateway_sends_it);
    assert_eq!(outcome.unwrap(), Outcome::Answered("{}".into()));
    let kept = setting.places.kept.lock().unwrap();
    let command = &kept["later"].command;
    assert_eq!((&*command.action, &*command.reply_to), ("Reset", "caller-1"));
    assert_eq!(command.payload, br#"{"type":"Soft"}"#.as_slice());
    assert_eq!(command.time_to_live, Duration::from_secs(600));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_waited_too_long_has_expired_and_one_that_was_taken_is_unknown() {
    for (taken, expected) in [(false, Outcome::Expired), (true, Outcome::Unknown)] {
        let setting = setting(Arc::new(Places::default())).await;
        let options =
            Options { time_to_live: Duration::from_secs(60), key: Some("k".into()), ..Options::default() };
        let is_taken = async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            setting.places.kept.lock().unwrap().get_mut("k").unwrap().taken = taken;
        };
        let (outcome, ()) = tokio::join!(setting.send(options), is_taken);
        assert_eq!(outcome.unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_is_cancelled_where_it_waits() {
    let (tenant, id) = (ByteString::from("default"), ByteString::from("mine"));
    // In the outbox: at once, by us.
    let offline = setting(Arc::new(Places::default())).await;
    let options =
        Options { time_to_live: Duration::from_secs(60), id: Some(id.clone()), ..Options::default() };
    let cancel = async {
        tokio::task::yield_now().await;
        offline.commander.cancel(&tenant, &station("CP001"), &id).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(offline.send(options), cancel);
    assert_eq!(outcome.unwrap(), Outcome::Cancelled);
    // At a gateway: it is asked, and says what became of it.
    let connected = setting(Places::connected()).await;
    let options = Options { id: Some(id.clone()), ..Options::default() };
    let cancel = async {
        connected.gateway.wait_for(1).await;
        connected.commander.cancel(&tenant, &station("CP001"), &id).await.unwrap();
        let asked = connected.gateway.wait_for(2).await.remove(1);
        assert_eq!((asked.metadata.kind, asked.body.len()), (Kind::Command, 0));
        assert_eq!(asked.metadata.command_id, Some(id.clone()));
        connected.tell(OutcomeKind::Cancelled, "").await;
    };
    let (outcome, ()) = tokio::join!(connected.send(options), cancel);
    assert_eq!(outcome.unwrap(), Outcome::Cancelled);
    // Nowhere: no fault.
    offline.commander.cancel(&tenant, &station("CP001"), &"other".into()).await.unwrap();
}

#[test]
fn outcomes_are_told_without_payloads() {
    for (outcome, expected) in [
        (Outcome::Answered(r#"{"secret":1}"#.into()), "answered"),
        (refused("NotSupported", "no"), "refused with NotSupported: no"),
        (refused("NotSupported", ""), "refused with NotSupported"),
        (refused("", "odd"), "refused: odd"),
        (Outcome::Offline, "offline: the station is not connected"),
    ] {
        assert_eq!(outcome.to_string(), expected);
    }
}

#[test]
fn every_kind_of_outcome_is_itself() {
    for kind in OutcomeKind::ALL {
        let frame = match kind {
            OutcomeKind::Refused => r#"[4,"x","NotSupported","",{}]"#,
            _ => r#"[3,"x",{}]"#,
        };
        let frame = Bytes::from_static(frame.as_bytes());
        assert_eq!(Outcome::of(kind, &frame, None).kind(), kind);
    }
}
