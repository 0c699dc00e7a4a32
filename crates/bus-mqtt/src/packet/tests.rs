//! Our packets, judged by the codec of another.

use super::*;
use proptest::prelude::*;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::{QoS, v5};

const MAX: usize = 1 << 20;

fn message(topic: &str, id: u16, properties: &[u8], payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let place = put_publish(&mut out, Level::V5, topic, properties, payload);
    set_id(&mut out, place, id);
    out
}

proptest! {
    /// Another implementation reads what we publish, and we read what it publishes.
    #[test]
    fn a_message_is_the_same_to_another_implementation(
        topic in "[a-z/%]{1,60}",
        id in 1_u16..,
        headers in prop::collection::vec(("[a-z-]{1,20}", "[ -~é]{0,40}"), 0..20),
        expiry in prop::option::of(any::<u32>()),
        payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut properties = BytesMut::new();
        if let Some(expiry) = expiry {
            properties.put_u8(0x02);
            properties.put_u32(expiry);
        }
        for (name, value) in &headers {
            prop_assert!(put_user_property(&mut properties, name, value));
        }
        let mut out = message(&topic, id, &properties, &payload);
        let v5::Packet::Publish(read) = v5::Packet::read(&mut out.clone(), None).unwrap() else { panic!() };
        prop_assert_eq!((&read.topic[..], read.pkid, read.qos), (topic.as_bytes(), id, QoS::AtLeastOnce));
        prop_assert_eq!(&read.payload[..], &payload[..]);
        let told = read.properties.clone().unwrap_or_default();
        prop_assert_eq!(&told.user_properties, &headers);
        prop_assert_eq!(told.message_expiry_interval, expiry);

        let mut theirs = BytesMut::new();
        read.write(&mut theirs).unwrap();
        prop_assert_eq!(theirs.len(), out.len());
        for bytes in [&mut theirs, &mut out] {
            let Some(Packet::Message(ours)) = take(bytes, Level::V5, MAX).unwrap() else { panic!() };
            prop_assert_eq!((&ours.topic[..], ours.id), (topic.as_str(), Some(id)));
            prop_assert_eq!(&ours.payload[..], &payload[..]);
            let got: Vec<_> = UserProperties(&ours.properties)
                .map(|(name, value)| (String::from_utf8_lossy(name).into(), String::from_utf8_lossy(value).into()))
                .collect();
            prop_assert_eq!(&got, &headers);
            prop_assert!(bytes.is_empty());
        }
    }

    /// Whatever comes is a packet, not one yet, or refused.
    #[test]
    fn nothing_that_comes_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), first in 0_u8..16) {
        for level in [Level::V4, Level::V5] {
            let mut read = BytesMut::from(&bytes[..]);
            if let Some(byte) = read.first_mut() {
                *byte = first << 4 | *byte & 0xf;
            }
            while let Ok(Some(packet)) = take(&mut read, level, 200) {
                if let Packet::Message(message) = packet {
                    let _count = UserProperties(&message.properties).count();
                }
            }
        }
    }

    /// A packet that comes in pieces is one when the last has come.
    #[test]
    fn a_packet_may_come_in_pieces(size in 0_usize..40_000, cut in 1_usize..2_000) {
        let out = message("a/b", 7, &[], &vec![b'x'; size]);
        let mut read = BytesMut::new();
        for (place, piece) in out.chunks(cut).enumerate() {
            read.extend_from_slice(piece);
            let taken = take(&mut read, Level::V5, MAX).unwrap();
            prop_assert_eq!(taken.is_some(), (place + 1) * cut >= out.len());
        }
        prop_assert!(read.is_empty());
    }
}

#[test]
fn what_a_client_says_first_is_understood() {
    let hello = Hello {
        client_id: "switchboard-1",
        keep_alive_seconds: 15,
        user: Some("me"),
        password: Some("secret"),
        receive_max: Some(300),
        packet_bytes_max: 1_000_000,
    };
    let mut out = BytesMut::new();
    put_connect(&mut out, Level::V5, &hello);
    let v5::Packet::Connect(connect, None, Some(login)) = v5::Packet::read(&mut out, None).unwrap() else {
        panic!()
    };
    assert_eq!((&*connect.client_id, connect.keep_alive, connect.clean_start), ("switchboard-1", 15, true));
    assert_eq!((&*login.username, &*login.password), ("me", "secret"));
    let properties = connect.properties.unwrap();
    assert_eq!((properties.receive_maximum, properties.max_packet_size), (Some(300), Some(1_000_000)));
    assert!(out.is_empty());

    put_connect(&mut out, Level::V4, &Hello { user: None, password: None, ..hello });
    let v4::Packet::Connect(connect) = v4::Packet::read(&mut out, MAX).unwrap() else { panic!() };
    assert_eq!((&*connect.client_id, connect.clean_session, connect.login), ("switchboard-1", true, None));
}

