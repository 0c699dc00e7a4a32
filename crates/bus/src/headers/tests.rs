//! The headers of an envelope, there and back.

use super::*;
use proptest::{collection::vec, option, prelude::*};

fn call() -> Metadata {
    let mut metadata = Metadata::new(Kind::Call);
    metadata.station = Some(StationId::new("CP001", 48).unwrap());
    metadata.version = Some(Version::V16);
    metadata.action = Some("MeterValues".into());
    metadata.connection = Some(ConnectionKey { gateway: "gateway-1".into(), generation: 1_795_341_600_000 });
    metadata.seq = Some(17);
    metadata.received_at_ms = Some(1_795_341_600_123);
    metadata.remaining = Some(Duration::from_secs(25));
    metadata.reply_to = Some("gateway-1".into());
    metadata.attempt = 1;
    metadata
}

fn headers(metadata: &Metadata) -> Vec<(String, String)> {
    let mut all = Vec::new();
    metadata.encode_headers(&mut |name, value| all.push((name.to_owned(), value.to_owned())));
    all
}

fn decode(headers: &[(String, String)]) -> Result<Metadata, HeaderError> {
    Metadata::decode_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

#[test]
fn a_call_has_the_headers_of_the_contract() {
    let expected = "ocpp-envelope: 1\nocpp-kind: call\nocpp-tenant: default\nocpp-station: CP001\n\
        ocpp-version: 1.6\nocpp-action: MeterValues\nocpp-gateway: gateway-1\n\
        ocpp-generation: 1795341600000\nocpp-seq: 17\nocpp-received-at: 2026-11-22T10:00:00.123Z\n\
        ocpp-remaining-ms: 25000\nocpp-reply-to: gateway-1\nocpp-attempt: 1\n";
    let lines: String = headers(&call()).iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    assert_eq!(lines, expected);
}

#[test]
fn order_and_case_of_names_do_not_matter_and_foreign_headers_are_passed_over() {
    let mut all = headers(&call());
    all.reverse();
    all.push(("x-request-id".to_owned(), "7".to_owned()));
    all.push(("OCPP-SOMETHING-NEW".to_owned(), "7".to_owned()));
    for (name, _) in &mut all {
        *name = name.to_ascii_uppercase();
    }
    assert_eq!(decode(&all), Ok(call()));
}

#[test]
fn within_a_process_strings_are_not_copied() {
    let sent = call();
    let received = sent.through_headers().unwrap();
    assert_eq!(received.action.unwrap().as_ptr(), sent.action.unwrap().as_ptr());
}

#[test]
fn what_no_header_can_say_does_not_arrive_within_a_process_either() {
    let mut metadata = call();
    metadata.station = None;
    assert_eq!(metadata.through_headers(), Err(HeaderError::Missing { name: STATION }));
    let mut metadata = call();
    metadata.tenant = ByteString::new();
    assert!(matches!(metadata.through_headers(), Err(HeaderError::Value { name: TENANT, .. })));
    let mut metadata = call();
    metadata.remaining = Some(Duration::from_micros(1_999));
    assert_eq!(metadata.through_headers().unwrap().remaining, Some(Duration::from_millis(1)));
}

#[test]
fn a_fault_names_its_header() {
    let cases = [
        ("ocpp-envelope", Some("2")),
        ("ocpp-kind", Some("calls")),
        ("ocpp-kind", None),
        ("ocpp-tenant", Some("")),
        ("ocpp-station", Some("a/b")),
        ("ocpp-station", None),
        ("ocpp-version", Some("1.5")),
        ("ocpp-gateway", None),
        ("ocpp-generation", Some("-1")),
        ("ocpp-generation", Some("99999999999999999999")),
        ("ocpp-generation", None),
        ("ocpp-seq", Some("+1")),
        ("ocpp-seq", Some("")),
        ("ocpp-received-at", Some("noon")),
        ("ocpp-remaining-ms", Some("1.5")),
        ("ocpp-attempt", Some("4294967296")),
    ];
    for (name, value) in cases {
        let mut all = headers(&call());
        all.retain(|(header, _)| value.is_some() || header != name);
        for (_, old) in all.iter_mut().filter(|(header, _)| header == name) {
            *old = value.unwrap_or_default().to_owned();
        }
        let error = decode(&all).expect_err(name).to_string();
        assert!(error.contains(name), "{name} {value:?}: {error}");
    }
}

#[test]
fn words_that_are_not_in_the_contract_are_refused() {
    for name in
        ["ocpp-registration", "ocpp-outcome", "ocpp-lane", "ocpp-outbox", "ocpp-journal", "ocpp-epoch"]
    {
        let mut all = headers(&call());
        all.push((name.to_owned(), "perhaps".to_owned()));
        let error = decode(&all).expect_err(name);
        assert!(matches!(error, HeaderError::Value { name: at, .. } if at == name), "{error}");
    }
}

#[test]
fn a_header_that_comes_twice_is_refused() {
    for field in Field::ALL {
        let all = [(field.name(), "1"), (field.name(), "1")];
        let outcome = Metadata::decode_headers(all);
        // Where "1" is no value of that header, the first one is refused already.
        assert!(
            matches!(&outcome, Err(HeaderError::Repeated { name } | HeaderError::Value { name, .. })
                if *name == field.name()),
            "{}: {outcome:?}",
            field.name()
        );
    }
}

#[test]
fn no_name_is_longer_than_the_bound_and_all_fit_the_set() {
    assert!(Field::ALL.len() <= 32);
    for field in Field::ALL {
        assert!(field.name().len() <= NAME_BYTES_MAX, "{}", field.name());
        assert!(Field::of(&field.name().to_ascii_uppercase()) == Some(*field));
    }
}

fn text() -> impl Strategy<Value = ByteString> {
    prop_oneof![
        "[ -~]{0,40}".prop_map(ByteString::from),
        "\\PC{0,20}".prop_map(ByteString::from),
        "[\\\\\n\r: na]{0,12}".prop_map(ByteString::from),
    ]
}

fn station() -> impl Strategy<Value = StationId> {
    "[^/\\p{Cc}]{1,40}".prop_map(|id| StationId::new(id, 48).unwrap())
}

prop_compose! {
    fn numbers()(
        seq in option::of(any::<u64>()),
        received_at_ms in option::of(time::RANGE_MS),
        remaining in option::of(any::<u64>().prop_map(Duration::from_millis)),
        attempt in any::<u32>(),
        journal in option::of(any::<u64>()),
        epoch in option::of(any::<u64>()),
        connection in option::of((text(), any::<u64>())),
    ) -> Metadata {
        let mut metadata = Metadata::new(Kind::Call);
        metadata.seq = seq;
        metadata.received_at_ms = received_at_ms;
        metadata.remaining = remaining;
        metadata.attempt = attempt;
        metadata.journal = journal;
        metadata.epoch = epoch;
        metadata.connection = connection.map(|(gateway, generation)| ConnectionKey { gateway, generation });
        metadata
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    use Kind::{Answer, Call, Command, Event, Outcome, Presence, ResultError, Send};
    prop::sample::select(vec![Call, Send, Answer, ResultError, Command, Outcome, Event, Presence])
}

fn registrations() -> impl Strategy<Value = Registration> {
    prop::sample::select(vec![Registration::Accepted, Registration::Pending, Registration::Rejected])
}

prop_compose! {
    fn any_metadata()(
        numbers in numbers(),
        kind in kinds(),
        tenant in "\\PC{1,20}",
        station in station(),
        version in option::of(prop::sample::select(Version::ALL.to_vec())),
        texts in vec(option::of(text()), 7),
        registration in option::of(registrations()),
        outcome in option::of(prop::sample::select(OutcomeKind::ALL.to_vec())),
        urgent in any::<bool>(),
        outbox in any::<bool>(),
    ) -> Metadata {
        let mut texts = texts.into_iter();
        let mut text = || texts.next().flatten();
        Metadata {
            kind,
            tenant: tenant.into(),
            station: (kind != Kind::Presence).then_some(station),
            version,
            action: text(),
            reply_to: text(),
            command_id: text(),
            context: text(),
            worker: text(),
            traceparent: text(),
            tracestate: text(),
            registration,
            outcome,
            lane: if urgent { Lane::Urgent } else { Lane::Normal },
            outbox,
            ..numbers
        }
    }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_as_it_was(metadata in any_metadata()) {
        prop_assert_eq!(&metadata.through_headers(), &Ok(metadata.clone()));
        prop_assert_eq!(decode(&headers(&metadata)), Ok(metadata));
    }

    #[test]
    fn no_value_makes_decoding_panic(field in 0..Field::ALL.len(), value in "\\PC{0,40}") {
        let all = [("ocpp-kind", "presence"), (Field::ALL[field].name(), value.as_str())];
        let _outcome = Metadata::decode_headers(all);
    }
}