#[test]
fn requests_are_understood() {
    let mut out = BytesMut::new();
    put_subscribe(&mut out, Level::V5, 9, ["a/+", "$share/g/b"]);
    put_unsubscribe(&mut out, Level::V5, 10, ["a/+"]);
    put_puback(&mut out, 11);
    put_ping(&mut out);
    let mut packets = Vec::new();
    while !out.is_empty() {
        packets.push(v5::Packet::read(&mut out, None).unwrap());
    }
    let [
        v5::Packet::Subscribe(subscribe),
        v5::Packet::Unsubscribe(unsubscribe),
        v5::Packet::PubAck(ack),
        v5::Packet::PingReq(_),
    ] = &packets[..]
    else {
        panic!("{packets:?}")
    };
    let filters: Vec<_> = subscribe.filters.iter().map(|filter| (&*filter.path, filter.qos)).collect();
    assert_eq!(filters, [("a/+", QoS::AtLeastOnce), ("$share/g/b", QoS::AtLeastOnce)]);
    assert_eq!((subscribe.pkid, unsubscribe.pkid, ack.pkid), (9, 10, 11));
    assert_eq!(unsubscribe.filters, ["a/+"]);

    // The judge does not know this shortest form.
    put_disconnect(&mut out);
    assert_eq!(out.split(), &[0xe0, 0][..]);

    put_subscribe(&mut out, Level::V4, 9, ["a/out"]);
    let v4::Packet::Subscribe(subscribe) = v4::Packet::read(&mut out, MAX).unwrap() else { panic!() };
    assert_eq!((subscribe.pkid, &*subscribe.filters[0].path), (9, "a/out"));
}

#[test]
fn a_brokers_answers_are_read() {
    let mut read = BytesMut::new();
    let told = v5::ConnAckProperties {
        session_expiry_interval: Some(5),
        receive_max: Some(20),
        max_qos: Some(1),
        retain_available: Some(1),
        max_packet_size: Some(4096),
        assigned_client_identifier: Some("x".to_owned()),
        topic_alias_max: Some(10),
        reason_string: Some("because".to_owned()),
        user_properties: vec![("a".to_owned(), "b".to_owned())],
        wildcard_subscription_available: Some(1),
        subscription_identifiers_available: Some(1),
        shared_subscription_available: Some(0),
        server_keep_alive: Some(60),
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    };
    let connack =
        v5::ConnAck { session_present: false, code: v5::ConnectReturnCode::Success, properties: Some(told) };
    v5::Packet::ConnAck(connack).write(&mut read, None).unwrap();
    let mut ack = v5::PubAck::new(3, None);
    ack.reason = v5::PubAckReason::NoMatchingSubscribers;
    v5::Packet::PubAck(ack).write(&mut read, None).unwrap();
    v5::Packet::PubAck(v5::PubAck::new(4, None)).write(&mut read, None).unwrap();
    let refused = v5::SubscribeReasonCode::NotAuthorized;
    let suback = v5::SubAck {
        pkid: 5,
        return_codes: vec![v5::SubscribeReasonCode::Success(QoS::AtLeastOnce), refused],
        properties: None,
    };
    v5::Packet::SubAck(suback).write(&mut read, None).unwrap();
    let limits = Limits {
        receive_max: 20,
        packet_bytes_max: Some(4096),
        keep_alive_seconds: Some(60),
        shared_subscriptions: false,
        qos_max: 1,
    };
    let mut packets = Vec::new();
    while let Some(packet) = take(&mut read, Level::V5, MAX).unwrap() {
        packets.push(packet);
    }
    let expected = [
        Packet::Connected { reason: 0, limits },
        Packet::Published { id: 3, reason: 0x10 },
        Packet::Published { id: 4, reason: 0 },
        Packet::Subscribed { id: 5, reasons: Bytes::from_static(&[1, 0x87]) },
    ];
    assert_eq!(packets, expected);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_read() {
    let mut read = message("a", 1, &[], &[0; 2000]);
    read.truncate(10);
    assert!(take(&mut read, Level::V5, 1000).is_err());
    let mut read = BytesMut::from(&[0x30, 0xff, 0xff, 0xff, 0xff, 1][..]);
    assert!(take(&mut read, Level::V5, MAX).is_err());
}
